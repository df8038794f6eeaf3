"""Activations against scipy.special, each with its own derivative."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import special

from tests.checks import check_operation
from tests.ops.formulas import FORMULAS
from tests.strategies import distinct_sizes, generators
from tinyslm import ops

activations = st.sampled_from(list(FORMULAS))


@given(activations, distinct_sizes(2), generators())
def test_activation(activation, sizes, rng):
    x = 3 * rng.standard_normal(sizes)
    np.testing.assert_allclose(activation(x), FORMULAS[activation](x), atol=1e-14)
    check_operation(activation, x)


@given(activations, distinct_sizes(3, 2, 5), generators())
def test_gated(activation, sizes, rng):
    """activation(gate) * up: the two arguments are not exchangeable, and each has its gradient."""
    gate, up = 2 * rng.standard_normal((2, *sizes))
    np.testing.assert_allclose(ops.gated(gate, up, activation=activation), FORMULAS[activation](gate) * up, atol=1e-13)
    check_operation(ops.gated, gate, up, activation=activation)


@given(st.sampled_from([0.5, 3.0, 50.0]), distinct_sizes(2), generators())
def test_softcap(cap, sizes, rng):
    """Never beyond the cap, slope 1 at 0."""
    x = 2 * cap * rng.standard_normal(sizes)
    y = ops.softcap(x, cap=cap)
    np.testing.assert_allclose(y, cap * (1 - 2 * special.expit(-2 * x / cap)), atol=1e-12)
    assert np.abs(y).max() <= cap
    check_operation(ops.softcap, x, cap=cap)


@given(distinct_sizes(2), generators())
def test_tanh(sizes, rng):
    x = 2 * rng.standard_normal(sizes)
    np.testing.assert_allclose(ops.tanh(x), 2 * special.expit(2 * x) - 1, atol=1e-14)
    check_operation(ops.tanh, x)


def test_names_of_the_field():
    """Hugging Face's names: plain gelu is the exact one, both other names are the tanh form."""
    assert ops.ACTIVATIONS["gelu"] is ops.gelu
    assert ops.ACTIVATIONS["gelu_new"] is ops.ACTIVATIONS["gelu_pytorch_tanh"] is ops.gelu_tanh
    x = np.linspace(-4, 4, 101)
    assert 1e-4 < np.abs(ops.gelu(x) - ops.gelu_tanh(x)).max() < 1e-3


@pytest.mark.parametrize("activation", FORMULAS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_large_arguments(activation, dtype):
    """Far out every activation is 0 or the identity, and so is its slope: no overflow, no NaN."""
    x = np.array([-1e4, -100, 100, 1e4], dtype)
    with np.errstate(over="raise", invalid="raise"):
        y, vjp = activation.with_vjp(x)
        (dx,) = vjp(np.ones_like(x))
    np.testing.assert_allclose(y, [0, 0, 100, 1e4], atol=1e-30)
    np.testing.assert_allclose(dx, [0, 0, 1, 1], atol=1e-30)


def test_at_zero():
    """Every activation is 0 there; the slope of relu is 0, also at -0.0, and that of the smooth ones is 1/2."""
    for activation in FORMULAS:
        y, vjp = activation.with_vjp(np.array([0.0, -0.0]))
        assert not y.any()
        slope = 0.0 if activation is ops.relu else 0.5
        np.testing.assert_array_equal(vjp(np.ones(2))[0], [slope, slope])


@given(activations, distinct_sizes(2), generators())
def test_gated_without_a_vjp(activation, sizes, rng):
    """The same bits as with a vjp. The inputs are not changed, although intermediates are overwritten."""
    gate, up = rng.standard_normal((2, *sizes))
    before = gate.copy(), up.copy()
    expected, _ = ops.gated.with_vjp(gate, up, activation=activation)
    np.testing.assert_array_equal(ops.gated(gate, up, activation=activation), expected)
    np.testing.assert_array_equal(activation(gate), activation.with_vjp(gate)[0])
    np.testing.assert_array_equal((gate, up), before)
