"""The definition of attention against a softmax over the allowed keys alone, query by query, and its gradients."""

import numpy as np
import pytest
from hypothesis import given, settings

from tests.checks import check_operation
from tests.properties.attention_cases import attention_cases, plain_attention
from tinyslm import ops
from tinyslm.ops.attention import mask_bias


@given(attention_cases())
def test_values(case):
    inputs, options = case
    np.testing.assert_allclose(ops.attention(*inputs, **options), plain_attention(*inputs, **options)[0], atol=1e-12)


@settings(max_examples=25)
@given(attention_cases(max_tokens=4))
def test_gradients(case):
    inputs, options = case
    check_operation(ops.attention, *inputs, **options)


@pytest.mark.parametrize("attention", [ops.attention, ops.chunked_attention])
def test_query_head_h_reads_group_h_over_r(attention):
    """np.repeat, not np.tile: heads 0 and 1 read key head 0, heads 2 and 3 read key head 1."""
    value = np.array([[[[10.0], [20.0]]]])  # (1, 1, 2, 1)
    output = attention(np.zeros((1, 1, 4, 1)), np.zeros((1, 1, 2, 1)), value, scale=1.0)
    np.testing.assert_array_equal(output[0, 0, :, 0], [10, 10, 20, 20])


@pytest.mark.parametrize("attention", [ops.attention, ops.chunked_attention])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_queries_without_an_allowed_key_are_finite(attention, dtype):
    """A padding query before the first real token: output and gradients are finite and have no meaning."""
    rng = np.random.default_rng(0)
    query, key, value = rng.standard_normal((3, 1, 4, 2, 4)).astype(dtype)
    mask = np.array([[0, 0, 1, 1]])
    output, vjp = attention.with_vjp(query, key, value, scale=0.5, window=2, attention_mask=mask)
    assert np.isfinite(output).all()
    gradients = [gradient for gradient in vjp(np.ones_like(output)) if gradient is not None]
    assert len(gradients) == 3
    assert all(np.isfinite(gradient).all() for gradient in gradients)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_mask_is_half_of_the_lowest_number(dtype):
    """So that the sum of two masks, causal and padding, is still finite."""
    bias = mask_bias(np.array([[True, False]]), dtype)
    assert bias.dtype == dtype
    np.testing.assert_array_equal(bias, np.array([[0, np.finfo(dtype).min / 2]], dtype))
