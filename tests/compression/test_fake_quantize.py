"""Quantization-aware training: gradients, and equality of the trained and the stored layer."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.strategies import generators
from tinyslm.autodiff import check_gradient, differentiable, value_and_grad
from tinyslm.compression.distillation import hidden_state_loss
from tinyslm.compression.quantization import (
    FakeQuantizedLinear,
    code_range,
    fake_quantize,
    fake_quantize_tokens,
    quantize,
    quantize_tokens,
)
from tinyslm.errors import DataError
from tinyslm.modules import Linear
from tinyslm.training import AdamW
from tinyslm.tree import map_arrays, named_parameters

every_bits = st.integers(2, 8)


def draw(rng, bits, symmetric, shape=(5, 6)):
    """An array, scales that clip some of it, and zero points, one per row."""
    x = rng.standard_normal(shape)
    low, high = code_range(bits, symmetric)
    scale = 1.5 * (0.5 + rng.random((shape[0], 1))) / high
    zero_point = np.zeros((shape[0], 1), int) if symmetric else rng.integers(low, high + 1, (shape[0], 1))
    return x, scale, zero_point.astype(np.int32), low, high


@given(generators(), every_bits, st.booleans())
def test_forward_is_rounding_and_back(rng, bits, symmetric):
    x, scale, zero_point, low, high = draw(rng, bits, symmetric)
    rounding = {"bits": bits, "symmetric": symmetric}
    rounded = fake_quantize(x, scale, zero_point, **rounding)
    codes = np.clip(np.round(x / scale) + zero_point, low, high)
    np.testing.assert_array_equal(rounded, scale * (codes - zero_point))
    np.testing.assert_array_equal(fake_quantize(rounded, scale, zero_point, **rounding), rounded)
    whole = quantize(x, axis=0, **rounding)
    np.testing.assert_array_equal(fake_quantize(x, whole.scale, whole.zero_point, **rounding), whole.dequantize())


@given(generators(), every_bits, st.booleans())
def test_the_gradient_is_the_identity_inside_and_zero_outside(rng, bits, symmetric):
    x, scale, zero_point, low, high = draw(rng, bits, symmetric)
    dy = rng.standard_normal(x.shape)
    dx, _, dzero = fake_quantize.with_vjp(x, scale, zero_point, bits=bits, symmetric=symmetric)[1](dy)
    is_inside = (x >= scale * (low - zero_point)) & (x <= scale * (high - zero_point))
    np.testing.assert_array_equal(dx, np.where(is_inside, dy, 0))
    assert dzero is None


@given(generators(), every_bits, st.booleans())
def test_the_gradients_are_those_of_the_surrogate_that_only_adds_the_rounding(rng, bits, symmetric):
    """The surrogate round(v) = v + constant: its finite differences, divided by sqrt(N * largest code)."""
    x, scale, zero_point, low, high = draw(rng, bits, symmetric)
    added = np.round(x / scale) - x / scale
    edges = np.array([low, high]) - zero_point  # (out, 2)
    near = np.abs(x[..., None] / scale[..., None] - edges[:, None]).min(axis=-1) < 0.2
    x = np.where(near, 0.3 * scale, x)  # so that no finite difference crosses an edge
    added = np.where(near, np.round(0.3) - 0.3, added)

    @differentiable
    def surrogate(x, scale):
        steps = x / scale + zero_point
        is_inside = (steps >= low) & (steps <= high)
        codes = np.where(is_inside, steps + added, np.clip(steps, low, high))
        _, vjp = fake_quantize.with_vjp(x, scale, zero_point, bits=bits, symmetric=symmetric)

        def balanced(dy):
            dx, dscale, _ = vjp(dy)
            return dx, dscale * np.sqrt(6 * high)

        return scale * (codes - zero_point), balanced

    np.testing.assert_allclose(
        surrogate(x, scale)[0], fake_quantize(x, scale, zero_point, bits=bits, symmetric=symmetric)[0], atol=1e-12
    )
    assert check_gradient(surrogate, x, scale) < 1e-6


@pytest.mark.parametrize("shape", [(), (1, 1), (5, 1), (1, 6)])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_gradients_have_the_shapes_of_what_they_belong_to(shape, dtype):
    rng = np.random.default_rng(0)
    x, scale = rng.standard_normal((5, 6)).astype(dtype), np.full(shape, 0.25, dtype)
    y, vjp = fake_quantize.with_vjp(x, scale, np.zeros(shape, np.int32), bits=4)
    dx, dscale, _ = vjp(np.ones_like(y))
    assert (y.dtype, dx.dtype, dscale.dtype) == (dtype,) * 3 and dscale.shape == shape and dx.shape == x.shape


@given(generators())
def test_activations_are_rounded_per_token_and_pass_their_gradient_on(rng):
    x, dy = rng.standard_normal((2, 2, 3, 7))
    y, vjp = fake_quantize_tokens.with_vjp(x)
    np.testing.assert_array_equal(y, quantize_tokens(x.reshape(6, 7)).dequantize().reshape(2, 3, 7))
    np.testing.assert_array_equal(vjp(dy)[0], dy)


def draw_layer(rng, dtype=np.float64, **settings):
    linear = Linear(rng.standard_normal((5, 12)).astype(dtype), rng.standard_normal(5).astype(dtype))
    layer = FakeQuantizedLinear.from_linear(linear, **settings)
    return linear, layer.replace(factor=(0.5 + rng.random(layer.factor.shape)).astype(dtype))


@given(generators(), every_bits, st.booleans())
def test_the_stored_layer_computes_what_was_trained(rng, bits, dynamic_activations):
    _, layer = draw_layer(rng, bits=bits, dynamic_activations=dynamic_activations)
    stored = layer.to_quantized()
    assert stored.dense_weight().shape == (5, 12)
    np.testing.assert_array_equal(stored.dense_weight(), layer.dense_weight())
    x = rng.standard_normal((2, 3, 12))
    np.testing.assert_allclose(stored(x), layer(x), rtol=1e-10, atol=1e-10)
    assert stored.dynamic_activations == dynamic_activations and stored.codes.dtype in (
        np.int8,
        np.uint8,
    )


@given(generators(), every_bits)
def test_a_layer_begins_with_scales_that_are_at_most_those_of_the_whole_range(rng, bits):
    linear = Linear(rng.standard_normal((5, 12)))
    layer = FakeQuantizedLinear.from_linear(linear, bits=bits)
    sizes, high = np.abs(linear.weight), code_range(bits, True)[1]
    expected = np.minimum(2 * sizes.mean(axis=1) / np.sqrt(high), sizes.max(axis=1) / high)
    np.testing.assert_allclose((layer.scale * layer.factor)[:, 0], expected, rtol=1e-12)
    assert layer.out_features == 5 and layer.in_features == 12 and layer.bias is None


def test_rows_of_zeros_stay_zeros():
    layer = FakeQuantizedLinear.from_linear(Linear(np.zeros((2, 3))), bits=2)
    np.testing.assert_array_equal(layer.dense_weight(), 0)
    assert np.all(layer.scale > 0) and np.all(layer.to_quantized().dense_weight() == 0)


@pytest.mark.parametrize("dynamic_activations", [True, False])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_weights_scales_and_bias_are_trained_and_the_loss_falls(dynamic_activations, dtype):
    rng = np.random.default_rng(1)
    linear, layer = draw_layer(rng, dtype, bits=3, dynamic_activations=dynamic_activations)
    layer = map_arrays(lambda path, array: array.copy(), layer)
    x = rng.standard_normal((40, 12)).astype(dtype)
    loss_of = value_and_grad(lambda layer: hidden_state_loss(layer(x), linear(x)))
    parameters = named_parameters(layer)
    assert list(parameters) == ["weight", "factor", "bias"]
    optimizer, (first, gradients) = AdamW(parameters, weight_decay=0.0), loss_of(layer)
    for path, gradient in named_parameters(gradients).items():
        assert np.any(gradient) and gradient.dtype == dtype and gradient.shape == parameters[path].shape
    before = layer.factor.copy()
    for _ in range(150):
        optimizer.step(named_parameters(loss_of(layer)[1]), 1e-2)
    assert loss_of(layer)[0] < 0.7 * first
    assert np.all(layer.factor != before)
    stored = layer.to_quantized()
    np.testing.assert_allclose(stored(x), layer(x), rtol=1e-3, atol=1e-3)


def test_the_gradient_of_a_scale_is_that_of_its_weights_added_up():
    """Through the layer: with y = sum of the output, dL/dfactor = scale * dL/dscale of fake_quantize."""
    rng = np.random.default_rng(2)
    _, layer = draw_layer(rng, bits=3)
    x = rng.standard_normal((7, 12))
    target = np.zeros((7, 5))
    gradients = value_and_grad(lambda layer: hidden_state_loss(layer(x), target))(layer)[1]
    dy = 2 * layer(x) / 35  # of the mean square
    scale = layer.scale * layer.factor
    _, vjp = fake_quantize.with_vjp(layer.weight, scale, np.zeros_like(scale, np.int32), bits=3)
    dweight, dscale, _ = vjp(dy.T @ x)
    np.testing.assert_allclose(gradients.weight, dweight, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(gradients.factor, dscale * layer.scale, rtol=1e-9, atol=1e-12)


@given(generators(), every_bits, st.booleans(), st.sampled_from([(), (1, 1), (5, 1), (1, 6)]), st.data())
def test_gradients_are_those_of_the_formulas(rng, bits, symmetric, shape, data):
    """Also for entries exactly at the first and the last code, which are inside, for scales of every shape."""
    low, high = code_range(bits, symmetric)
    dtype = data.draw(st.sampled_from([np.float32, np.float64]))
    scale = (2.0 ** rng.integers(-3, 3, shape)).astype(dtype)
    zero_point = (np.zeros(shape) if symmetric else np.array(rng.integers(low, high + 1, shape))).astype(np.int32)
    steps = rng.choice([low, low - 0.25, high, high + 0.25, 0, 0.25, 0.75, -1.25], (5, 6)) - zero_point
    x, dy = (steps * scale).astype(dtype), rng.standard_normal((5, 6)).astype(dtype)
    y, vjp = fake_quantize.with_vjp(x, scale, zero_point, bits=bits, symmetric=symmetric)
    inside = (steps + zero_point >= low) & (steps + zero_point <= high)
    distance = np.clip(np.round(steps) + zero_point, low, high) - zero_point
    np.testing.assert_array_equal(y, scale * distance.astype(dtype), strict=True)
    dx, dscale, dzero = vjp(dy)
    np.testing.assert_array_equal(dx, dy * inside, strict=True)
    slope = dy * np.where(inside, distance - steps, distance)
    axes = tuple(axis for axis in (0, 1) if not shape or shape[axis] == 1)
    count = 30 / np.prod(shape)
    expected = np.sum(slope, axis=axes).reshape(shape) / np.sqrt(count * high)
    np.testing.assert_allclose(dscale, expected, rtol=1e-4 if dtype == np.float32 else 1e-10, atol=1e-5)
    assert dscale.dtype == dtype and dscale.shape == shape and dzero is None


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_one_number_that_is_not_finite_is_refused(bad):
    x, one, zero = np.array([[1.0, bad, 2.0]]), np.array(1.0), np.array(0)
    with pytest.raises(DataError, match="cannot quantize"):
        fake_quantize(x, one, zero)
    with pytest.raises(DataError, match="cannot quantize"):
        fake_quantize_tokens(x)
    with pytest.raises(DataError, match="scale must be finite and above 0"):
        fake_quantize(x[:, :1], np.array([bad]), zero)


@pytest.mark.parametrize("dynamic_activations", [True, False])
@pytest.mark.parametrize("bits", [4, 8])
def test_a_layer_rounds_with_its_own_number_of_bits(bits, dynamic_activations):
    rng = np.random.default_rng(3)
    _, layer = draw_layer(rng, bits=bits, dynamic_activations=dynamic_activations)
    scale = layer.factor * layer.scale
    expected = scale * np.clip(np.round(layer.weight / scale), -(2 ** (bits - 1)) + 1, 2 ** (bits - 1) - 1)
    np.testing.assert_array_equal(layer.dense_weight(), expected)
    stored = layer.to_quantized()
    assert getattr(stored, "bits", 8) == bits and stored.zero_point is None and stored.bias is layer.bias
    np.testing.assert_array_equal(stored.scale, scale)
    x = rng.standard_normal((3, 12))
    rounded = quantize_tokens(x).dequantize() if dynamic_activations else x
    np.testing.assert_array_equal(layer(x), Linear(expected, layer.bias)(rounded))


def test_tokens_need_an_input_and_rows_are_optional():
    for shape in ((2, 0), (0,), (2, 3, 0)):
        with pytest.raises(DataError, match="x"):
            fake_quantize_tokens(np.zeros(shape))
    for shape in ((0, 3), (2, 0, 3)):
        assert fake_quantize_tokens(np.zeros(shape)).shape == shape
    token = np.array([127.0, 3.4, -0.4])
    assert fake_quantize_tokens(token).tolist() == [127, 3, 0]
