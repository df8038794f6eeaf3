"""The command line. Each command is a module of `tinyslm.commands`."""

import importlib
import os
import sys
import warnings

import tinyslm
from tinyslm.commands.loading import download_model
from tinyslm.commands.numeric_warnings import ignore_numeric_warnings
from tinyslm.commands.parser import Parser
from tinyslm.errors import CheckpointWarning, Error

COMMANDS = {
    "compress": "apply compression recipes to a model, and measure size, speed and loss of the results",
    "train": "train a tokenizer and a model on the built-in corpus or on your own text",
    "generate": "continue a prompt, answer a message, or generate the output of an encoder-decoder",
    "chat": "talk to a model that has a chat template",
    "inspect": "print architecture, parameters, memory and multiply-adds of a model, from its shapes",
    "trace": "print tokens, intermediate arrays and attention probabilities of a forward pass",
    "evaluate": "measure loss, distance from the entropy bound, and exam accuracy of a model",
    "embed": "compute sentence embeddings, or their cosine similarities",
    "fill": "predict the mask tokens of a text",
    "export": "write a model for other programs: as GGUF, compressed-tensors or transformers",
    "sweep": "measure a grid of recipes, and print the Pareto frontier of size and loss",
    "corpus": "print documents of the built-in corpus, or statistics of its splits",
    "exercise": "list the exercises, create the stub of one, or work through all of them as a course",
    "grade": "grade a solution, or a directory of solutions, with the library's property tests",
    "grade-tests": "grade property tests by the classic mistakes that they detect",
}


def _show_warning(otherwise):
    """A function for `warnings.showwarning`: prints a CheckpointWarning in one line. otherwise: for other warnings."""

    def show(message, category, *place, **options):
        if issubclass(category, CheckpointWarning):
            print("tinyslm: " + str(message).replace("\n", "\\n"), file=sys.stderr)  # of a file name
        else:
            otherwise(message, category, *place, **options)

    return show


def main(argv: list[str] | None = None) -> int:
    """Run a command; returns the exit status: 0 done, 1 incomplete output, 2 invalid input, 130 interrupted."""
    argv = sys.argv[1:] if argv is None else argv
    if hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(errors="replace")  # print "?" for characters that the terminal cannot encode
    parser = Parser(prog="tinyslm", description="Small language models and their compression, in NumPy and SciPy.")
    version = f"tinyslm {tinyslm.__version__}"
    parser.add_argument("--version", action="version", version=version, help="print the version and exit")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")
    for name, help_text in COMMANDS.items():
        command = commands.add_parser(name, help=help_text, description=help_text[0].upper() + help_text[1:] + ".")
        if name in argv[:1]:  # import only the module of the command that runs, so that help is fast
            module = importlib.import_module(f"tinyslm.commands.{name.replace('-', '_')}")
            module.add_arguments(command)
            command.set_defaults(run=module.run)
    try:
        arguments = parser.parse_args(argv)
        if arguments.command is None:
            parser.print_help()
            return 0
        with warnings.catch_warnings():
            warnings.showwarning = _show_warning(warnings.showwarning)
            ignore_numeric_warnings()
            download_model(arguments)
            status = arguments.run(arguments)
        sys.stdout.flush()
        return status
    except BrokenPipeError:  # the reader of the output has exited, as in `tinyslm ... | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except (Error, OSError) as error:
        message = str(error).replace("\n", "\\n")  # of a file name
        print(f"tinyslm: {message}", file=sys.stderr)
        return 2
    except MemoryError as error:
        print(f"tinyslm: there is not enough memory ({error}); use a smaller model or a shorter text", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("tinyslm: interrupted; complete files are kept", file=sys.stderr)
        return 130
