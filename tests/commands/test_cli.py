"""The command line itself: help, exit statuses, and one line for whatever is wrong."""

import os
import subprocess
import sys
import types

import pytest

import tinyslm
from tests.commands.files import assert_one_line, run
from tinyslm import cli
from tinyslm.commands import generate, train
from tinyslm.errors import Error


def command_that(monkeypatch, action):
    """Puts a command in the place of `generate`."""
    module = types.SimpleNamespace(add_arguments=lambda parser: None, run=action)
    monkeypatch.setattr(cli.importlib, "import_module", lambda name: module)


def raising(error):
    def action(arguments):
        raise error

    return action


def test_help_names_every_command(capsys):
    with pytest.raises(SystemExit) as exit_:
        run("--help")
    shown = capsys.readouterr().out
    assert exit_.value.code == 0
    assert all(f"  {name} " in shown for name in ("compress", "train", "generate"))


def test_without_a_command_the_help_is_printed(capsys):
    assert run() == 0
    shown = capsys.readouterr()
    assert shown.out.startswith("usage: tinyslm") and "compress" in shown.out and shown.err == ""


def test_the_version(capsys):
    with pytest.raises(SystemExit) as exit_:
        run("--version")
    assert exit_.value.code == 0 and capsys.readouterr().out == f"tinyslm {tinyslm.__version__}\n"


@pytest.mark.parametrize("module", [train, generate])
def test_the_help_of_a_command_explains_every_option(capsys, module):
    with pytest.raises(SystemExit) as exit_:
        run(module.__name__.rpartition(".")[2], "--help")
    assert exit_.value.code == 0
    assert capsys.readouterr().out.startswith("usage: tinyslm ")
    parser = cli.Parser()
    module.add_arguments(parser)
    for action in parser._actions:
        assert action.help, action.dest
        if action.default not in (None, False, "==SUPPRESS=="):
            assert "default" in action.help, action.dest


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        (("trian",), "invalid choice"),
        (("train", "--steps", "many"), "argument --steps: invalid int value: 'many'"),
        (("train", "--nonsense"), "--nonsense"),
        (("generate",), "TEXT"),
    ],
)
def test_a_command_line_that_cannot_be_read(capsys, arguments, part):
    assert run(*arguments) == 2
    assert_one_line(capsys.readouterr(), part, "--help")


def test_exit_statuses(monkeypatch, capsys):
    command_that(monkeypatch, lambda arguments: 0)
    assert run("generate") == 0
    command_that(monkeypatch, raising(Error("x.txt: is wrong")))
    assert run("generate") == 2
    assert capsys.readouterr().err == "tinyslm: x.txt: is wrong\n"
    command_that(monkeypatch, raising(FileNotFoundError(2, "No such file", "a/b")))
    assert run("generate") == 2
    assert_one_line(capsys.readouterr(), "a/b")
    command_that(monkeypatch, raising(MemoryError("Unable to allocate 5.4 GiB")))
    assert run("generate") == 2
    assert_one_line(capsys.readouterr(), "not enough memory", "5.4 GiB")
    command_that(monkeypatch, raising(KeyboardInterrupt()))
    assert run("generate") == 130
    assert_one_line(capsys.readouterr(), "interrupted")


def test_a_mistake_of_ours_is_not_hidden(monkeypatch):
    command_that(monkeypatch, raising(ZeroDivisionError()))
    with pytest.raises(ZeroDivisionError):
        run("generate")


def test_a_reader_who_leaves_is_no_error():
    """`tinyslm generate ... | head -0`: nobody reads what is printed, which shows when it is flushed."""
    program = """
import sys, types
from tinyslm import cli
command = types.SimpleNamespace(add_arguments=lambda parser: None, run=lambda arguments: print("text") or 0)
cli.importlib = types.SimpleNamespace(import_module=lambda name: command)
sys.exit(cli.main(["generate"]))
"""
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    with subprocess.Popen([sys.executable, "-c", program], env=environment, **pipes) as process:
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait() == 0
