"""The command line: one sub-command per thing that people do. Each is a file of `tinyslm.commands`."""

import argparse
import importlib
import os
import sys

from tinyslm.errors import ConfigError, Error

COMMANDS = {
    "compress": "make a model smaller in every way, and show what each way costs",
    "train": "train a tokenizer and a model on the built-in corpus or on your own text",
    "generate": "continue a text",
    "inspect": "show what a model looks like and what it costs, from its shapes alone",
    "trace": "show what happens to a text on its way through a model",
    "evaluate": "measure a model: its loss against the floor, and an exam",
    "embed": "turn texts into vectors, or compare their meaning",
    "fill": "fill in the masked tokens of a text",
    "sweep": "measure a grid of recipes, and show the frontier of size and loss",
    "corpus": "show documents of the built-in corpus, or what its splits contain",
    "exercise": "list the exercises, or make the stub of one",
    "grade": "mark a solution with the project's properties, or a whole folder of them",
    "grade-tests": "mark properties by the classic mistakes that they find",
}


class Parser(argparse.ArgumentParser):
    """A parser whose complaints are of the same kind as all others: one line."""

    def error(self, message):
        raise ConfigError(f"{message}; see {self.prog} --help")


def main(argv=None) -> int:
    """Run a command; returns the exit status: 0 done, 2 the input was wrong, 130 interrupted."""
    argv = sys.argv[1:] if argv is None else argv
    if hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(errors="replace")  # a terminal that cannot show a character shows "?"
    parser = Parser(
        prog="tinyslm", description="A small language model from scratch, and the ways of making it smaller."
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, help_text in COMMANDS.items():
        command = commands.add_parser(name, help=help_text, description=help_text.capitalize() + ".")
        if name in argv[:1]:  # only the module of the command that runs is imported: help stays quick
            module = importlib.import_module(f"tinyslm.commands.{name.replace('-', '_')}")
            module.add_arguments(command)
            command.set_defaults(run=module.run)
    try:
        arguments = parser.parse_args(argv)
        status = arguments.run(arguments)
        sys.stdout.flush()
        return status
    except BrokenPipeError:  # the reader of our output has left, as in `tinyslm ... | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except (Error, OSError) as error:
        print(f"tinyslm: {error}", file=sys.stderr)
        return 2
    except MemoryError as error:
        print(f"tinyslm: there is not enough memory ({error}); use a smaller model or a shorter text", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("tinyslm: interrupted; what was complete is kept", file=sys.stderr)
        return 130
