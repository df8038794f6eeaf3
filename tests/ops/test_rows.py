"""Operations on rows: a softmax subtracts the largest number of its own row, and absent inputs have no gradient."""

import numpy as np
import pytest
from hypothesis import given

from tests.strategies import distinct_sizes, generators
from tinyslm import ops

ATTENTIONS = (ops.attention, ops.chunked_attention, ops.attention_probabilities)


@given(distinct_sizes(3, 2, 5), generators())
def test_a_constant_added_to_a_row_changes_no_softmax(sizes, rng):
    """The constants differ by thousands: with one maximum for all rows, exponentials of the others would be 0."""
    B, T, V = sizes
    logits, shift = rng.standard_normal(sizes), 1e4 * rng.permutation(B * T).reshape(B, T, 1)
    close = {"rtol": 1e-9, "atol": 1e-9}
    np.testing.assert_allclose(ops.log_softmax(logits + shift), ops.log_softmax(logits), **close)
    labels, dloss = rng.integers(0, V, (B, T)), 1.7
    (loss, vjp), (moved, moved_vjp) = (ops.cross_entropy.with_vjp(x, labels) for x in (logits, logits + shift))
    np.testing.assert_allclose(moved, loss, **close)
    np.testing.assert_allclose(moved_vjp(dloss)[0], vjp(dloss)[0], **close)
    rows, chosen = logits.reshape(-1, V), np.tile(np.arange(V)[::-1][:2], (B * T, 1))
    np.testing.assert_allclose(
        ops.routing_weights(rows + shift.reshape(-1, 1), chosen=chosen),
        ops.routing_weights(rows, chosen=chosen),
        **close,
    )


@pytest.mark.parametrize("attention", ATTENTIONS)
@given(distinct_sizes(4, 2, 5), generators())
def test_a_constant_added_to_all_scores_of_a_query_changes_no_attention(attention, sizes, rng):
    """A shift per head and query in the position bias, and one per sequence in a dimension that only it uses."""
    B, T, H, D = sizes
    query, key, value = rng.standard_normal((3, B, T, H, D + 1))
    query[..., -1], key[..., -1] = 0.0, 1.0
    moved = query.copy()
    moved[..., -1] = 3e4 * np.arange(B)[:, None, None]
    bias = rng.standard_normal((H, T, T))
    shifted = bias + 1e3 * rng.permutation(H * T).reshape(H, T, 1)
    inputs = (key,) if attention is ops.attention_probabilities else (key, value)
    expected = attention(query, *inputs, bias, scale=0.5)
    np.testing.assert_allclose(attention(moved, *inputs, shifted, scale=0.5), expected, rtol=1e-8, atol=1e-8)


@given(distinct_sizes(4, 2, 5), generators())
def test_an_absent_input_has_no_gradient(sizes, rng):
    B, T, inputs, outputs = sizes
    x, weight = rng.standard_normal((B, T, inputs)), rng.standard_normal((outputs, inputs))
    y, vjp = ops.linear.with_vjp(x, weight)
    assert [gradient is None for gradient in vjp(y)] == [False, False, True]
    y, vjp = ops.layer_norm.with_vjp(x, weight[0])
    assert [gradient is None for gradient in vjp(y)] == [False, False, True]
    heads = x[:, :, None]  # (B, T, 1, D)
    for attention in (ops.attention, ops.chunked_attention):
        y, vjp = attention.with_vjp(heads, heads, heads, scale=1.0)
        assert [gradient is None for gradient in (*vjp(y), None)[:4]] == [False, False, False, True]
    y, vjp = ops.embedding.with_vjp(np.array([0, 1]), weight)
    assert [gradient is None for gradient in vjp(y)] == [True, False]
    labels = np.zeros(x.shape[:-1], int)
    _, vjp = ops.cross_entropy.with_vjp(x, labels)
    assert [gradient is None for gradient in vjp(1.0)] == [False, True]


def test_a_scale_of_float64_does_not_promote():
    """np.sqrt and numbers read from arrays are NumPy scalars of float64; attention converts its scale."""
    rng = np.random.default_rng(0)
    query, key, value = rng.standard_normal((3, 2, 5, 3, 4)).astype(np.float32)
    scale = 1 / np.sqrt(np.float64(4))
    assert ops.attention_probabilities(query, key, scale=scale).dtype == np.float32
    for attention in (ops.attention, ops.chunked_attention):
        output, vjp = attention.with_vjp(query, key, value, scale=scale)
        assert output.dtype == np.float32
        assert all(gradient.dtype == np.float32 for gradient in vjp(output) if gradient is not None)
