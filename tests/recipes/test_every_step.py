"""What holds for every step of a recipe: it repeats bit for bit, sees no token before its time, says how large its
result is in a file, can be recovered from, and at a level of nothing changes nothing."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from tests.checkpoints.models import FAMILY_NAMES
from tests.recipes.families import apply, assert_outputs, calibrated, drawn
from tests.recipes.models import tiny_calibration, tiny_model
from tests.recipes.steps import STEPS, WITHOUT_TRAINING
from tests.strategies import generic_model
from tinyslm.checkpoints import check_savable, save_model
from tinyslm.compression.distillation import soft_target_loss
from tinyslm.errors import ConfigError
from tinyslm.evaluation import footprint
from tinyslm.models import next_token_loss
from tinyslm.ops import IGNORED
from tinyslm.recipes import (
    Distill,
    PruneMagnitude,
    PruneSparseGPT,
    RefitWeights,
    compress,
)
from tinyslm.training import Settings, State, train
from tinyslm.tree import named_arrays

every_step = pytest.mark.parametrize("name", STEPS)


def bits(model):
    return {path: array.tobytes() for path, array in named_arrays(model).items()}


@every_step
def test_the_same_documents_and_seed_give_the_same_bits(name):
    first, second = (compress(tiny_model(), STEPS[name], tiny_calibration(tiny_model()))[0] for _ in range(2))
    assert bits(first) == bits(second) and first.config == second.config
    assert bits(first) != bits(tiny_model())


@every_step
def test_without_calibration_the_result_is_the_same_or_the_step_is_named(name):
    expected, _ = compress(tiny_model(), STEPS[name], replace(tiny_calibration(tiny_model()), seed=0))
    try:
        found, _ = compress(tiny_model(), STEPS[name])
    except ConfigError as problem:
        step, _, rest = str(problem).partition(" ")
        assert rest == "needs calibration documents: compress(model, recipe, Calibration(documents, teacher))"
        position = [type(step).__name__ for step in STEPS[name]].index(step)
        compress(tiny_model(), STEPS[name][:position])  # the steps before it need none
    else:
        assert bits(found) == bits(expected)


@every_step
def test_the_bits_that_are_counted_are_those_of_the_file(tmp_path, name):
    smaller, records = compress(tiny_model(), STEPS[name], tiny_calibration(tiny_model()), check=check_savable)
    save_model(tmp_path / "model", smaller)
    content = (tmp_path / "model" / "model.safetensors").read_bytes()
    header = 8 + int.from_bytes(content[:8], "little")
    assert 8 * (len(content) - header) == footprint(smaller).bits == records[-1]["bits"]


def has_units(config, name):
    """Whether half of these units can go."""
    repeats = config.num_attention_heads // config.num_key_value_heads
    counts = {"layers": config.num_hidden_layers, "heads": repeats, "groups": config.num_key_value_heads}
    return counts.get(name, 2) > 1


@pytest.mark.parametrize("name", WITHOUT_TRAINING)
@settings(max_examples=5)
@given(drawn(FAMILY_NAMES), st.integers(0, 6))
def test_no_token_is_seen_before_its_time(name, case, time):
    """LLM.int8() is the exception: what is an outlier is decided by all tokens of a batch together."""
    assume(has_units(case.config, name))
    case = case._replace(config=replace(case.config, intermediate_size=2 * case.config.intermediate_size))
    model = generic_model(case.config, case.seed)
    smaller, _ = compress(model, WITHOUT_TRAINING[name], calibrated(model))
    rng = np.random.default_rng(case.seed)
    token_ids = rng.integers(0, case.config.vocab_size, (2, 8))
    other = token_ids.copy()
    other[:, time + 1 :] = (other[:, time + 1 :] + rng.integers(1, case.config.vocab_size)) % case.config.vocab_size
    found, wanted = smaller(other), smaller(token_ids)
    np.testing.assert_allclose(found[:, : time + 1], wanted[:, : time + 1], rtol=1e-9, atol=1e-9)
    assert np.max(np.abs(found[:, time + 1 :] - wanted[:, time + 1 :])) > 1e-6


@given(drawn(), st.sampled_from([[PruneSparseGPT(0.0)], [PruneMagnitude(0.0), RefitWeights()]]))
def test_a_level_of_nothing_is_the_identity(case, steps):
    """On the calibration documents: SparseGPT may drop weights whose input is always 0 there."""
    _, found, wanted = apply(case.model(), *steps)
    assert_outputs(found, wanted, rtol=0, atol=0)


@pytest.mark.parametrize("name", [name for name in STEPS if name not in ("smooth", "CSR", "bitmap")])
def test_recovery_brings_the_model_nearer_to_its_teacher(name):
    """Whatever is left to train: all weights, those under a mask, two factors, or only norms and embeddings."""
    model = tiny_model()
    calibration = tiny_calibration(model)
    smaller, _ = compress(model, STEPS[name], calibration)
    recovered, _ = compress(smaller, [Distill(steps=10, learning_rate=1e-3, batch_size=24)], calibration)
    token_ids, labels = calibration.rows()
    before, after = (
        soft_target_loss(each(token_ids), model(token_ids), 1.0, mask=labels != IGNORED)
        for each in (smaller, recovered)
    )
    assert after < before


def test_recovery_on_labels_alone_is_the_plain_training_bit_for_bit():
    model = tiny_model()
    calibration = tiny_calibration(model)
    recovered, _ = compress(model, [Distill(steps=12, soft_weight=0.0, batch_size=5)], calibration)
    settings = Settings(
        steps=12, batch_size=5, learning_rate=1e-3, warmup_steps=1, weight_decay=0.0, seed=calibration.seed
    )
    trained = train(State.start(model, settings), *calibration.rows(), settings, loss_function=next_token_loss).model
    assert bits(recovered) == bits(trained) != bits(model)
