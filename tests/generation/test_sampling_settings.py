"""Drawing from the tokens that top-k keeps, min-p, and the repetition penalty."""

from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.properties.sampling_cases import logit_rows, temperatures
from tests.strategies import generic_model, seeds
from tinyslm.errors import ConfigError, DataError
from tinyslm.generation import generate, next_token_probabilities, sample
from tinyslm.generation.sampling import exclude_improbable, most_probable, penalize_repetition, sampling_weights
from tinyslm.models import DecoderConfig, EncoderDecoderConfig
from tinyslm.ops import Rope

CONFIG = DecoderConfig("test", 23, 10, 14, 2, 4, 2, 6, 20, ropes=(Rope(100.0, 6),) * 2)
PROMPT = np.array([[3, 1, 4, 1, 5], [9, 2, 6, 5, 3]])
top_ks = st.one_of(st.none(), st.integers(1, 12))
top_ps = st.one_of(st.none(), st.floats(0.01, 1))
min_ps = st.one_of(st.none(), st.floats(0, 1))


def distribution(logits, *options):
    """The probability of each token in `sample`: (B, V)."""
    found = np.zeros(logits.shape)
    for row, probabilities in zip(logits, found, strict=True):
        tokens, weights = sampling_weights(row, *options)
        assert np.all(np.diff(tokens) > 0)
        probabilities[tokens] = weights / np.sum(weights)
    return found


@given(logit_rows(), temperatures, top_ks, top_ps)
def test_the_sampled_distribution_is_the_definition(logits, temperature, top_k, top_p):
    """Though `sample` computes it for k tokens only. The logits have ties, within the k tokens and at their end."""
    wanted = next_token_probabilities(logits, temperature, top_k, top_p)
    np.testing.assert_allclose(distribution(logits, temperature, top_k, top_p), wanted, rtol=1e-12)


@given(logit_rows(), temperatures, top_ks, top_ps, min_ps, seeds)
def test_a_seed_draws_the_tokens_of_the_definition(logits, temperature, top_k, top_p, min_p, seed):
    generator = np.random.default_rng(seed)
    probabilities = next_token_probabilities(logits, temperature, top_k, top_p)
    if min_p is not None:
        probabilities = exclude_improbable(probabilities, min_p)
    wanted = [generator.choice(row.size, p=row) for row in probabilities]
    found = sample(logits, np.random.default_rng(seed), temperature, top_k, top_p, min_p)
    np.testing.assert_array_equal(found, wanted)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, np.uint8])
@pytest.mark.parametrize("top_p", [0.1, 0.5, 0.9, 1 - 1e-9, 1.0])
def test_exactly_the_tokens_of_the_definition_are_kept_in_a_large_vocabulary(dtype, top_p):
    """With hundreds of equal logits at the end of the set, and of tokens that are too improbable for a float64."""
    logits = np.round(np.random.default_rng(0).standard_normal((4, 3000)) * [[0.0], [2.0], [9.0], [900.0]], 1) % 256
    logits = logits.astype(dtype)
    definition = next_token_probabilities(logits, 0.7, None, top_p)
    found = distribution(logits, 0.7, None, top_p)
    np.testing.assert_array_equal(found > 0, definition > 0)
    np.testing.assert_allclose(found, definition, rtol=1e-12)


@pytest.mark.parametrize(("number", "token"), [(0.0, 1), (1 - 2**-53, 2)])
def test_the_extreme_random_numbers_do_not_draw_a_token_of_probability_0(number, token):
    """The numbers in [0, 1) of a generator; the first and the last token have probability 0."""
    generator = SimpleNamespace(random=lambda: number)
    np.testing.assert_array_equal(sample(np.array([[-np.inf, 0.1, 0.3, -np.inf]]), generator), [token])


@given(logit_rows(), st.integers(1, 12))
def test_the_most_probable_tokens_are_the_first_of_a_stable_sort(logits, count):
    logits[0, 0] = -np.inf
    wanted = np.sort(np.argsort(-logits, axis=-1, kind="stable")[:, :count], axis=-1)
    np.testing.assert_array_equal(most_probable(logits, count), wanted)


@given(logit_rows(), temperatures, top_ks, top_ps, st.floats(0, 1))
def test_min_p_keeps_the_tokens_with_a_share_of_the_largest_probability(logits, temperature, top_k, top_p, min_p):
    before = next_token_probabilities(logits, temperature, top_k, top_p)
    found = distribution(logits, temperature, top_k, top_p, min_p)
    for p, q in zip(before, found, strict=True):
        kept = (p > 0) & (p >= min_p * p.max())
        np.testing.assert_allclose(q, np.where(kept, p, 0) / p[kept].sum(), rtol=1e-12)


def test_min_p_by_hand():
    found = exclude_improbable(np.array([0.5, 0.25, 0.2, 0.05]), 0.5)
    np.testing.assert_allclose(found, [2 / 3, 1 / 3, 0, 0])


def test_the_penalty_by_hand():
    """Divided where positive, multiplied where negative; once for a token that occurs twice; not for padding."""
    logits = np.array([[2.0, -2.0, 3.0, 0.0]] * 2)
    token_ids = np.array([[0, 1, 1, 3], [2, 0, 0, 0]])
    found = penalize_repetition(logits, token_ids, np.array([[1, 1, 1, 1], [0, 1, 1, 1]]), 2.0)
    np.testing.assert_array_equal(found, [[1, -4, 3, 0], [1, -2, 3, 0]])
    np.testing.assert_array_equal(logits, [[2, -2, 3, 0]] * 2)
    np.testing.assert_array_equal(penalize_repetition(logits, token_ids, None, 2.0), [[1, -4, 3, 0], [1, -2, 1.5, 0]])


