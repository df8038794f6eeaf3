"""Command-line parser with the options and checks that several commands share."""

import argparse
import math
import textwrap

from tinyslm.checkpoints import atomic_file
from tinyslm.checkpoints.weight_formats import FORMS
from tinyslm.errors import ConfigError
from tinyslm.text.files import DOCUMENT_KINDS
from tinyslm.text.text_source import TOWN

MODEL_HELP = "model directory, GGUF file, id in the local cache of the Hugging Face hub, or built-in model"


class WordFormatter(argparse.HelpFormatter):
    """Wraps help texts between words, never at a hyphen within a word."""

    def _split_lines(self, text, width):
        return textwrap.wrap(" ".join(text.split()), width, break_on_hyphens=False, break_long_words=False)

    def _fill_text(self, text, width, indent):
        return "\n".join(indent + line for line in self._split_lines(text, width - len(indent)))


class Parser(argparse.ArgumentParser):
    """A parser that reports errors as ConfigError, in one line."""

    def __init__(self, **options):
        super().__init__(**{"formatter_class": WordFormatter} | options)

    def error(self, message):
        raise ConfigError(f"{message}; see {self.prog} --help")

    def argument(self, name, help_text, **details):
        """A positional argument, named in capital letters in the help."""
        self.add_argument(name, help=help_text, **{"metavar": name.upper()} | details)

    def option(self, name, default, help_text, metavar=None, **details):
        """An option with a default, which its help shows. The type of the option is the type of the default."""
        if default is not None:
            help_text += f" (default: {default})"
            details = {"type": type(default)} | details
        self.add_argument(name, default=default, help=help_text, metavar=metavar, **details)

    def flag(self, name, help_text):
        """An option without a value."""
        self.add_argument(name, action="store_true", help=help_text)

    def model(self, name="model"):
        """The option --model, or by default the optional argument MODEL: the teacher if not given."""
        details = {} if name.startswith("-") else {"nargs": "?"}
        self.option(name, "teacher", MODEL_HELP, "MODEL", **details)
        self.download()

    def download(self):
        """The option --download, for a command with an argument that names a model."""
        self.flag("--download", "first download what the local cache lacks of MODEL, an id of the Hugging Face hub")

    def text(self, use):
        """The options --text, --documents and --pack: text files of the user."""
        text = f"your own text files, {use}, or {TOWN} for the built-in corpus (default: the text of the model)"
        self.option("--text", None, text, "FILE", nargs="+")
        kinds = "what a document of --text is (default: paragraph; of .jsonl always a line)"
        self.option("--documents", None, kinds, choices=DOCUMENT_KINDS)
        self.flag("--pack", "fill rows with consecutive documents of --text")

    def weights(self):
        """--weights, for models that do not fit in memory as float32."""
        text = (
            "weights in memory: float32 is exact and fast; int8 needs a quarter of the memory; mapped reads them from "
            "the file when needed, exact and slow; stored keeps quantized weights of the file as they are"
        )
        self.option("--weights", "float32", text, "FORM", choices=FORMS)


def check_minimum(arguments, **minimum):
    """Raise ConfigError for an option that is given and below its minimum, or not finite."""
    for name, least in minimum.items():
        value = getattr(arguments, name)
        if value is not None and not least <= value < math.inf:
            raise ConfigError(f"--{name.replace('_', '-')} is {value}, expected at least {least}")


def write_text(path, text):
    """Write a text file atomically, as UTF-8."""
    with atomic_file(path) as file:
        file.write(text.encode())
