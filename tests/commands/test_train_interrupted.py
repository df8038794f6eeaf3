"""tinyslm train, interrupted by Ctrl-C or SIGTERM: nothing is lost, and the line that resumes is printed."""

import os
import shlex
import signal
import subprocess
import sys
import threading
import time

import pytest

from tests.commands.files import QUICK, assert_one_line, run, write_text
from tests.commands.training_runs import assert_refused, interrupt_after, names, random_text, train_text
from tinyslm.checkpoints import read_safetensors
from tinyslm.commands.interruption import Interruption
from tinyslm.commands.training_progress import Progress

pytestmark = pytest.mark.skipif(os.name == "nt", reason="Windows has no such signals")
LONG = ("--steps", 200, "--checkpoint-seconds", 3600)


@pytest.fixture(autouse=True)
def usual_signals():
    """SIGINT is not ignored, also if the tests run in the background of a shell."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def signal_after(monkeypatch, step, number=signal.SIGINT):
    """A signal while the step after `step` is computed."""
    usual = Progress.__call__

    def signalling(self, state):
        usual(self, state)
        if state.step == step:
            signal.raise_signal(number)

    monkeypatch.setattr(Progress, "__call__", signalling)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("step", [1, 27])
def test_the_last_complete_step_is_saved(tmp_path, capsys, monkeypatch, number, step):
    assert train_text(tmp_path, "--steps", 40, out="whole") == 0
    with monkeypatch.context() as patch:
        signal_after(patch, step, number)
        assert train_text(tmp_path, "--steps", 40, "--checkpoint-seconds", 3600) == 130
    captured = capsys.readouterr()
    assert f"tinyslm: interrupted; step {step + 1} of 40 is saved. Resume with\n" in captured.err
    assert read_safetensors(tmp_path / "model.training" / "state.safetensors")["step"].read()[0] == step + 1
    line = captured.err.splitlines()[-1]
    assert line == f"tinyslm train --out {tmp_path / 'model'} --resume"
    assert run(*shlex.split(line)[1:]) == 0
    for name in ("model.safetensors", "corpus.json", "tokenizer.json"):
        assert (tmp_path / "model" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


def test_a_second_signal_ends_at_once(tmp_path, capsys, monkeypatch):
    """In the middle of the step after the first one; the state of the start is kept."""
    usual = Progress.__call__

    def signalling(self, state):
        if state.step == 5:
            signal.raise_signal(signal.SIGINT)
            signal.raise_signal(signal.SIGINT)
        usual(self, state)

    with monkeypatch.context() as patch:
        patch.setattr(Progress, "__call__", signalling)
        assert train_text(tmp_path, *LONG) == 130
    assert read_safetensors(tmp_path / "model.training" / "state.safetensors")["step"].read()[0] == 0
    assert "tinyslm: interrupted; the last checkpoint is kept. Resume with\n" in capsys.readouterr().err


def test_an_interruption_is_not_lost_on_the_last_step(tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        signal_after(patch, 2)
        assert train_text(tmp_path) == 130
    assert names(tmp_path) == ["model.training", "text.txt"]
    assert run("train", "--resume", "--out", tmp_path / "model") == 0


def test_the_real_program(tmp_path, capsys):
    """One Ctrl-C after the first step; a name with a space is quoted in the line that resumes."""
    out, log = tmp_path / "my model", tmp_path / "log"
    slow = ("--steps", 100_000, "--rate", 1e-6)  # the validation loss falls for a long time: no early end
    arguments = ["train", "--text", write_text(tmp_path), "--out", out, *QUICK, *slow]
    with open(log, "w") as file:
        process = subprocess.Popen([sys.executable, "-m", "tinyslm", *map(str, arguments)], stderr=file)
        while "\nstep 1:" not in log.read_text() and process.poll() is None:
            time.sleep(0.01)
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 130
    lines = log.read_text().splitlines()
    assert lines[-1] == f"tinyslm train --out '{out}' --resume" and "Traceback" not in log.read_text()
    assert read_safetensors(tmp_path / "my model.training" / "state.safetensors")["step"].read()[0] > 0
    assert "stopping after this step" in log.read_text()


def test_a_finished_best_model_survives_interruption(tmp_path, monkeypatch):
    """Interrupted after the best step, which is not trained again."""
    memorize = ("--steps", 600, "--batch", 10, "--rate", 0.01, "--warmup", 50)
    text = write_text(tmp_path, random_text())
    assert train_text(tmp_path, *memorize, text=text, out="whole") == 0
    with monkeypatch.context() as patch:
        signal_after(patch, 150)
        assert train_text(tmp_path, *memorize, text=text) == 130
    assert run("train", "--resume", "--out", tmp_path / "model") == 0
    found, expected = ((tmp_path / name / "model.safetensors").read_bytes() for name in ("model", "whole"))
    assert found == expected


def test_a_training_that_ended_early_is_not_trained_further(tmp_path, monkeypatch):
    """It is interrupted while the model is written."""
    memorize = ("--steps", 600, "--batch", 10, "--rate", 0.01, "--warmup", 50)
    text = write_text(tmp_path, random_text())
    assert train_text(tmp_path, *memorize, text=text, out="whole") == 0
    with monkeypatch.context() as patch:
        patch.setattr("tinyslm.commands.train.write", lambda training: (_ for _ in ()).throw(KeyboardInterrupt))
        assert train_text(tmp_path, *memorize, text=text) == 130
    with monkeypatch.context() as patch:
        patch.setattr("tinyslm.commands.train.train", None)
        assert run("train", "--resume", "--out", tmp_path / "model") == 0
    found, expected = ((tmp_path / name / "model.safetensors").read_bytes() for name in ("model", "whole"))
    assert found == expected


def test_a_missing_or_foreign_best_model_is_refused(tmp_path, capsys, monkeypatch):
    memorize = ("--steps", 600, "--batch", 10, "--rate", 0.01, "--warmup", 50)
    with monkeypatch.context() as patch:
        patch.setattr("tinyslm.commands.train.write", lambda training: (_ for _ in ()).throw(KeyboardInterrupt))
        assert train_text(tmp_path, *memorize, text=write_text(tmp_path, random_text())) == 130
    best = tmp_path / "model.training" / "best.safetensors"
    content = best.read_bytes()
    for damaged, part in ((content[:-9], "truncated"), (None, "no such file")):
        best.unlink() if damaged is None else best.write_bytes(damaged)
        capsys.readouterr()
        assert run("train", "--resume", "--out", tmp_path / "model") == 2
        assert_refused(capsys.readouterr(), "best.safetensors", part)
    assert names(tmp_path) == ["model.training", "text.txt"]


@pytest.mark.parametrize(
    "options",
    [
        ["--steps", "9"],
        ["--seed", "0"],
        ["--rate", "0.1", "--batch", "3"],
        ["--pack"],
        ["--overwrite"],
        ["--text", "a"],
    ],
)
def test_resuming_refuses_options_that_it_would_ignore(tmp_path, capsys, monkeypatch, options):
    with monkeypatch.context() as patch:
        interrupt_after(patch, 1)
        assert train_text(tmp_path) == 130
    capsys.readouterr()
    assert run("train", "--resume", "--out", tmp_path / "model", *options) == 2
    assert_one_line(capsys.readouterr(), "--resume", *(option for option in options if str(option).startswith("--")))
    assert run("train", "--resume", "--out", tmp_path / "model", "--checkpoint-seconds", 5) == 0


def test_signals_are_as_usual_after_the_block():
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    with Interruption() as interruption:
        assert signal.getsignal(signal.SIGINT) != before[0]
        assert not interruption.requested
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before
    with Interruption() as interruption:
        signal.raise_signal(signal.SIGINT)
        assert interruption.requested
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)


def test_an_ignored_signal_is_still_ignored():
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with Interruption() as interruption:
        signal.raise_signal(signal.SIGINT)
        assert not interruption.requested
    assert signal.getsignal(signal.SIGINT) == signal.SIG_IGN


def test_other_threads_are_left_alone():
    requested = []

    def work():
        with Interruption() as interruption:
            requested.append(interruption.requested)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert requested == [False]
