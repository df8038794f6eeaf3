"""Chunked attention equals the definition, outputs and all gradients, for every setting and size of the chunks."""

import importlib
import tracemalloc
from contextlib import contextmanager
from unittest import mock

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from tests.checks import check_operation
from tests.properties.attention_cases import attention_cases, plain_attention
from tests.strategies import distinct_sizes, generators
from tests.training.tiny import tiny_model, tiny_rows
from tinyslm import next_token_loss, ops, parallel, value_and_grad
from tinyslm.errors import DataError
from tinyslm.ops.attention import allowed_keys
from tinyslm.tree import named_arrays

chunked_module = importlib.import_module("tinyslm.ops.chunked_attention")  # `ops.chunked_attention` is the function


@contextmanager
def chunks_of(size, shared=False):
    """Attention with another number of queries per chunk, on one thread or on several."""
    with (
        mock.patch.object(chunked_module, "QUERY_CHUNK", size),
        mock.patch.object(parallel, "WORTH_SHARING", 1 if shared else 2**60),
    ):
        yield


chunk_sizes = st.sampled_from([1, 2, 3, 64])
windows = st.one_of(st.none(), st.integers(1, 12))
lookaheads = st.one_of(st.none(), st.integers(0, 8))


@given(
    distinct_sizes(5, 1, 7),
    st.sampled_from([0, 1, 5, 12]),
    generators(),
    chunk_sizes,
    st.booleans(),
    windows,
    lookaheads,
    st.sampled_from([None, 0.8]),
    st.booleans(),
    st.booleans(),
    st.booleans(),
    st.sampled_from([1, 300, 2000, 2**23]),
)
def test_equal_to_the_definition(
    sizes, past, rng, chunk, shared, window, lookahead, softcap, causal, with_padding, with_bias, score_bytes
):
    """Outputs, with and without a vjp, and gradients, with cached tokens. B, T, S, H, G and D differ, so that no two
    axes agree by luck."""
    B, T, G, r, D = sizes
    S, H = T + past, G * r
    assume(len({B, T, S, H, G, D}) == 5 + (past > 0))
    inputs = [rng.standard_normal(shape) for shape in ((B, T, H, D), (B, S, G, D), (B, S, G, D))]
    if with_bias:
        inputs.append(rng.standard_normal((H, T, S)))
    options = {"scale": rng.uniform(0.1, 2), "causal": causal, "window": window, "lookahead": lookahead}
    options["softcap"] = softcap
    if with_padding:  # among the cached tokens, so that every query has at least its own key
        options["attention_mask"] = np.concatenate([rng.integers(0, 2, (B, past)), np.ones((B, T), int)], axis=1)
    dy = rng.standard_normal((B, T, H, D))
    expected, definition_vjp = ops.attention.with_vjp(*inputs, **options)
    with chunks_of(chunk, shared):
        output, vjp = ops.chunked_attention.with_vjp(*inputs, **options)
        gradients = vjp(dy)
        with mock.patch.object(chunked_module, "SCORE_BYTES", score_bytes):
            untraced = ops.chunked_attention(*inputs, **options)
    for found in (output, untraced):
        np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-13)
    assert len(gradients) == len(inputs)
    for gradient, wanted in zip(gradients, definition_vjp(dy), strict=False):
        assert gradient.shape == wanted.shape
        np.testing.assert_allclose(gradient, wanted, rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize("T", [1, 7, 70])
@pytest.mark.parametrize("softcap", [None, 0.8])
def test_outputs_with_and_without_a_vjp_have_the_same_bits(T, softcap):
    rng = np.random.default_rng(T)
    query, key, value = (rng.standard_normal((2, T, heads, 6), np.float32) for heads in (4, 2, 2))
    output, _ = ops.chunked_attention.with_vjp(query, key, value, scale=0.7, softcap=softcap)
    np.testing.assert_array_equal(output, ops.chunked_attention(query, key, value, scale=0.7, softcap=softcap))


def test_a_model_runs_with_the_definition(monkeypatch):
    """`ops.chunked_attention = ops.attention` puts the definition into a model: same loss, same gradients."""
    model, rows = tiny_model(dtype=np.float64), tiny_rows(count=3)
    loss, gradients = value_and_grad(next_token_loss)(model, *rows)
    calls = []
    monkeypatch.setattr(ops, "chunked_attention", lambda *x, **o: calls.append(1) or ops.attention(*x, **o))
    definition_loss, definition_gradients = value_and_grad(next_token_loss)(model, *rows)
    assert len(calls) == len(model.layers)
    assert definition_loss == pytest.approx(float(loss), rel=1e-13)
    for path, gradient in named_arrays(definition_gradients).items():
        np.testing.assert_allclose(named_arrays(gradients)[path], gradient, rtol=1e-9, atol=1e-12)


@given(attention_cases(), chunk_sizes, st.booleans())
def test_values(case, chunk, shared):
    inputs, options = case
    with chunks_of(chunk, shared):
        np.testing.assert_allclose(
            ops.chunked_attention(*inputs, **options), plain_attention(*inputs, **options)[0], atol=1e-12
        )


@settings(max_examples=25)
@given(attention_cases(max_tokens=4), chunk_sizes, st.booleans())
def test_gradients(case, chunk, shared):
    """If every query has a single key, its probability is 1: queries and keys have gradients of exactly 0."""
    inputs, options = case
    probabilities = ops.attention_probabilities(*inputs[:2], *inputs[3:], **options)
    with chunks_of(chunk, shared):
        if np.all(probabilities.max(axis=-1) == 1):
            output, vjp = ops.chunked_attention.with_vjp(*inputs, **options)
            assert all(not gradient.any() for gradient in vjp(np.ones_like(output))[:2])
        else:
            check_operation(ops.chunked_attention, *inputs, **options)


LIMIT = chunked_module.LARGEST_UNSHIFTED


@pytest.mark.parametrize("largest", [0.9 * LIMIT, 1.1 * LIMIT, 3000.0])
@pytest.mark.parametrize(("T", "options"), [(1, {}), (70, {}), (70, {"window": 9}), (5, {"softcap": 25.0})])
def test_scores_of_any_size_are_as_exact_as_those_of_the_definition(largest, T, options):
    """In float32, against float64: rows of only large and only small scores, values of any size, and gradients."""
    rng = np.random.default_rng(0)
    query, key, value, dy = (rng.standard_normal((2, T + n, 2, 16)) for n in (0, 3, 3, 0))
    query *= largest / np.max(np.abs(np.einsum("bthd,bshd->bhts", query, key)))
    key[0] = -np.abs(key[0]) * np.sign(query[0, :1])  # all scores of the first query have the same sign
    value *= 1e6
    narrow = [array.astype(np.float32) for array in (query, key, value)]
    exact, exact_vjp = ops.attention.with_vjp(query, key, value, scale=1.0, **options)
    definition, definition_vjp = ops.attention.with_vjp(*narrow, scale=1.0, **options)
    output, vjp = ops.chunked_attention.with_vjp(*narrow, scale=1.0, **options)
    untraced = ops.chunked_attention(*narrow, scale=1.0, **options)
    pairs = [((output, untraced), definition, exact)]
    narrow_dy = dy.astype(np.float32)
    for found, wanted, of_float64 in zip(vjp(narrow_dy), definition_vjp(narrow_dy), exact_vjp(dy), strict=False):
        pairs.append(((found,), wanted, of_float64))
    for results, wanted, of_float64 in pairs:
        size = np.max(np.abs(of_float64))
        for found in results:
            assert found.dtype == np.float32
            assert np.max(np.abs(found - of_float64)) <= 2 * np.max(np.abs(wanted - of_float64)) + 1e-6 * size


@pytest.mark.parametrize("score", [-200.0, 200.0])
def test_equal_scores_of_any_size_give_the_mean(score):
    """Their exponentials would all be 0, or overflow."""
    query, key = np.ones((1, 1, 1, 4), np.float32), np.full((1, 3, 1, 4), score / 4, np.float32)
    value = np.arange(12, dtype=np.float32).reshape(1, 3, 1, 4)
    output = ops.chunked_attention(query, key, value, scale=1.0)
    np.testing.assert_allclose(output, value.mean(axis=1, keepdims=True), rtol=1e-6)


@pytest.mark.parametrize("large", [False, True])
@pytest.mark.parametrize("T", [1, 5])
def test_queries_without_an_allowed_key_are_finite(large, T):
    """Sequence 0 is padding only, sequence 1 as on its own: outputs, with and without a vjp, and gradients."""
    rng = np.random.default_rng(0)
    inputs = [rng.standard_normal((2, T, 2, 4)) for _ in range(3)]
    inputs[0][1] *= 1000 if large else 1
    mask = np.array([[0] * T, [1] * T])
    output, vjp = ops.chunked_attention.with_vjp(*inputs, scale=1.0, attention_mask=mask)
    untraced = ops.chunked_attention(*inputs, scale=1.0, attention_mask=mask)
    alone, alone_vjp = ops.attention.with_vjp(*(x[1:] for x in inputs), scale=1.0)
    for found in (output, untraced):
        assert np.isfinite(found).all()
        np.testing.assert_allclose(found[1:], alone, atol=1e-12)
    dy = rng.standard_normal(output.shape)
    for gradient, wanted in zip(vjp(dy), alone_vjp(dy[1:]), strict=False):
        assert np.isfinite(gradient).all()
        np.testing.assert_allclose(gradient[1:], wanted, atol=1e-11)


@pytest.mark.parametrize("options", [{}, {"window": 4}, {"causal": False, "window": 3, "lookahead": 2}])
@pytest.mark.parametrize("window_of_padding", [False, True])
def test_a_single_query_reads_the_keys_of_its_window(options, window_of_padding):
    """The short form of one token after cached ones, with a position bias, a soft cap and padding."""
    rng = np.random.default_rng(0)
    inputs = [rng.standard_normal(shape) for shape in ((2, 1, 6, 4), (2, 9, 3, 4), (2, 9, 3, 4), (6, 1, 9))]
    options = {**options, "scale": 0.7, "softcap": 2.0}
    if window_of_padding:
        options["attention_mask"] = np.array([[0, 1, 1, 1, 1, 0, 1, 1, 1], [1] * 9])
    with mock.patch.object(chunked_module, "query_chunks", side_effect=AssertionError("chunks of one query")):
        output = ops.chunked_attention(*inputs, **options)
    np.testing.assert_allclose(output, ops.attention(*inputs, **options), atol=1e-13)


@pytest.mark.parametrize("T", [1, 7])
def test_keys_and_values_may_be_views_of_transposed_storage(T):
    """Keys stored as (B, G, D, S) and values as (B, G, S, D), as matrix products read them."""
    rng = np.random.default_rng(0)
    query, key, value = (rng.standard_normal(shape) for shape in ((2, T, 4, 3), (2, 9, 2, 3), (2, 9, 2, 3)))
    key_view = np.ascontiguousarray(key.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2)
    value_view = np.ascontiguousarray(value.transpose(0, 2, 1, 3)).transpose(0, 2, 1, 3)
    expected = ops.chunked_attention(query, key, value, scale=0.5)
    np.testing.assert_allclose(ops.chunked_attention(query, key_view, value_view, scale=0.5), expected, atol=1e-14)


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
            output, vjp = ops.chunked_attention.with_vjp(query, key, value, scale=0.4, window=window)
            results.append((output, *vjp(dy)))
    for chunked, whole in zip(*results, strict=True):
        np.testing.assert_allclose(chunked, whole, atol=1e-12)


@given(
    st.integers(1, 20),
    st.integers(0, 9),
    st.integers(1, 7),
    st.one_of(st.none(), st.integers(1, 6)),
    st.booleans(),
    lookaheads,
)
def test_chunks_cover_every_allowed_key_and_no_needless_one(T, past, chunk, window, causal, lookahead):
    """Every query once; a chunk's keys reach from the first to the last that some query of it may attend to."""
    S = T + past
    allowed = allowed_keys(np.arange(past, S), np.arange(S), causal, window, lookahead)  # (T, S)
    queries = []
    for start, stop, first, last in chunked_module.query_chunks(T, S, causal, window, chunk, lookahead):
        queries += range(start, stop)
        found = np.flatnonzero(allowed[start:stop].any(axis=0))
        assert (first, last) == (found[0], found[-1] + 1)
    assert queries == list(range(T))


def test_a_chunk_has_64_queries_and_long_chunks_are_paired_with_short_ones():
    chunks = list(chunked_module.query_chunks(130, 140, True, 70, chunked_module.QUERY_CHUNK))
    assert chunks == [(0, 64, 0, 74), (64, 128, 5, 138), (128, 130, 69, 140)]
    assert [chunked_module._balanced_order(count) for count in (1, 4, 5)] == [[0], [0, 3, 1, 2], [0, 4, 1, 3, 2]]


def test_threads_share_the_work_of_all_scores(monkeypatch):
    """B H T S scores in chunks of at most 64 queries."""
    calls = []
    monkeypatch.setattr(chunked_module, "map_shares", lambda function, count, work: calls.append((count, work)))
    B, T, S, H, G, D = 2, 65, 70, 6, 3, 4
    ops.chunked_attention(np.ones((B, T, H, D)), np.ones((B, S, G, D)), np.ones((B, S, G, D)), scale=1.0)
    assert calls == [(2, B * H * T * S)]


def peak_bytes(T, **options):
    """Memory that attention of T tokens allocates beyond its inputs, two heads of 8, without and with a vjp."""
    inputs = np.random.default_rng(0).standard_normal((3, 1, T, 2, 8), np.float32)
    peaks = []
    for call in (ops.chunked_attention, ops.chunked_attention.with_vjp):
        tracemalloc.start()
        call(*inputs, scale=0.3, **options)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    return np.array(peaks)


LOCAL = {"causal": False, "window": 150, "lookahead": 149}


@pytest.mark.parametrize("options", [{}, {"window": 700}, {"softcap": 2.0}, {"causal": False}, LOCAL])
def test_without_a_vjp_memory_is_linear_in_the_length(monkeypatch, options):
    """Scores of 2,000 tokens would be 32 MB."""
    monkeypatch.setattr(chunked_module, "SCORE_BYTES", 2**16)
    chunked_module._chunk_mask.cache_clear()
    (short, _), (long, kept) = peak_bytes(1000, **options), peak_bytes(2000, **options)
    assert long < 2.1 * short and long < 1.5e6
    assert kept > 5e6  # the probabilities of all chunks


def test_a_window_on_both_sides_skips_the_keys_outside():
    """Interior chunks share one mask; the numbers of keys are at most queries + 2 (W - 1)."""
    chunks = list(chunked_module.query_chunks(256, 256, False, 33, 64, 32))
    assert chunks == [(0, 64, 0, 96), (64, 128, 32, 160), (128, 192, 96, 224), (192, 256, 160, 256)]
    chunked_module._chunk_mask.cache_clear()
    x = np.random.default_rng(0).standard_normal((1, 640, 1, 4))
    ops.chunked_attention(x, x, x, scale=0.5, causal=False, window=33, lookahead=32)
    assert chunked_module._chunk_mask.cache_info().currsize == 3  # of the first, the last, and the chunks between


def test_scores_in_memory_are_limited():
    """Blocks of sequences, of groups, then chunks of fewer queries, but not fewer than SMALLEST_CHUNK."""
    limit = chunked_module.SCORE_BYTES
    whole, half = slice(0, 4), (slice(0, 2), slice(2, 4))
    assert chunked_module._score_blocks(4, 2, limit // 8) == [(whole, slice(0, 2))]
    assert chunked_module._score_blocks(4, 2, limit // 4) == [(part, slice(0, 2)) for part in half]
    assert chunked_module._score_blocks(1, 4, limit // 2) == [(slice(0, 1), part) for part in half]
    assert chunked_module._score_blocks(2, 2, 2 * limit) == [
        (slice(b, b + 1), slice(g, g + 1)) for b in range(2) for g in range(2)
    ]
    assert [chunked_module._chunk_size(limit // n) for n in (100, 64, 20, 8, 1)] == [64, 64, 20, 8, 8]


def test_a_chunk_in_which_every_key_is_allowed_has_no_mask():
    """Only a masked key needs scores that the mask can exclude: others may be as large as the dtype allows."""
    arguments = {"causal": True, "window": None, "dtype": np.dtype(np.float64)}
    assert chunked_module._chunk_mask(3, 4, 0, 4, **arguments) is None
    mask = chunked_module._chunk_mask(2, 4, 0, 4, **arguments)
    assert np.count_nonzero(mask) == 1 and mask[0, 3] < 0
    query = np.full((1, 1, 1, 1), 1e200)
    key = np.array([-1e20, 0.0, 1e-220, 1e20]).reshape(1, 4, 1, 1)
    value = np.arange(4.0).reshape(1, 4, 1, 1)
    np.testing.assert_array_equal(ops.chunked_attention(query, key, value, scale=1.0), [[[[3.0]]]])
    for tokens, masked in ((1, {"attention_mask": np.array([[1, 1, 1, 0]])}), (2, {})):
        with pytest.raises(DataError, match="attention scores overflow float64"):
            ops.chunked_attention(np.repeat(query, tokens, axis=1), key, value, scale=1.0, **masked)


@pytest.mark.parametrize("heads", [1, 2])
def test_attention_of_many_sizes_of_one(heads):
    """One sequence, one token, one dimension: the output is the value itself, for queries with and without a bias."""
    value = np.arange(1.0, heads + 1).reshape(1, 1, heads, 1)
    for bias in ((), (np.ones((heads, 1, 1)),)):
        output, vjp = ops.chunked_attention.with_vjp(value, value, value, *bias, scale=2.0)
        np.testing.assert_array_equal(output, value)
        gradients = vjp(np.ones_like(value))
        np.testing.assert_array_equal(gradients[2], np.ones_like(value))
        assert not any(gradient.any() for gradient in (*gradients[:2], *gradients[3:]))
