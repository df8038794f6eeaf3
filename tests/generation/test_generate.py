"""Generation equals the plain loop "compute everything, take the next token", whatever the cache and padding do."""

from unittest import mock

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.strategies import decoder_configs, generic_model, seeds
from tinyslm.errors import ConfigError, DataError
from tinyslm.generation import KeyValueCache, decoding_state, end_tokens, generate, stream
from tinyslm.generation.sampling import next_token_probabilities
from tinyslm.models import DecoderConfig, random_model
from tinyslm.ops import Rope

CONFIG = DecoderConfig("test", 23, 10, 14, 2, 4, 2, 6, max_position_embeddings=20, ropes=(Rope(100.0, 6),) * 2)
PROMPT = np.array([[3, 1, 4, 1, 5], [9, 2, 6, 5, 3]])


def greedy_without_cache(model, token_ids, count, attention_mask=None):
    """The definition: recompute the whole sequence for every new token."""
    sequence = token_ids
    for _ in range(count):
        logits = model(sequence, attention_mask)  # (B, T, V)
        sequence = np.append(sequence, np.argmax(logits[:, -1:], axis=-1), axis=1)
        if attention_mask is not None:
            attention_mask = np.pad(attention_mask, ((0, 0), (0, 1)), constant_values=1)
    return sequence[:, token_ids.shape[1] :]


@given(decoder_configs(), seeds, st.integers(1, 10))
def test_cached_generation_equals_recomputation_at_every_step(config, seed, length):
    """12 steps from prompts of 1 to 10 tokens: windows are left behind and longrope's change (at 8) is crossed."""
    model = generic_model(config, seed)
    token_ids = np.random.default_rng(seed).integers(0, config.vocab_size, (2, length))
    np.testing.assert_array_equal(generate(model, token_ids, 12), greedy_without_cache(model, token_ids, 12))


@given(decoder_configs(), seeds)
def test_a_cache_filled_in_pieces_gives_the_logits_of_one_pass(config, seed):
    model = generic_model(config, seed)
    rng = np.random.default_rng(seed)
    token_ids = rng.integers(0, config.vocab_size, (3, 8))  # not beyond longrope's change, which no cache survives
    cache, parts = KeyValueCache(8), []
    for part in np.split(token_ids, np.sort(rng.choice(np.arange(1, 8), 3, replace=False)), axis=1):
        parts.append(model(part, cache=cache))  # (B, part, V)
    # relative to float64: the last bit of cos and sin (float32) may differ between long and short arrays
    np.testing.assert_allclose(np.concatenate(parts, axis=1), model(token_ids), rtol=1e-5, atol=1e-5)


@given(decoder_configs(ropes=()), seeds)
def test_left_padded_rows_equal_each_prompt_alone(config, seed):
    model = generic_model(config, seed)
    rng = np.random.default_rng(seed)
    token_ids = rng.integers(0, config.vocab_size, (3, 7))
    starts = np.array([0, 2, 5])
    mask = (np.arange(7) >= starts[:, None]).astype(int)
    together = generate(model, token_ids, 9, attention_mask=mask)
    np.testing.assert_array_equal(together, greedy_without_cache(model, token_ids, 9, mask))
    for row, start in enumerate(starts):
        alone = generate(model, token_ids[row : row + 1, start:], 9)
        np.testing.assert_array_equal(together[row : row + 1], alone)


@given(st.sampled_from(["default", "longrope"]), seeds)
def test_left_padding_with_rotary_positions(scaling, seed):
    """longrope counts real tokens, not slots: both rows have 3 and cross at the same step."""
    rope = Rope(100.0, 6, scaling, 1.0, 1.0, 4.0, 6, (1.0, 1.5, 2.0), (2.0, 4.0, 8.0), 1.2)
    model = generic_model(DecoderConfig("test", 23, 10, 14, 2, 4, 2, 6, 40, ropes=(rope, rope)), seed)
    token_ids = np.array([[0, 0, 3, 1, 4], [0, 0, 9, 2, 6]])
    mask = np.array([[0, 0, 1, 1, 1]] * 2)
    together = generate(model, token_ids, 10, attention_mask=mask)
    np.testing.assert_array_equal(together, generate(model, token_ids[:, 2:], 10))


