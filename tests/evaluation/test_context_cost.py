"""What grows with the context, against a cache that was filled and probabilities that were computed."""

from dataclasses import replace

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from tests.strategies import decoder_configs, encoder_configs, encoder_decoder_configs
from tinyslm import trace
from tinyslm.evaluation.context_cost import attention_multiply_adds, cached_numbers
from tinyslm.generation.cache import KeyValueCache
from tinyslm.models import random_model, shape_model

LENGTHS = st.integers(1, 12)


@given(config=decoder_configs(), length=LENGTHS)
def test_a_cache_holds_the_keys_and_values_of_all_tokens_that_can_be_seen(config, length):
    without_windows = replace(config, windows=())
    model, cache = random_model(without_windows), KeyValueCache(length)
    model(np.zeros((1, length), int), cache=cache)
    held = sum(array.size for store in (cache.keys, cache.values) for array in store.values())
    assert cached_numbers(shape_model(without_windows), length) == held
    assert cached_numbers(model, 1) * length == held
    one_layer = held // config.num_hidden_layers // length
    seen = sum(min(length, window or length) for window in config.windows)
    assert cached_numbers(shape_model(config), length) == seen * one_layer


@given(config=encoder_decoder_configs(), length=LENGTHS)
def test_a_cache_of_an_encoder_decoder(config, length):
    """As many tokens written as there are in the source."""
    model, cache, tokens = random_model(config), KeyValueCache(length), np.zeros((1, length), int)
    model.decode(tokens, model.encode(tokens), cache=cache)
    held = sum(array.size for store in (cache.keys, cache.values) for array in store.values())
    held += sum(array.size for pair in cache.source.values() for array in pair)
    assert cached_numbers(shape_model(config), length) == held


@given(config=encoder_configs(), length=LENGTHS)
def test_an_encoder_keeps_nothing(config, length):
    assert cached_numbers(shape_model(config), length) == 0


@given(config=decoder_configs() | encoder_configs() | encoder_decoder_configs(), length=LENGTHS)
def test_the_products_of_attention_are_two_per_probability_and_dimension(config, length):
    """Of the last token, whose probabilities are 0 for what it does not see, and only there."""
    model, tokens = random_model(config, deviation=0.01), np.zeros((1, length), int)
    inputs = {"decoder_token_ids": tokens} if config.num_decoder_layers else {}
    steps = trace(model, tokens, **inputs)
    rows = [values[0, :, -1] for name, values in steps.items() if "attentions." in name]  # (H, S)
    products = 2 * config.head_dim * sum(np.count_nonzero(row) for row in rows)
    assert attention_multiply_adds(shape_model(config), length) == products
