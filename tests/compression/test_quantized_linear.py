"""The layer with 8-bit weights: definitions, stored bytes, gradients, tiles."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.compression.layers import draw_linear
from tests.strategies import generators
from tinyslm.autodiff import check_gradient, value_and_grad
from tinyslm.compression.distillation import hidden_state_loss
from tinyslm.compression.pruning import MaskedLinear, magnitude_mask
from tinyslm.compression.quantization import QuantizedLinear, integer_linear, quantize_tokens, weight_only_linear
from tinyslm.compression.quantization import quantized_linear as implementation
from tinyslm.compression.quantization.quantized_linear import integer_linear_definition, weight_only_linear_definition
from tinyslm.modules import Linear
from tinyslm.tree import named_parameters

variants = pytest.mark.parametrize(
    "settings", [{"symmetric": s, "per_channel": p} for s in (True, False) for p in (True, False)]
)


@variants
@given(rng=generators(), biased=st.booleans())
def test_weight_only_is_the_product_with_the_dequantized_weight(rng, biased, settings):
    linear = draw_linear(rng, biased=biased)
    layer = QuantizedLinear.from_linear(linear, **settings)
    x = rng.standard_normal((2, 3, 7))
    expected = Linear(layer.dense_weight(), linear.bias)(x)
    np.testing.assert_allclose(layer(x), expected, rtol=1e-12, atol=1e-12)
    steps = np.broadcast_to(layer.scale, (5, 7))
    assert np.all(np.abs(layer.dense_weight() - linear.weight) <= steps / 2 * (1 + 1e-9))


@variants
@given(rng=generators(), biased=st.booleans())
def test_dynamic_activation_quantization_is_the_product_of_the_two_dequantized(rng, biased, settings):
    linear = draw_linear(rng, biased=biased)
    layer = QuantizedLinear.from_linear(linear, dynamic_activations=True, **settings)
    x = rng.standard_normal((2, 3, 7))
    rounded = quantize_tokens(x.reshape(6, 7)).dequantize().reshape(2, 3, 7)
    expected = Linear(layer.dense_weight(), linear.bias)(rounded)
    np.testing.assert_allclose(layer(x), expected, rtol=1e-12, atol=1e-12)


@variants
@pytest.mark.parametrize(
    ("fast", "definition"),
    [(weight_only_linear, weight_only_linear_definition), (integer_linear, integer_linear_definition)],
)
@given(
    rng=generators(),
    tokens=st.integers(0, 40),
    shape=st.tuples(st.integers(1, 9), st.integers(1, 70)),
    dtype=st.sampled_from([np.float32, np.float64]),
    biased=st.booleans(),
)
def test_the_fast_form_equals_the_definition(fast, definition, rng, tokens, shape, dtype, biased, settings):
    """Up to the rounding of floating-point sums, whose bound is proportional to the sum of the magnitudes."""
    layer = QuantizedLinear.from_linear(draw_linear(rng, dtype, biased, shape), **settings)
    arguments = (layer.codes, layer.scale, layer.zero_point, layer.bias)
    x = rng.standard_normal((2, tokens, shape[1])).astype(dtype)
    found, expected = fast(x, *arguments), definition(x, *arguments)
    assert found.dtype == expected.dtype == dtype and found.shape == expected.shape
    bound = np.abs(x) @ np.abs(layer.dense_weight()).T + 1
    assert np.all(np.abs(found - expected) <= 300 * np.finfo(dtype).eps * bound)


@variants
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("dynamic_activations", [True, False])
def test_stored_bytes_and_types(settings, dtype, dynamic_activations):
    """One byte per weight; scale and zero point per row or one for the matrix."""
    rng = np.random.default_rng(0)
    layer = QuantizedLinear.from_linear(draw_linear(rng, dtype), dynamic_activations=dynamic_activations, **settings)
    assert layer.codes.dtype == np.int8 and layer.codes.nbytes == 35
    assert layer.scale.shape == ((5, 1) if settings["per_channel"] else ()) and layer.scale.dtype == dtype
    assert (layer.zero_point is None) == settings["symmetric"]
    assert list(named_parameters(layer)) == ["bias"]
    for x_dtype in (np.float32, np.float64):
        x = rng.standard_normal((2, 7)).astype(x_dtype)
        unbiased = layer.replace(bias=None)
        product = integer_linear if dynamic_activations else weight_only_linear
        y, vjp = product.with_vjp(x, unbiased.codes, unbiased.scale, unbiased.zero_point)
        assert y.dtype == x_dtype and vjp(y)[0].dtype == x_dtype


@variants
def test_gradient_of_the_input_and_the_bias(settings):
    rng = np.random.default_rng(1)
    layer = QuantizedLinear.from_linear(draw_linear(rng), **settings)
    x = rng.standard_normal((2, 3, 7))
    arguments = (layer.codes, layer.scale, layer.zero_point, layer.bias)
    assert check_gradient(weight_only_linear, x, *arguments) < 1e-7
    dy = rng.standard_normal((2, 3, 5))
    plain, straight_through = (op.with_vjp(x, *arguments)[1](dy) for op in (weight_only_linear, integer_linear))
    np.testing.assert_allclose(plain[0], dy @ layer.dense_weight(), rtol=1e-12, atol=1e-12)
    np.testing.assert_array_equal(straight_through[0], plain[0])
    assert plain[1:4] == (None, None, None)


def test_only_the_bias_is_trained():
    rng = np.random.default_rng(2)
    layer = QuantizedLinear.from_linear(draw_linear(rng))
    x = rng.standard_normal((4, 7))
    gradients = value_and_grad(lambda layer: hidden_state_loss(layer(x), np.zeros((4, 5))))(layer)[1]
    assert gradients.codes is None and gradients.scale is None
    np.testing.assert_allclose(gradients.bias, layer(x).mean(axis=0) * 2 / 5, rtol=1e-12)


@variants
@pytest.mark.parametrize("tile_rows", [1, 2, 5])
def test_tiles_change_nothing(settings, tile_rows, monkeypatch):
    rng = np.random.default_rng(3)
    layer = QuantizedLinear.from_linear(draw_linear(rng), **settings)
    x, dy = rng.standard_normal((4, 7)), rng.standard_normal((4, 5))
    arguments = (x, layer.codes, layer.scale, layer.zero_point, layer.bias)
    y, vjp = weight_only_linear.with_vjp(*arguments)
    dx = vjp(dy)[0]
    monkeypatch.setattr(implementation, "TILE_BYTES", tile_rows * 7 * 8)
    tiled, tiled_vjp = weight_only_linear.with_vjp(*arguments)
    np.testing.assert_allclose(tiled, y, rtol=1e-12, atol=1e-13)
    np.testing.assert_allclose(tiled_vjp(dy)[0], dx, rtol=1e-12, atol=1e-13)


def test_a_large_layer_is_dequantized_in_tiles_and_by_several_threads_at_once():
    rng = np.random.default_rng(4)
    layer = QuantizedLinear.from_linear(draw_linear(rng, np.float32, shape=(1500, 1024)), symmetric=False)
    inputs = [rng.standard_normal((8, 1024)).astype(np.float32) for _ in range(8)]
    expected = [x @ layer.dense_weight().T + layer.bias for x in inputs]
    with ThreadPoolExecutor(4) as pool:
        outputs = list(pool.map(layer, inputs))
    for y, wanted in zip(outputs, expected, strict=True):
        np.testing.assert_allclose(y, wanted, rtol=1e-4, atol=1e-3)


def test_two_products_at_the_same_time_do_not_share_a_buffer():
    first, second = (np.full((3, 4), value, np.int8) for value in (1, 2))
    (_, tile), (_, other) = (next(implementation.upcast_tiles(c, None, np.float32)) for c in (first, second))
    assert np.all(tile == 1) and np.all(other == 2)


@variants
def test_tokens_do_not_influence_each_other(settings):
    rng = np.random.default_rng(5)
    layer = QuantizedLinear.from_linear(draw_linear(rng), dynamic_activations=True, **settings)
    x = rng.standard_normal((6, 7))
    np.testing.assert_array_equal(layer(np.concatenate([x[:2], 1000 * x[2:]]))[:2], layer(x)[:2])
    np.testing.assert_array_equal(layer(x[3:4])[0], layer(x)[3])


@variants
def test_removed_weights_stay_zero_when_quantized(settings):
    rng = np.random.default_rng(6)
    linear = draw_linear(rng)
    masked = MaskedLinear.from_linear(linear, magnitude_mask(linear.weight, 0.5))
    layer = QuantizedLinear.from_linear(masked, **settings)
    assert not np.any(layer.dense_weight()[~masked.mask])


def test_tokens_of_zeros_give_the_bias():
    layer = QuantizedLinear.from_linear(draw_linear(np.random.default_rng(7)), dynamic_activations=True)
    np.testing.assert_array_equal(layer(np.zeros((3, 7))), np.tile(layer.bias, (3, 1)))
