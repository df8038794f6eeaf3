"""What commands print fits the terminal, and no word is broken; in a pipe nothing is wrapped."""

import os
import struct
import sys

import numpy as np
import pytest

from tests.commands.encoders import save_encoder
from tests.commands.files import run
from tests.reporting import results
from tests.strategies import generic_model
from tinyslm import save
from tinyslm.cli import COMMANDS
from tinyslm.commands import corpus
from tinyslm.models.tiny_shapes import llama_shape
from tinyslm.recipes import Quantize
from tinyslm.reporting import format_table
from tinyslm.reporting.frontier import format_frontier
from tinyslm.reporting.plain_text import width

OUTPUTS = {
    "inspect": ("inspect", "gemma-3-1b"),
    "inspect a mixture": ("inspect", "mixtral-8x7b"),
    "inspect an encoder-decoder": ("inspect", "t5-small"),
    "inspect a directory": ("inspect", "DECODER"),
    "inspect --compare": ("inspect", "--compare", "gpt2", "llama-3.2-1b", "mixtral-8x7b", "bert-base", "t5-small"),
    "list of models": ("inspect",),
    "trace": ("trace", "teacher", "Mara took the lantern"),
    "trace an encoder": ("trace", "ENCODER", "the [MASK] saw", "--all"),
    "exercise list": ("exercise", "list"),
    "embed": ("embed", "ENCODER", "TEXTS", "--similarity"),
    "evaluate": ("evaluate", "--town-documents", "3", "--questions", "1"),
    "evaluate --questions": ("evaluate", "--questions", "QUIZ", "--examples", "QUIZ"),
    "fill": ("fill", "ENCODER", "the [MASK] saw the [MASK]"),
}


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """{placeholder of an argument: path}."""
    directory = tmp_path_factory.mktemp("files")
    save_encoder(directory / "encoder")
    save(directory / "decoder", generic_model(llama_shape(60, 16, 24, 3, 2, 1, 40), 0, np.float32))
    texts = directory / "texts.txt"
    texts.write_text("\n".join(f"the {'big ' * (i % 7)}cat saw the dog" for i in range(20)))
    quiz = directory / "questions-about-the-town-and-its-people.csv"
    quiz.write_text(
        "question,subject,A,B,answer\nIs it cold?,the weather of a long winter,yes,no,A\nIs it hot?,,a,b,B\n"
    )
    return {"ENCODER": directory / "encoder", "DECODER": directory / "decoder", "TEXTS": texts, "QUIZ": quiz}


def use_terminal(monkeypatch, columns):
    """Standard output becomes a terminal of this width."""
    monkeypatch.setenv("COLUMNS", str(columns))
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)


def words(text):
    return {word for word in text.split() if "─" not in word}


@pytest.mark.parametrize("arguments", OUTPUTS.values(), ids=OUTPUTS)
def test_output_of_commands(files, capsys, monkeypatch, arguments):
    arguments = [files.get(argument, argument) for argument in arguments]
    printed = []
    for columns in (None, 80, 60):
        if columns:
            use_terminal(monkeypatch, columns)
        assert run(*arguments) == 0
        printed.append(capsys.readouterr().out)
        if columns:
            assert max(map(width, printed[-1].split("\n"))) <= columns
            assert words(printed[-1]) == words(printed[0])


@pytest.mark.parametrize("target", ["gguf", "compressed-tensors", "transformers"])
def test_output_of_export(tmp_path, capsys, monkeypatch, target):
    monkeypatch.chdir(tmp_path)
    model = generic_model(llama_shape(64, 64, 96, 3, 2, 1, 40), 0, np.float32)
    save("model-whose-name-does-not-fit", Quantize(bits=4, group_size=32)(model))
    option = ["--no-tokenizer"] if target == "gguf" else []
    printed = []
    for number, columns in enumerate((None, 80, 60)):
        if columns:
            use_terminal(monkeypatch, columns)
        assert run("export", "model-whose-name-does-not-fit", f"{number}", "--to", target, *option) == 0
        printed.append(capsys.readouterr().out.removeprefix(f"{number}:"))
        if columns:
            assert max(map(width, printed[-1].split("\n"))) <= columns
            assert words(printed[-1]) == words(printed[0])


@pytest.mark.parametrize("command", ["", *COMMANDS])
def test_help(capsys, monkeypatch, command):
    printed = []
    for columns in (300, 80, 60):
        monkeypatch.setenv("COLUMNS", str(columns))
        with pytest.raises(SystemExit):
            run(*([command] if command else []), "--help")
        printed.append(capsys.readouterr().out)
        assert max(map(width, printed[-1].split("\n"))) < columns
        assert words(printed[-1]) == words(printed[0])


def test_digests_of_the_corpus_are_whole_in_80_columns(capsys, monkeypatch):
    monkeypatch.setattr(corpus, "DOCUMENTS", {"train": 20, "test": 10})
    assert run("corpus", "--summary") == 0
    piped = capsys.readouterr().out
    use_terminal(monkeypatch, 80)
    assert run("corpus", "--summary") == 0
    shown = capsys.readouterr().out
    assert max(map(width, shown.split("\n"))) <= 80 and words(shown) == words(piped)


@pytest.mark.parametrize("columns", [80, 60])
@pytest.mark.parametrize("make", results.ALL.values(), ids=results.ALL)
def test_the_table_of_compress(monkeypatch, make, columns):
    piped = format_table(make())
    use_terminal(monkeypatch, columns)
    shown = format_table(make())
    assert max(map(width, shown.split("\n"))) <= columns
    assert words(shown) == words(piped)


def test_the_table_of_sweep(monkeypatch):
    points = [results.sweep_point(f"recipe number {i} with a long name", 10**7 - i, 0.7 + i) for i in range(3)]
    piped = format_frontier(points)
    for columns in (80, 60):
        use_terminal(monkeypatch, columns)
        shown = format_frontier(points)
        assert max(map(width, shown.split("\n"))) <= columns
        assert words(shown) == words(piped)


@pytest.mark.skipif(sys.platform == "win32", reason="pseudo-terminals are of POSIX systems")
def test_the_width_is_that_of_the_terminal(files):
    import fcntl
    import pty
    import termios

    process, terminal = pty.fork()
    if process == 0:
        fcntl.ioctl(1, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 70, 0, 0))
        environment = {name: value for name, value in os.environ.items() if name != "COLUMNS"}
        os.execve(sys.executable, [sys.executable, "-m", "tinyslm", "inspect", "gemma-3-1b"], environment)
    shown = b""
    try:
        while part := os.read(terminal, 1 << 16):
            shown += part
    except OSError:  # the end of the output on Linux
        pass
    os.waitpid(process, 0)
    widest = max(map(width, shown.decode().splitlines()))
    assert 60 < widest <= 70