@given(seeds)
def test_longrope_follows_the_longest_row_of_a_batch(seed):
    """The row of 5 real tokens crosses the change at 6, the row of 2 does not."""
    rope = Rope(100.0, 6, "longrope", 1.0, 1.0, 4.0, 6, (1.0, 1.5, 2.0), (2.0, 4.0, 8.0), 1.2)
    model = generic_model(DecoderConfig("test", 23, 10, 14, 2, 4, 2, 6, 40, ropes=(rope, rope)), seed)
    token_ids = np.array([[0, 0, 0, 3, 1], [9, 2, 6, 4, 7]])
    mask = np.array([[0, 0, 0, 1, 1], [1] * 5])
    found = generate(model, token_ids, 15, attention_mask=mask)
    np.testing.assert_array_equal(found, greedy_without_cache(model, token_ids, 15, mask))


def test_every_pass_after_the_prompt_reads_one_token_and_longrope_reads_all_once_more():
    """The work done: T tokens, then one per step; with longrope all of them once when its factors change."""
    rope = Rope(100.0, 6, "longrope", original_length=7, short_factors=(1.0,) * 3, long_factors=(2.0,) * 3)

    class Counting:
        def __init__(self, config):
            self.model, self.config, self.read = generic_model(config), config, []
            self.check_inputs = self.model.check_inputs

        def __call__(self, token_ids, attention_mask, **options):
            assert attention_mask is None  # the prompts have no padding
            self.read.append(token_ids.shape[1])
            logits = self.model(token_ids, attention_mask, **options)
            assert logits.shape == (2, 1, 23)  # of the last position only
            return logits

    for ropes, expected in (((Rope(100.0, 6),) * 2, [5, 1, 1, 1, 1]), ((None, rope), [5, 1, 1, 8, 1])):
        counting = Counting(DecoderConfig("test", 23, 10, 14, 2, 4, 2, 6, 20, ropes=ropes))
        generate(counting, PROMPT, 5)
        assert counting.read == expected


@given(decoder_configs(), seeds, st.integers(1, 4), st.booleans())
def test_a_prompt_read_in_pieces_is_continued_like_one_read_at_once(config, seed, size, with_padding):
    """Windows, padding and longrope, whose frequencies follow the length of the whole prompt."""
    model = generic_model(config, seed)
    rng = np.random.default_rng(seed)
    token_ids = rng.integers(0, config.vocab_size, (3, 11))
    starts = rng.integers(0, 8, 3) if with_padding and config.ropes else np.zeros(3, int)
    mask = (np.arange(11) >= starts[:, None]).astype(int) if with_padding else None
    with mock.patch.object(decoding_state, "PROMPT_CHUNK", size):
        found = generate(model, token_ids, 5, attention_mask=mask)
    np.testing.assert_array_equal(found, generate(model, token_ids, 5, attention_mask=mask))


def test_a_prompt_is_read_in_pieces_of_1024_tokens_and_only_the_last_makes_logits(monkeypatch):
    assert decoding_state.PROMPT_CHUNK == 1024
    monkeypatch.setattr(decoding_state, "PROMPT_CHUNK", 2)
    model, read = generic_model(CONFIG), []
    predict = type(model).predict
    monkeypatch.setattr(type(model), "predict", lambda self, states: read.append(states.shape) or predict(self, states))
    generate(model, PROMPT, 2, cache="int8")  # without an engine, which has its own output layer
    assert read == [(2, 1, CONFIG.hidden_size)] * 2


def test_a_repeated_cache_continues_every_prompt_several_times():
    """The logits of four continuations side by side are those of four separate sequences."""
    model = generic_model(CONFIG)
    options = np.random.default_rng(0).integers(0, 23, (2 * 4, 3))
    cache = KeyValueCache(8)
    model(PROMPT, cache=cache)
    side_by_side = model(options, cache=cache.repeat(4))  # (8, 3, V)
    whole = model(np.concatenate([np.repeat(PROMPT, 4, axis=0), options], axis=1))
    np.testing.assert_allclose(side_by_side, whole[:, 5:], rtol=1e-5, atol=1e-5)
    assert cache.length == 5  # the repeated cache is a copy


