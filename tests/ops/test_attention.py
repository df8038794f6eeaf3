"""Attention against a plain softmax over a full mask, with every setting and on both sides of a chunk's end."""

import importlib
from contextlib import contextmanager
from unittest import mock

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.checks import check_operation
from tests.properties.attention_cases import attention_cases, plain_attention
from tinyslm import ops, parallel

attention_module = importlib.import_module("tinyslm.ops.attention")  # `ops.attention` is the function


@contextmanager
def chunks_of(size, shared=False):
    """Attention with another number of queries per chunk, on one thread or on several."""
    with (
        mock.patch.object(attention_module, "QUERY_CHUNK", size),
        mock.patch.object(parallel, "WORTH_SHARING", 1 if shared else 2**60),
    ):
        yield


chunk_sizes = st.sampled_from([1, 2, 3, 64])


@given(attention_cases(), chunk_sizes, st.booleans())
def test_values(case, chunk, shared):
    inputs, options = case
    with chunks_of(chunk, shared):
        np.testing.assert_allclose(
            ops.attention(*inputs, **options), plain_attention(*inputs, **options)[0], atol=1e-12
        )


@settings(max_examples=25)
@given(attention_cases(max_tokens=4), chunk_sizes, st.booleans())
def test_gradients(case, chunk, shared):
    inputs, options = case
    with chunks_of(chunk, shared):
        check_operation(ops.attention, *inputs, **options)


@pytest.mark.parametrize("tokens", [63, 64, 65, 130])
@pytest.mark.parametrize("window", [None, 5, 64])
def test_chunks_of_the_usual_size_equal_one_chunk(tokens, window):
    """Below, at and above QUERY_CHUNK, values and gradients, with ten keys in the cache."""
    rng = np.random.default_rng(0)
    query, dy = rng.standard_normal((2, 2, tokens, 4, 6))
    key, value = rng.standard_normal((2, 2, tokens + 10, 2, 6))
    results = []
    for chunk in (64, 1000):
        with chunks_of(chunk):
            output, vjp = ops.attention.with_vjp(query, key, value, scale=0.4, window=window)
            results.append((output, *vjp(dy)))
    for chunked, whole in zip(*results, strict=True):
        np.testing.assert_allclose(chunked, whole, atol=1e-12)


@given(st.integers(1, 20), st.integers(0, 9), st.integers(1, 7), st.one_of(st.none(), st.integers(1, 6)), st.booleans())
def test_chunks_cover_every_allowed_key_and_no_needless_one(T, past, chunk, window, causal):
    """Every query once; a chunk's keys reach from the first to the last that some query of it may see."""
    S = T + past
    allowed = attention_module.allowed_keys(np.arange(past, S), np.arange(S), causal, window)  # (T, S)
    queries = []
    with chunks_of(chunk):
        for start, stop, first, last in attention_module.query_chunks(T, S, causal, window):
            queries += range(start, stop)
            seen = np.flatnonzero(allowed[start:stop].any(axis=0))
            assert (first, last) == (seen[0], seen[-1] + 1)
    assert queries == list(range(T))


def test_query_head_h_reads_group_h_over_r():
    """np.repeat, not np.tile: heads 0 and 1 read key head 0, heads 2 and 3 read key head 1."""
    value = np.array([[[[10.0], [20.0]]]])  # (1, 1, 2, 1)
    output = ops.attention(np.zeros((1, 1, 4, 1)), np.zeros((1, 1, 2, 1)), value, scale=1.0)
    np.testing.assert_array_equal(output[0, 0, :, 0], [10, 10, 20, 20])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_rows_with_nothing_to_see_are_finite(dtype):
    """A padding query before the first real token: finite numbers, gradients too, that nobody reads."""
    rng = np.random.default_rng(0)
    query, key, value = rng.standard_normal((3, 1, 4, 2, 4)).astype(dtype)
    mask = np.array([[0, 0, 1, 1]])
    output, vjp = ops.attention.with_vjp(query, key, value, scale=0.5, window=2, attention_mask=mask)
    assert np.isfinite(output).all()
    assert all(np.isfinite(gradient).all() for gradient in vjp(np.ones_like(output)))
