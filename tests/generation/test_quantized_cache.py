"""The cache in one byte per number: near the exact one, the same in pieces as at once, and a quarter of the size."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.strategies import decoder_configs, encoder_decoder_configs, generators, generic_model, seeds
from tinyslm import generate
from tinyslm.compression.quantization import quantize
from tinyslm.errors import ConfigError, DataError
from tinyslm.generation import KeyValueCache, QuantizedKeyValueCache, stream
from tinyslm.models import DecoderConfig, random_model
from tinyslm.ops import Rope

CONFIG = DecoderConfig("test", 23, 10, 14, 2, 4, 2, 6, max_position_embeddings=20, ropes=(Rope(100.0, 6),) * 2)
PROMPT = np.array([[3, 1, 4, 1, 5], [9, 2, 6, 5, 3]])
symmetries = st.booleans()


@given(generators(), symmetries)
def test_what_comes_back_is_off_by_at_most_half_a_step_of_its_head(rng, symmetric):
    cache = QuantizedKeyValueCache(9, symmetric=symmetric)
    sizes = np.exp(2 * rng.standard_normal((3, 9, 2, 1)))  # every token and head its own
    key, value = rng.standard_normal((2, 3, 9, 2, 5)) * sizes + 0.5 * sizes
    pieces = np.split(np.arange(9), np.sort(rng.choice(np.arange(1, 9), 2, replace=False)))
    for piece in pieces:
        for layer in (0, 1):
            found = cache.extend(layer, key[:, piece], value[:, piece] * (1 + layer))
            for wanted, array in zip((key, value * (1 + layer)), found, strict=True):
                wanted = wanted[:, : piece[-1] + 1]
                assert array.shape == wanted.shape and array.dtype == np.float64
                low, high = wanted.min(axis=-1, keepdims=True), wanted.max(axis=-1, keepdims=True)
                largest = np.maximum(-low, high)
                step = largest / 127 if symmetric else (np.maximum(high, 0) - np.minimum(low, 0)) / 255
                assert np.all(np.abs(array - wanted) <= step / 2 * (1 + 1e-9))
                plain = quantize(wanted, group_size=5, symmetric=symmetric).dequantize()
                np.testing.assert_array_equal(array, plain)
        cache.advance(len(piece))
    assert cache.length == 9


@given(decoder_configs(), seeds, symmetries)
def test_filled_in_pieces_it_gives_the_logits_of_one_pass(config, seed, symmetric):
    model, rng = generic_model(config, seed), np.random.default_rng(seed)
    token_ids = rng.integers(0, config.vocab_size, (3, 8))
    whole = model(token_ids, cache=QuantizedKeyValueCache(8, symmetric=symmetric))
    cache, parts = QuantizedKeyValueCache(8, symmetric=symmetric), []
    for part in np.split(token_ids, np.sort(rng.choice(np.arange(1, 8), 3, replace=False)), axis=1):
        parts.append(model(part, cache=cache))  # (B, part, V)
    # a last bit that differs may move a number by one code: most agree to rounding, all to some codes
    difference = np.abs(np.concatenate(parts, axis=1) - whole)
    assert np.median(difference) < 1e-5 and difference.max() < 0.5


@given(decoder_configs(num_experts=0, experts_per_token=0), seeds, symmetries)
def test_the_logits_are_near_those_of_the_exact_cache(config, seed, symmetric):
    """1/254 of a head's largest number, through up to three layers. Not with experts: a token near the border between
    two of them can go to the other one."""
    model = generic_model(config, seed)
    token_ids = np.random.default_rng(seed).integers(0, config.vocab_size, (3, 8))
    exact, rounded = model(token_ids), model(token_ids, cache=QuantizedKeyValueCache(8, symmetric=symmetric))
    assert np.sqrt(np.mean((rounded - exact) ** 2)) < 0.05 * np.std(exact)


@given(encoder_decoder_configs(), seeds, symmetries)
def test_the_source_of_an_encoder_decoder_is_stored_in_bytes_too(config, seed, symmetric):
    model, rng = generic_model(config, seed), np.random.default_rng(seed)
    source, text = rng.integers(0, config.vocab_size, (2, 6)), rng.integers(0, config.vocab_size, (2, 8))
    states, cache = model.encode(source), QuantizedKeyValueCache(8, symmetric=symmetric)
    found = model.decode(text, states, cache=cache)
    exact = model.decode(text, states)
    assert np.sqrt(np.mean((found - exact) ** 2)) < 0.05 * np.std(exact)
    assert len(cache.parts["codes"].source) == config.num_decoder_layers
    assert all(array.dtype == np.int8 for pair in cache.parts["codes"].source.values() for array in pair)


def test_the_source_is_computed_once():
    cache, calls = QuantizedKeyValueCache(4), []

    def compute():
        calls.append(1)
        return tuple(np.random.default_rng(0).standard_normal((2, 2, 3, 2, 5)))

    first, again = cache.keep(0, compute), cache.keep(0, compute)
    assert len(calls) == 1
    for one, other, exact in zip(first, again, compute(), strict=True):
        np.testing.assert_array_equal(one, other)
        np.testing.assert_array_equal(one, quantize(exact, group_size=5).dequantize())


@pytest.mark.parametrize("symmetric", [True, False])
def test_setting_the_length_back_forgets_and_a_repeated_cache_is_a_copy(symmetric):
    model = generic_model(CONFIG)
    cache = QuantizedKeyValueCache(8, symmetric=symmetric)
    model(PROMPT, cache=cache)
    first = model(np.array([[1, 2], [3, 4]]), cache=cache)
    cache.length = 5
    model(np.array([[7, 8, 9], [9, 8, 7]]), cache=cache)
    cache.length = 5
    repeated = cache.repeat(2)
    again = model(np.array([[1, 2], [3, 4]]), cache=cache)
    np.testing.assert_array_equal(again, first)
    assert (cache.length, repeated.length, repeated.capacity) == (7, 5, 8)
    options = np.array([[1, 2], [5, 6], [7, 8], [3, 4]])
    side_by_side = model(options, cache=repeated)
    np.testing.assert_allclose(side_by_side[[0, 3]], first, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("symmetric", "others"), [(True, 4), (False, 5)])
def test_the_bytes_are_one_per_number_and_those_of_the_scales(symmetric, others):
    """Of 2 layers, 2 sequences, 12 tokens, 2 heads of 6: an exact cache has 4 bytes per number."""
    model = generic_model(CONFIG, dtype=np.float32)
    caches = KeyValueCache(12), QuantizedKeyValueCache(12, symmetric=symmetric)
    for cache in caches:
        assert cache.num_bytes() == 0
        model(PROMPT, cache=cache)
        cache.keep(0, lambda: (np.zeros((2, 3, 2, 6), np.float32),) * 2)
    heads = 2 * 2 * 2 * 12 * 2 + 2 * 2 * 3 * 2  # keys and values; then the source
    assert [cache.num_bytes() for cache in caches] == [heads * 6 * 4, heads * (6 + others)]


@given(seeds)
def test_greedy_text_is_the_same_where_the_margins_allow(seed):
    """Up to the first token whose logit leads by less than the cache can change it."""
    model = generic_model(CONFIG, seed)
    exact, rounded = (generate(model, PROMPT, 12, cache=cache) for cache in ("exact", "int8"))
    logits = model(np.append(PROMPT, exact, axis=1)[:, :-1])[:, 4:]  # (B, 12, V)
    second, first = np.moveaxis(np.sort(logits, axis=-1)[..., -2:], -1, 0)
    for row, other, margins in zip(exact, rounded, first - second, strict=True):
        sure = np.argmax(np.append(margins, 0) < 0.3)
        np.testing.assert_array_equal(row[:sure], other[:sure])


def test_generation_really_uses_it():
    """longrope makes a new cache on the way: of the same kind."""
    rope = Rope(100.0, 6, "longrope", original_length=7, short_factors=(1.0,) * 3, long_factors=(2.0,) * 3)
    kinds = []

    class Watching:
        def __init__(self, config):
            self.model, self.config = generic_model(config), config
            self.check_inputs = self.model.check_inputs

        def __call__(self, *inputs, cache, **options):
            kinds.append(cache)
            return self.model(*inputs, cache=cache, **options)

    watching = Watching(DecoderConfig("test", 23, 10, 14, 2, 4, 2, 6, 20, ropes=(None, rope)))
    for name, kind in (("exact", KeyValueCache), ("int8", QuantizedKeyValueCache)):
        kinds.clear()
        found = generate(watching, PROMPT, 5, cache=name)
        assert {type(cache) for cache in kinds} == {kind} and len({id(cache) for cache in kinds}) == 2
        np.testing.assert_array_equal(np.stack(list(stream(watching, PROMPT, 5, cache=name)), axis=1), found)


def test_bad_uses():
    with pytest.raises(ConfigError, match="cache is 'int4', expected one of exact, int8"):
        generate(random_model(CONFIG), PROMPT, 2, cache="int4")
    with pytest.raises(DataError, match="5 tokens does not fit in a cache made for 4"):
        random_model(CONFIG)(PROMPT, cache=QuantizedKeyValueCache(4))