@given(seeds, st.integers(1, 3))
def test_a_repeated_cache_holds_every_row_several_times_in_a_row(seed, times):
    """Keys, values, and both arrays of a source, of every layer."""
    rng, cache = np.random.default_rng(seed), KeyValueCache(4)
    new = {layer: rng.standard_normal((2, 2, 3, 2, 5)) for layer in (0, 2)}
    sources = {layer: tuple(rng.standard_normal((2, 2, 6, 2, 5))) for layer in (0, 1)}
    for layer, pair in new.items():
        cache.extend(layer, *pair)
    for layer, pair in sources.items():
        assert cache.keep(layer, lambda pair=pair: pair) is pair
    cache.advance(3)
    repeated = cache.repeat(times)
    rows = [row for row in range(2) for _ in range(times)]
    assert (repeated.length, repeated.capacity) == (3, 4)
    assert (
        repeated.num_bytes() == times * cache.num_bytes() == 8 * times * (2 * 2 * 2 * 4 * 2 * 5 + 2 * 2 * 2 * 6 * 2 * 5)
    )
    for layer, pair in new.items():
        np.testing.assert_array_equal(repeated.keys[layer][..., :3], pair[0][rows].transpose(0, 2, 3, 1))
        np.testing.assert_array_equal(repeated.values[layer][:, :, :3], pair[1][rows].transpose(0, 2, 1, 3))
    for layer, pair in sources.items():
        for found, wanted in zip(repeated.source[layer], pair, strict=True):
            np.testing.assert_array_equal(found, wanted[rows])


def test_setting_the_length_back_forgets():
    model = generic_model(CONFIG)
    cache = KeyValueCache(8)
    model(PROMPT, cache=cache)
    first = model(np.array([[1, 2], [3, 4]]), cache=cache)
    cache.length = 5
    model(np.array([[7, 8, 9], [9, 8, 7]]), cache=cache)
    cache.length = 5
    np.testing.assert_array_equal(model(np.array([[1, 2], [3, 4]]), cache=cache), first)


def test_a_full_cache_refuses():
    cache = KeyValueCache(4)
    with pytest.raises(DataError, match="5 tokens does not fit in a cache made for 4"):
        generic_model(CONFIG)(PROMPT, cache=cache)


def test_the_cache_has_the_dtype_of_the_model():
    for dtype in (np.float32, np.float64):
        cache = KeyValueCache(5)
        generic_model(CONFIG, dtype=dtype)(PROMPT, cache=cache)
        assert {array.dtype for store in (cache.keys, cache.values) for array in store.values()} == {np.dtype(dtype)}
        assert cache.keys[0].shape == (2, 2, 6, 5)  # (B, G, D, capacity)
        assert cache.values[0].shape == (2, 2, 5, 6)  # (B, G, capacity, D)


def test_the_stream_is_the_generation_step_by_step():
    model = generic_model(CONFIG)
    options = {"temperature": 1.5, "top_k": 9, "top_p": 0.9, "seed": 4}
    steps = list(stream(model, PROMPT, 6, **options))
    assert [step.shape for step in steps] == [(2,)] * 6
    np.testing.assert_array_equal(np.stack(steps, axis=1), generate(model, PROMPT, 6, **options))


