"""Generation by an encoder-decoder: the plain loop over whole passes, the source read once, and where texts end."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.strategies import encoder_configs, encoder_decoder_configs, generic_model, seeds
from tinyslm import generate
from tinyslm.errors import ConfigError, DataError
from tinyslm.generation import KeyValueCache, stream
from tinyslm.models import EncoderDecoderConfig, random_model
from tinyslm.modules import Linear
from tinyslm.tree import map_modules

CONFIG = EncoderDecoderConfig("test", 23, 10, 14, 2, 3, 3, 4, 8, 9, norm_eps=1e-2, decoder_start_token_id=4)
SOURCE = np.array([[3, 1, 4, 1, 5], [9, 2, 6, 5, 3]])


def greedy_from_scratch(model, source, count, attention_mask=None):
    """The definition: read the source and the whole text again for every new token."""
    text = np.full((len(source), 1), model.config.decoder_start_token_id)
    for _ in range(count):
        logits = model(source, attention_mask, decoder_token_ids=text)  # (B, T, V)
        text = np.append(text, np.argmax(logits[:, -1:], axis=-1), axis=1)
    return text[:, 1:]


@given(encoder_decoder_configs(), seeds, st.integers(1, 10))
def test_cached_generation_equals_recomputation_at_every_step(config, seed, length):
    """12 tokens, so that distances beyond the largest bucket occur."""
    model = generic_model(config, seed)
    source = np.random.default_rng(seed).integers(0, config.vocab_size, (2, length))
    np.testing.assert_array_equal(generate(model, source, 12), greedy_from_scratch(model, source, 12))


@given(encoder_decoder_configs(), seeds)
def test_padded_sources_give_the_text_of_each_alone(config, seed):
    model = generic_model(config, seed)
    source = np.random.default_rng(seed).integers(0, config.vocab_size, (3, 7))
    mask = np.array([[1, 1, 1, 1, 0, 0, 0], [1] * 7, [0, 0, 1, 1, 1, 1, 1]])
    together = generate(model, source, 9, attention_mask=mask)
    np.testing.assert_array_equal(together, greedy_from_scratch(model, source, 9, mask))
    for row, seen in enumerate(mask != 0):
        np.testing.assert_array_equal(together[row : row + 1], generate(model, source[row : row + 1, seen], 9))


@given(encoder_decoder_configs(), seeds)
def test_a_cache_filled_in_pieces_gives_the_logits_of_one_pass(config, seed):
    model, rng = generic_model(config, seed), np.random.default_rng(seed)
    source, text = rng.integers(0, config.vocab_size, (2, 6)), rng.integers(0, config.vocab_size, (2, 8))
    states, cache = model.encode(source), KeyValueCache(8)
    cuts = np.sort(rng.choice(np.arange(1, 8), 3, replace=False))
    parts = [model.decode(part, states, cache=cache) for part in np.split(text, cuts, axis=1)]
    whole = model(source, decoder_token_ids=text)
    np.testing.assert_allclose(np.concatenate(parts, axis=1), whole, rtol=1e-9, atol=1e-9)


def test_a_repeated_cache_continues_every_text_several_times():
    model = generic_model(CONFIG)
    states, cache = model.encode(SOURCE), KeyValueCache(8)
    model.decode(SOURCE, states, cache=cache)
    options = np.random.default_rng(0).integers(0, 23, (2 * 4, 3))
    fourfold = np.repeat(states, 4, axis=0)
    side_by_side = model.decode(options, fourfold, cache=cache.repeat(4))  # (8, 3, V)
    whole = model.decode(np.concatenate([np.repeat(SOURCE, 4, axis=0), options], axis=1), fourfold)
    np.testing.assert_allclose(side_by_side, whole[:, 5:], rtol=1e-9, atol=1e-9)


class CountingLinear(Linear):
    """A Linear that counts the tokens it multiplies, in `counts`."""

    path: str = ""
    counts: object = None

    def __call__(self, x):
        self.counts[self.path] = self.counts.get(self.path, 0) + x.shape[1]
        return super().__call__(x)


def test_the_source_is_read_once_and_every_token_once():
    """5 tokens of a source and 6 new ones, of which the last is never read: the start token and five."""
    counts = {}

    def counting(path, linear):
        return CountingLinear(linear.weight, None, path, counts)

    generate(map_modules(counting, generic_model(CONFIG), Linear), SOURCE, 6)
    for path, count in counts.items():
        of_source = path.startswith("encoder") or path.endswith(("cross_attention.key", "cross_attention.value"))
        assert count == (5 if of_source else 6), path
    assert len(counts) == 2 * (4 + 2) + 3 * (4 + 4 + 2)


def test_sampling_and_streaming_are_those_of_every_model():
    model = generic_model(CONFIG)
    options = {"temperature": 1.5, "top_k": 9, "top_p": 0.9, "seed": 4}
    steps = list(stream(model, SOURCE, 6, **options))
    assert [step.shape for step in steps] == [(2,)] * 6
    np.testing.assert_array_equal(np.stack(steps, axis=1), generate(model, SOURCE, 6, **options))
    others = [generate(model, SOURCE, 6, **options | {"seed": seed}) for seed in (4, 5)]
    np.testing.assert_array_equal(others[0], np.stack(steps, axis=1))
    assert (others[0] != others[1]).any()


def test_a_row_repeats_its_stop_token_and_all_rows_end_the_text():
    model = generic_model(CONFIG)
    options = {"temperature": 3.0, "seed": 0}
    free = generate(model, SOURCE, 12, **options)
    stop = int(free[0, 2])
    stopped = generate(model, SOURCE, 12, stop_tokens=(stop,), **options)
    np.testing.assert_array_equal(stopped[0, :3], free[0, :3])
    assert (stopped[0, 3:] == stop).all() and (free[0, 3:] != stop).any()
    assert len(list(stream(model, SOURCE, 12, stop_tokens=tuple(range(23))))) == 1


@pytest.mark.parametrize(
    ("source", "mask", "message"),
    [
        ([[23]], None, "token id 23 is outside the vocabulary of 23"),
        ([1, 2], None, "token ids must be"),
        ([[]], None, "token ids"),
        ([[1, 2]], [[1, 1, 1]], "attention_mask is"),
    ],
)
def test_bad_sources(source, mask, message):
    with pytest.raises(DataError, match=message):
        generate(random_model(CONFIG), source, 3, attention_mask=mask)


@pytest.mark.parametrize("options", [{"temperature": -1.0}, {"top_k": 0}, {"max_new_tokens": 0}])
def test_bad_options(options):
    with pytest.raises(ConfigError, match=next(iter(options))):
        generate(random_model(CONFIG), SOURCE, **{"max_new_tokens": 3} | options)


@given(encoder_configs())
def test_an_encoder_does_not_generate(config):
    with pytest.raises(ConfigError, match="a test model cannot generate"):
        generate(random_model(config), SOURCE, 3)
