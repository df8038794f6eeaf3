"""The optimizers in the training loop: the chosen one is used, and resuming is exact with each."""

from dataclasses import replace

import numpy as np
import pytest

from tests.training.tiny import CONFIG, SETTINGS, bits, tiny_model, tiny_rows
from tinyslm.errors import CheckpointError, ConfigError
from tinyslm.runtime import default_threads, use_threads
from tinyslm.training import AdamW, Muon, State, train
from tinyslm.training.checkpoint import restore_state, save_state
from tinyslm.training.loop import OPTIMIZERS
from tinyslm.training.schedule import SCHEDULES

ROWS = tiny_rows()
MUON = replace(SETTINGS, optimizer="muon")
UNTIED = replace(CONFIG, tie_word_embeddings=False)


def test_the_optimizer_of_the_settings():
    assert {"adamw": AdamW, "muon": Muon} == OPTIMIZERS
    for name, kind in OPTIMIZERS.items():
        optimizer = State.start(tiny_model(), replace(SETTINGS, optimizer=name, weight_decay=0.25)).optimizer
        assert type(optimizer) is kind and optimizer.weight_decay == 0.25


def test_muon_orthogonalizes_the_matrices_of_the_blocks_only():
    state = State.start(tiny_model(config=UNTIED), MUON)
    assert set(state.optimizer.matrices) == {
        f"layers.{layer}.{part}.weight"
        for layer in range(2)
        for part in (
            *(f"attention.{name}" for name in ("query", "key", "value", "output")),
            *(f"feed_forward.{name}" for name in ("gate", "up", "down")),
        )
    }


@pytest.mark.parametrize("stop", [1, 4, 11])
def test_muon_resumes_with_the_same_bits(tmp_path, stop):
    path = tmp_path / "state.safetensors"
    whole = train(State.start(tiny_model(), MUON), *ROWS, MUON)
    other = train(State.start(tiny_model(), MUON), *ROWS, replace(MUON, schedule="stable"))

    def save_and_stop(state):
        save_state(path, state)
        if state.step == stop:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(State.start(tiny_model(), MUON), *ROWS, MUON, after_step=save_and_stop)
    state = restore_state(path, State.start(tiny_model(), MUON))
    assert state.step == state.optimizer.steps == state.optimizer.adamw.steps == stop
    train(state, *ROWS, MUON)
    assert bits(state) == bits(whole) != bits(other)
    assert state.losses == whole.losses


def test_a_state_of_the_other_optimizer_is_refused(tmp_path):
    save_state(tmp_path / "state", State.start(tiny_model(), SETTINGS))
    with pytest.raises(CheckpointError, match="second_moment"):
        restore_state(tmp_path / "state", State.start(tiny_model(), MUON))


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_the_schedule_of_the_settings_scales_the_rate(monkeypatch, schedule):
    settings = replace(SETTINGS, schedule=schedule, final_rate=0.25)
    state, rates = State.start(tiny_model(), settings), []
    monkeypatch.setattr(state.optimizer, "step", lambda gradients, rate: rates.append(rate))
    train(state, *ROWS, settings)
    factors = [SCHEDULES[schedule](step, 12, settings.warmup_steps, 0.25) for step in range(12)]
    assert rates == [factor * settings.learning_rate for factor in factors]


def test_muon_reduces_the_loss():
    settings = replace(MUON, steps=60, learning_rate=0.02)
    losses = train(State.start(tiny_model(), settings), *ROWS, settings).losses
    assert np.mean(losses[-10:]) < 0.75 * np.mean(losses[:10])


@pytest.mark.parametrize("name", ["optimizer", "schedule"])
def test_unknown_names_are_refused_before_the_training(name):
    with pytest.raises(ConfigError, match=f"{name} is 'sgd', expected one of"):
        replace(SETTINGS, **{name: "sgd"})


def test_a_step_uses_the_threads_of_the_settings(monkeypatch):
    """Also for a small model: its matrices have few numbers, but an update multiplies them many times."""
    seen = []
    monkeypatch.setattr("tinyslm.training.muon.orthogonalized", lambda x: seen.append(default_threads()) or x)
    parameters = {f"layers.{layer}.weight": np.ones((128, 128), np.float32) for layer in range(2)}
    with use_threads(2):
        Muon(parameters).step(parameters, 0.1)
    assert seen == [1, 1]
