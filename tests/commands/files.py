"""A text, and the options of a training on it that takes a fraction of a second."""

from tinyslm.cli import main

TEXT = "\n\n".join(f"The {a} cat saw the {b} dog and ran home." for a in ("old", "big", "shy") for b in "abcdefg")
QUICK = (
    *("--shape", "smallest", "--vocabulary", "280", "--context", "24"),
    *("--steps", "3", "--batch", "4", "--warmup", "1", "--threads", "2"),
)


def write_text(directory, text=TEXT, name="text.txt"):
    """A file with a text (or bytes); returns its path."""
    path = directory / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def run(*arguments):
    """The exit status of `tinyslm` with these arguments."""
    return main([str(argument) for argument in arguments])


def assert_one_line(captured, *parts):
    """Standard error is one line of the command with these parts, and there is no traceback."""
    assert captured.err.startswith("tinyslm: ")
    assert captured.err.count("\n") == 1 and captured.err.endswith("\n")
    for part in parts:
        assert str(part) in captured.err


def output(capsys, *arguments):
    """Standard output of `tinyslm generate` with these arguments, which must succeed."""
    assert run("generate", *arguments) == 0
    captured = capsys.readouterr()
    assert captured.err == ""
    return captured.out