def test_the_seed_decides():
    model = generic_model(CONFIG)
    first, again, other = (generate(model, PROMPT, 12, temperature=2.0, seed=seed) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()


def test_a_row_repeats_its_stop_token_and_the_others_go_on():
    model = generic_model(CONFIG)
    options = {"temperature": 3.0, "seed": 0}
    free = generate(model, PROMPT, 12, **options)
    stop = int(free[0, 2])
    assert (free[0, 3:] != stop).any()
    where = [np.flatnonzero(row == stop) for row in free]
    stopped = generate(model, PROMPT, 12, stop_tokens=(stop,), **options)
    for row, free_row, positions in zip(stopped, free, where, strict=True):
        end = positions[0] if len(positions) else 12
        np.testing.assert_array_equal(row[:end], free_row[:end])
        assert (row[end:] == stop).all()


def test_the_stream_ends_when_every_row_has_stopped_and_a_prompt_does_not_count():
    model = generic_model(CONFIG, seed=3)
    everything = tuple(range(23))
    assert len(list(stream(model, PROMPT, 12, stop_tokens=everything))) == 1
    repeated = generate(model, PROMPT, 4, stop_tokens=everything)
    np.testing.assert_array_equal(repeated, np.repeat(generate(model, PROMPT, 1), 4, axis=1))


def test_rows_that_stopped_at_different_steps_repeat_their_own_token():
    """Generation ends when the last row has stopped. The steps that remain repeat the last one."""
    model, options = generic_model(CONFIG), {"temperature": 3.0, "seed": 0}
    free = generate(model, PROMPT, 12, **options)
    stops = (int(free[0, 1]), int(free[1, 4]))
    ends = [int(np.flatnonzero(np.isin(row, stops))[0]) for row in free]
    assert len(set(ends)) == 2 and max(ends) < 10 and free[0, ends[0]] != free[1, ends[1]]
    for stop_tokens in (stops, list(stops), np.array(stops)):
        stopped = generate(model, PROMPT, 12, stop_tokens=stop_tokens, **options)
        wanted = [np.append(row[:end], [row[end]] * (12 - end)) for row, end in zip(free, ends, strict=True)]
        np.testing.assert_array_equal(stopped, wanted)
        assert len(list(stream(model, PROMPT, 12, stop_tokens=stop_tokens, **options))) == max(ends) + 1


def test_what_the_caller_does_with_a_step_does_not_change_the_next():
    model, wanted = generic_model(CONFIG), generate(generic_model(CONFIG), PROMPT, 6)
    for step, tokens in enumerate(stream(model, PROMPT, np.int64(6))):
        np.testing.assert_array_equal(tokens, wanted[:, step])
        tokens[:] = 0


def test_end_tokens_are_always_a_tuple():
    assert [end_tokens(random_config(eos)) for eos in (None, 0, (2, 7))] == [(), (0,), (2, 7)]


def random_config(eos):
    return DecoderConfig("test", 23, 10, 14, 1, 2, 1, 6, 20, eos_token_id=eos)


def test_the_whole_context_can_be_used_and_not_more():
    """The last new token is never read: 20 positions hold a prompt of 5 and 15 of 16 new tokens."""
    model = random_model(CONFIG)
    assert generate(model, PROMPT, 16).shape == (2, 16)
    with pytest.raises(DataError, match="5 tokens and 17 new ones do not fit in the model's context of 20"):
        generate(model, PROMPT, 17)


@settings(max_examples=10)
@given(st.sampled_from([0, -3, 2.5, None]))
def test_a_bad_number_of_tokens(count):
    with pytest.raises(ConfigError, match="max_new_tokens"):
        generate(random_model(CONFIG), PROMPT, count)


@pytest.mark.parametrize(
    "options",
    [
        {"temperature": -1.0},
        {"temperature": float("nan")},
        {"top_k": 0},
        {"top_k": 1.5},
        {"top_p": 0.0},
        {"top_p": 1.1},
        {"temperature": float("inf")},
        {"temperature": -1e-9},
        {"top_k": -2},
        {"top_p": -0.5},
        {"top_p": float("nan")},
        {"seed": -1},
        {"seed": 1.5},
        {"seed": "1"},
    ],
)
def test_bad_options_are_named_before_anything_is_computed(options):
    with pytest.raises(ConfigError, match=next(iter(options))):
        generate(random_model(CONFIG), PROMPT, 3, **options)
    if "seed" not in options:
        with pytest.raises(ConfigError, match=next(iter(options))):
            next_token_probabilities(np.zeros((1, 3)), **options)


@pytest.mark.parametrize(
    "options",
    [
        {"temperature": 0.5, "seed": 0},
        {"temperature": 1e-300, "seed": np.int64(3)},
        {"temperature": 1e300, "top_k": 1, "seed": np.uint8(0)},
        {"temperature": 1, "top_k": np.int32(30), "top_p": 1},
        {"temperature": np.float32(0.7), "top_p": 1e-300},
    ],
)
def test_the_ends_of_every_range_are_valid(options):
    assert generate(random_model(CONFIG), PROMPT, 2, **options).shape == (2, 2)


@pytest.mark.parametrize(
    ("prompt", "mask", "message"),
    [
        ([[23]], None, "token id 23 is outside the vocabulary of 23"),
        ([1, 2], None, "token ids must be"),
        ([[]], None, "token ids"),
        ([[1, 2]], [[1, 1, 1]], "attention_mask is"),
        ([[1, 2]], [[1, 0]], "padded on the left"),
        ([[1, 2], [3, 4], [5, 6]], [[1, 1], [1, 0], [0, 1]], "padded on the left"),
    ],
)
def test_bad_prompts(prompt, mask, message):
    with pytest.raises(DataError, match=message):
        generate(random_model(CONFIG), prompt, 3, attention_mask=mask)
