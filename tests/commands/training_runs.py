"""Runs of `tinyslm train` in this process that take a fraction of a second."""

import random

from tests.commands.files import QUICK, run, write_text
from tinyslm.commands.training_progress import Progress


def names(directory):
    return sorted(path.name for path in directory.iterdir())


def train_text(tmp_path, *options, out="model", text=None):
    return run("train", "--text", text or write_text(tmp_path), "--out", tmp_path / out, *QUICK, *options)


def assert_refused(captured, *parts):
    """The last line on standard error is the only one of the command, with these parts. Lines of progress precede."""
    *progress, last = captured.err.splitlines()
    assert not any(line.startswith("tinyslm: ") for line in progress)
    assert last.startswith("tinyslm: ") and "Traceback" not in captured.err
    for part in parts:
        assert str(part) in last


def interrupt_after(monkeypatch, steps):
    """Ctrl-C after so many steps, each followed by a checkpoint."""
    usual = Progress.__call__

    def interrupting(self, state):
        try:
            usual(self, state)
        finally:
            if state.step == steps:
                raise KeyboardInterrupt

    monkeypatch.setattr(Progress, "__call__", interrupting)


def random_text(paragraphs=60, words=12, seed=0):
    """Random words: a model can memorize them, and predict others only by how frequent they are."""
    rng = random.Random(seed)
    vocabulary = ["".join(rng.choices("abcdefghijklmnop", k=5)) for _ in range(40)]
    return "\n\n".join(" ".join(rng.choices(vocabulary, k=words)) for _ in range(paragraphs))
