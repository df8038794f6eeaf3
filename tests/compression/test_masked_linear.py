"""Masked layer: equal to its dense and sparse forms, its gradient, and removed weights that stay 0 in training."""

import numpy as np
import pytest
from hypothesis import given
from scipy import sparse

from tests.strategies import generators
from tinyslm.autodiff import check_gradient, value_and_grad
from tinyslm.compression.distillation import hidden_state_loss
from tinyslm.compression.pruning import MaskedLinear, magnitude_mask, masked_linear
from tinyslm.errors import DataError
from tinyslm.modules import Linear


def draw_masked(rng, dtype=np.float64):
    linear = Linear(rng.standard_normal((5, 7)).astype(dtype), rng.standard_normal(5).astype(dtype))
    mask = magnitude_mask(linear.weight, 0.4)
    return linear, mask, MaskedLinear.from_linear(linear, mask)


@given(generators())
def test_masked_sparse_and_dense_forms_agree(rng):
    linear, mask, masked = draw_masked(rng)
    x = rng.standard_normal((2, 3, 7))
    csr = sparse.csr_array(linear.weight * mask)
    expected = (csr @ x.reshape(-1, 7).T).T.reshape(2, 3, 5) + linear.bias
    np.testing.assert_allclose(masked(x), expected, rtol=1e-12, atol=1e-12)
    np.testing.assert_array_equal(masked.to_linear()(x), masked(x))
    np.testing.assert_array_equal(masked.weight == 0, ~mask)
    assert not np.any(np.signbit(masked.weight[~mask]))  # 0.0 and not -0.0


def test_masked_linear_does_not_read_removed_weights():
    """The forward pass multiplies by W * M even if W was not zeroed."""
    rng = np.random.default_rng(0)
    linear, mask, masked = draw_masked(rng)
    x = rng.standard_normal((3, 7))
    np.testing.assert_array_equal(masked_linear(x, linear.weight, mask, linear.bias), masked(x))


def test_masked_linear_gradient():
    rng = np.random.default_rng(1)
    linear, mask, masked = draw_masked(rng)
    x = rng.standard_normal((2, 3, 7))
    assert check_gradient(masked_linear, x, linear.weight, mask, linear.bias) < 1e-7
    gradients = value_and_grad(lambda layer: hidden_state_loss(layer(x), np.ones((2, 3, 5))))(masked)[1]
    np.testing.assert_array_equal(gradients.weight == 0, ~mask)
    assert gradients.mask is None and np.all(gradients.bias != 0)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_removed_weights_stay_zero_through_momentum_and_adamw(dtype):
    rng = np.random.default_rng(2)
    _, mask, layer = draw_masked(rng, dtype)
    moments = [np.zeros_like(layer.weight), np.zeros_like(layer.weight)]
    for step in range(1, 8):
        x, direction = rng.standard_normal((4, 7)).astype(dtype), rng.standard_normal((4, 5)).astype(dtype)
        _, vjp = masked_linear.with_vjp(x, layer.weight, layer.mask, layer.bias)
        gradient = vjp(direction)[1]
        assert not np.any(gradient[~mask]) and np.all(gradient[mask] != 0)
        for moment, power, rate in ((moments[0], 1, 0.9), (moments[1], 2, 0.99)):
            moment *= rate
            moment += (1 - rate) * gradient**power
        update = (moments[0] / (1 - 0.9**step)) / (np.sqrt(moments[1] / (1 - 0.99**step)) + 1e-8)
        layer = layer.replace(weight=(layer.weight - 0.01 * (update + 0.1 * layer.weight)).astype(dtype))
        np.testing.assert_array_equal(layer.weight == 0, ~mask)


@given(generators())
def test_removed_weights_stay_zero_under_gradient_descent_with_momentum_and_decay(rng):
    """Decay in the gradient, as the older optimizers have it; the others are moved as if there were no mask."""
    linear, mask, layer = draw_masked(rng)
    velocity, weight = np.zeros((5, 7)), linear.weight * mask
    for _ in range(5):
        x, target = rng.standard_normal((4, 7)), rng.standard_normal((4, 5))
        gradient = value_and_grad(lambda layer, x, y: hidden_state_loss(layer(x), y))(layer, x, target)[1].weight
        dense = (x @ weight.T + layer.bias - target).T @ x * 2 / target.size
        np.testing.assert_allclose(gradient, dense * mask, rtol=1e-9, atol=1e-12)
        velocity = 0.9 * velocity + gradient + 0.1 * weight
        weight = weight - 0.05 * velocity
        layer = layer.replace(weight=weight)
        np.testing.assert_array_equal(layer.weight == 0, ~mask)


def test_masks_that_do_not_fit_are_refused():
    linear = Linear(np.ones((2, 3)))
    with pytest.raises(DataError, match="shape"):
        MaskedLinear.from_linear(linear, np.ones((3, 2), bool))
    with pytest.raises(DataError, match="booleans"):
        MaskedLinear.from_linear(linear, np.ones((2, 3)))
