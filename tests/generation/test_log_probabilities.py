"""Log-probabilities of generated tokens: those of transformers, and of the definition."""

import json
from pathlib import Path

import numpy as np
import pytest

from tests.golden import DIRECTORY
from tests.strategies import generic_model
from tinyslm.checkpoints import load_model
from tinyslm.errors import ConfigError
from tinyslm.generation import generate, generate_with_log_probabilities
from tinyslm.generation.decoding_steps import Sampling, Step
from tinyslm.generation.sampling import penalize_repetition
from tinyslm.models import DecoderConfig
from tinyslm.ops import Rope, log_softmax

GOLDEN = json.loads(Path(__file__).with_name("transition_scores.json").read_text())
CONFIG = DecoderConfig("test", 23, 10, 14, 2, 4, 2, 6, 20, ropes=(Rope(100.0, 6),) * 2)
PROMPT = np.array([[3, 1, 4, 1, 5], [9, 2, 6, 5, 3]])


@pytest.fixture(scope="module")
def golden_model():
    return load_model(DIRECTORY / GOLDEN["model"])


def settings_of(case):
    """Settings of this library for those of transformers, where 0 is no top-k."""
    settings = {name: value or None for name, value in case["settings"].items() if name != "do_sample"}
    return settings if case["settings"]["do_sample"] else settings | {"temperature": 0.0}


@pytest.mark.parametrize("name", GOLDEN["cases"])
def test_both_are_those_of_transformers(golden_model, name):
    """The tokens that transformers drew are given, because its random numbers are others."""
    case = GOLDEN["cases"][name]
    sampling = Sampling(**({"temperature": 1.0} | settings_of(case)))
    sequence, tokens = np.array(GOLDEN["prompts"]), np.array(case["tokens"])
    for i in range(tokens.shape[1]):
        logits = golden_model(sequence)[:, -1]
        penalized = penalize_repetition(logits, sequence, None, sampling.repetition_penalty or 1.0)
        step = Step(tokens[:, i], np.zeros(2, bool), logits, penalized, sampling)
        for key in ("log_probabilities", "sampled_log_probabilities"):
            wanted = np.array(case[key])[:, i]
            np.testing.assert_allclose(getattr(step, key)(), wanted, atol=5e-5, err_msg=key)
        sequence = np.append(sequence, tokens[:, i : i + 1], axis=1)


@pytest.mark.parametrize("name", [name for name in GOLDEN["cases"] if "greedy" in name])
def test_a_greedy_generation_is_that_of_transformers(golden_model, name):
    case = GOLDEN["cases"][name]
    tokens = np.array(case["tokens"])
    found = generate_with_log_probabilities(golden_model, GOLDEN["prompts"], tokens.shape[1], **settings_of(case))
    np.testing.assert_array_equal(found.tokens, tokens)
    np.testing.assert_allclose(found.log_probabilities, case["log_probabilities"], atol=5e-5)
    np.testing.assert_allclose(found.sampled_log_probabilities, case["sampled_log_probabilities"], atol=5e-5)


def test_the_sum_is_the_log_probability_of_the_text():
    model, options = generic_model(CONFIG), {"temperature": 1.5, "top_k": 6, "seed": 2}
    found = generate_with_log_probabilities(model, PROMPT, 6, **options)
    np.testing.assert_array_equal(found.tokens, generate(model, PROMPT, 6, **options))
    whole = np.concatenate([PROMPT, found.tokens], axis=1)
    predicted = np.take_along_axis(log_softmax(model(whole[:, :-1])), whole[:, 1:, None], axis=-1)[:, 4:, 0]
    np.testing.assert_allclose(found.log_probabilities, predicted, rtol=1e-9)
    assert found.log_probabilities.dtype == found.sampled_log_probabilities.dtype == np.float64


def test_a_token_that_is_drawn_from_one_is_certain():
    found = generate_with_log_probabilities(generic_model(CONFIG), PROMPT, 6, temperature=1.0, top_k=1)
    np.testing.assert_allclose(found.sampled_log_probabilities, 0, atol=1e-12)
    assert (found.log_probabilities < 0).all()


def test_repeated_stop_tokens_have_probability_one():
    model, options = generic_model(CONFIG, seed=1), {"temperature": 3.0, "seed": 0}
    free = generate_with_log_probabilities(model, PROMPT, 10, **options)
    stop = free.tokens[0, 2]
    found = generate_with_log_probabilities(model, PROMPT, 10, stop_tokens=stop, **options)
    np.testing.assert_array_equal(found.tokens, generate(model, PROMPT, 10, stop_tokens=stop, **options))
    ended = np.cumsum(found.tokens == stop, axis=1) - (found.tokens == stop) > 0
    assert ended[0].sum() >= 7
    for part in (found.log_probabilities, found.sampled_log_probabilities):
        assert part.shape == (2, 10)
        np.testing.assert_array_equal(part == 0, ended)


def test_a_generation_that_ends_early_is_filled():
    model = generic_model(CONFIG, seed=1)
    stop = generate(model, PROMPT[:1], 3)[0, 2]
    found = generate_with_log_probabilities(model, PROMPT[:1], 10, stop_tokens=stop)
    np.testing.assert_array_equal(found.tokens, generate(model, PROMPT[:1], 10, stop_tokens=stop))
    ended = int(np.argmax(found.tokens[0] == stop)) + 1
    assert (found.log_probabilities[0, :ended] < 0).all() and (found.log_probabilities[0, ended:] == 0).all()


def test_options_are_those_of_generate():
    with pytest.raises(ConfigError, match="top_k is 0"):
        generate_with_log_probabilities(generic_model(CONFIG), PROMPT, 2, top_k=0)
    with pytest.raises(TypeError, match="beams"):
        generate_with_log_probabilities(generic_model(CONFIG), PROMPT, 2, beams=2)
