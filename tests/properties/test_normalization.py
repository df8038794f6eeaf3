"""RMS norm and layer norm: values against their formulas with NumPy's own mean and variance, gradients exact."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from tests.checks import check_float32, check_gradients, check_operation
from tests.strategies import distinct_sizes, generators
from tinyslm.coursework.implementation import layer_norm, rms_norm

small_and_large_eps = st.sampled_from([1e-6, 0.5])


@given(distinct_sizes(3, 2, 7), generators(), small_and_large_eps, st.sampled_from([0.0, 1.0]))
def test_rms_norm(sizes, rng, eps, offset):
    """eps is inside the root (0.5 would show it elsewhere), and the offset is added to the gain."""
    x, weight = rng.standard_normal(sizes), rng.standard_normal(sizes[-1])
    expected = (offset + weight) * x / np.sqrt(np.mean(x**2, axis=-1, keepdims=True) + eps)
    np.testing.assert_allclose(rms_norm(x, weight, eps=eps, offset=offset), expected, atol=1e-12)
    check_gradients(rms_norm, x, weight, eps=eps, offset=offset)


@given(distinct_sizes(2, 2, 7), generators(), st.sampled_from([0.0, 1.0]))
def test_rms_norm_keeps_float32(sizes, rng, offset):
    check_float32(rms_norm, rng.standard_normal(sizes), rng.standard_normal(sizes[-1]), offset=offset)


@given(distinct_sizes(3, 3, 7), generators(), small_and_large_eps, st.booleans())
def test_layer_norm(sizes, rng, eps, with_bias):
    """The variance is the biased one, and eps is inside the root."""
    x, weight = rng.standard_normal(sizes) + 1, rng.standard_normal(sizes[-1])
    bias = rng.standard_normal(sizes[-1]) if with_bias else None
    mean, variance = x.mean(axis=-1, keepdims=True), x.var(axis=-1, keepdims=True)
    expected = weight * (x - mean) / np.sqrt(variance + eps) + (bias if with_bias else 0)
    np.testing.assert_allclose(layer_norm(x, weight, bias, eps=eps), expected, atol=1e-11)
    check_operation(layer_norm, x, weight, bias, eps=eps)


def test_rms_norm_forgets_the_size_of_its_input():
    assert_the_size_is_forgotten(rms_norm)


def test_layer_norm_forgets_the_size_of_its_input():
    assert_the_size_is_forgotten(layer_norm)


def assert_the_size_is_forgotten(norm):
    """With eps 0 the output does not change with the input's scale, so the gradient is orthogonal to the input."""
    rng = np.random.default_rng(0)
    x, weight = rng.standard_normal((5, 7)), rng.standard_normal(7)
    np.testing.assert_allclose(norm(1000 * x, weight, eps=0.0), norm(x, weight, eps=0.0), rtol=1e-12)
    _, vjp = norm.with_vjp(x, weight, eps=0.0)
    np.testing.assert_allclose(np.vecdot(vjp(rng.standard_normal((5, 7)))[0], x), 0, atol=1e-12)


def test_a_layer_norm_forgets_a_constant():
    rng = np.random.default_rng(0)
    x, weight = rng.standard_normal((5, 7)), rng.standard_normal(7)
    np.testing.assert_allclose(layer_norm(x + 3, weight), layer_norm(x, weight), atol=1e-12)
    _, vjp = layer_norm.with_vjp(x, weight)
    np.testing.assert_allclose(np.sum(vjp(rng.standard_normal((5, 7)))[0], axis=-1), 0, atol=1e-12)


def test_rms_norm_of_a_row_of_zeros_is_finite():
    assert_zeros_are_finite(rms_norm)


def test_layer_norm_of_a_row_of_zeros_is_finite():
    assert_zeros_are_finite(layer_norm)


def assert_zeros_are_finite(norm):
    y, vjp = norm.with_vjp(np.zeros((2, 3)), np.ones(3))
    assert not y.any()
    assert np.isfinite(vjp(np.ones((2, 3)))[0]).all()