@given(seeds, st.floats(0.5, 3))
def test_a_penalized_generation_equals_the_plain_loop(seed, penalty):
    model = generic_model(CONFIG, seed)
    sequence = PROMPT
    for _ in range(8):
        logits = penalize_repetition(model(sequence)[:, -1], sequence, None, penalty)
        sequence = np.append(sequence, np.argmax(logits, axis=-1)[:, None], axis=1)
    np.testing.assert_array_equal(generate(model, PROMPT, 8, repetition_penalty=penalty), sequence[:, 5:])


def test_the_penalty_of_a_padded_row_is_that_of_its_prompt_alone():
    model = generic_model(CONFIG)
    token_ids, mask = np.array([[7, 7, 3, 1, 4], [9, 2, 6, 5, 3]]), np.array([[0, 0, 1, 1, 1], [1] * 5])
    together = generate(model, token_ids, 8, repetition_penalty=5.0, attention_mask=mask)
    np.testing.assert_array_equal(together[:1], generate(model, token_ids[:1, 2:], 8, repetition_penalty=5.0))


def test_the_penalty_of_an_encoder_decoder_counts_its_output_and_not_its_source():
    config = EncoderDecoderConfig("t5", 40, 24, 36, 2, 3, 3, 8, 8, 16, eos_token_id=1)
    model, source = generic_model(config, 3), np.array([[5, 6, 7], [8, 9, 10]])
    output = np.full((2, 1), config.decoder_start_token_id)
    for _ in range(8):
        logits = penalize_repetition(model(source, decoder_token_ids=output)[:, -1], output, None, 4.0)
        output = np.append(output, np.argmax(logits, axis=-1)[:, None], axis=1)
    found = generate(model, source, 8, repetition_penalty=4.0)
    np.testing.assert_array_equal(found, output[:, 1:])
    assert (found != generate(model, source, 8)).any()


def test_a_penalty_of_one_and_a_min_p_of_zero_change_nothing():
    model, options = generic_model(CONFIG), {"temperature": 2.0, "seed": 3}
    free = generate(model, PROMPT, 8, **options)
    np.testing.assert_array_equal(generate(model, PROMPT, 8, repetition_penalty=1, min_p=0, **options), free)


@pytest.mark.parametrize("stop", [None, 4, np.int64(4), {4, 7}, (4, 7), [4], range(4, 6), np.array([4]), np.array(4)])
def test_stop_tokens_in_every_form(stop):
    model = generic_model(CONFIG, seed=1)
    listed = () if stop is None else tuple(np.ravel(np.array(sorted(stop) if isinstance(stop, set) else stop)).tolist())
    options = {"temperature": 3.0, "seed": 0}
    wanted = generate(model, PROMPT, 10, stop_tokens=listed, **options)
    np.testing.assert_array_equal(generate(model, PROMPT, 10, stop_tokens=stop, **options), wanted)
    assert stop is None or (wanted != generate(model, PROMPT, 10, **options)).any()


@pytest.mark.parametrize("stop", ["4", 2.5, ["</s>"], [[1, 2]], [[1], [2, 3]], {"a": 1}, True, [None]])
def test_stop_tokens_that_are_none(stop):
    with pytest.raises(ConfigError, match=r"stop_tokens is .*, expected a token id, several, or None"):
        generate(generic_model(CONFIG), PROMPT, 2, stop_tokens=stop)


def test_no_temperature_is_greedy():
    model = generic_model(CONFIG)
    np.testing.assert_array_equal(generate(model, PROMPT, 8, temperature=None), generate(model, PROMPT, 8))


@pytest.mark.parametrize(
    "options",
    [
        {"temperature": "1"},
        {"top_p": "0.5"},
        {"top_k": "5"},
        {"min_p": -0.1},
        {"min_p": 1.5},
        {"min_p": "x"},
        {"min_p": float("nan")},
        {"repetition_penalty": 0},
        {"repetition_penalty": -1.0},
        {"repetition_penalty": float("inf")},
        {"repetition_penalty": float("nan")},
        {"repetition_penalty": [1.0]},
    ],
)
def test_bad_settings_are_named(options):
    with pytest.raises(ConfigError, match=f"^{next(iter(options))} is "):
        generate(generic_model(CONFIG), PROMPT, 2, **options)


@pytest.mark.parametrize("options", [{}, {"temperature": 1.0}, {"temperature": 1.0, "top_k": 3}])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_generation_names_the_first_tensor_that_is_not_finite(options, value):
    model = generic_model(CONFIG)
    model.layers[1].feed_forward.up.weight[0, 0] = value
    message = r"^the tensor layers\.1\.feed_forward\.up\.weight holds nan or infinity"
    with np.errstate(all="ignore"), pytest.raises(DataError, match=message):
        generate(model, PROMPT, 2, **options)


def test_generation_names_the_first_output_that_is_not_finite():
    """Finite weights: only a product overflows. The prompt of the decoder has padding."""
    decoder = generic_model(CONFIG, dtype=np.float32)
    decoder.norm.weight[:] = 3e38
    config = EncoderDecoderConfig("t5", 40, 24, 36, 2, 3, 3, 8, 8, 16, tie_word_embeddings=False)
    both = generic_model(config, 3, np.float32)
    both.head.weight[:] = 3e38
    mask = np.array([[0, 1, 1, 1, 1], [1] * 5])
    for model, name in ((decoder, r"(hidden_states\.2|logits)"), (both, "logits")):
        message = rf"^the output {name} of the model holds nan or infinity for this text, but its weights are finite"
        with np.errstate(all="ignore"), pytest.raises(DataError, match=message):
            generate(model, PROMPT, 2, attention_mask=mask)
