"""Static quantization: integer products with a fixed range of the inputs."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from tests.compression.layers import draw_linear
from tests.strategies import generators
from tinyslm.compression.quantization import StaticQuantizedLinear, affine_parameters, encode, static_linear
from tinyslm.modules import Linear

ends = st.tuples(st.floats(-3, 0), st.floats(0.1, 3))


def rounded_inputs(x, lowest, highest):
    """x quantized to 8 bits with a fixed range, and dequantized."""
    scale, zero_point = affine_parameters(np.float64(lowest), np.float64(highest), symmetric=False)
    return scale * (encode(x, scale, zero_point, symmetric=False).astype(float) - zero_point)


@given(rng=generators(), ends=ends, biased=st.booleans())
def test_it_is_the_product_of_rounded_inputs_and_rounded_weights(rng, ends, biased):
    """Inputs beyond the range are clipped to its end."""
    linear = draw_linear(rng, biased=biased)
    layer = StaticQuantizedLinear.from_linear(linear, *ends)
    x = 2 * rng.standard_normal((2, 3, 7))
    expected = Linear(layer.dense_weight(), linear.bias)(rounded_inputs(x, *ends))
    np.testing.assert_allclose(layer(x), expected, rtol=1e-12, atol=1e-12)


@given(rng=generators(), ends=ends)
def test_a_token_does_not_depend_on_the_others(rng, ends):
    layer = StaticQuantizedLinear.from_linear(draw_linear(rng), *ends)
    x = rng.standard_normal((4, 7))
    np.testing.assert_array_equal(layer(x)[1:2], layer(x[1:2]))


@given(rng=generators(), ends=ends)
def test_zero_inputs_give_the_bias_exactly(rng, ends):
    """0 has a code of its own, and the integer correction subtracts its product exactly."""
    linear = draw_linear(rng)
    layer = StaticQuantizedLinear.from_linear(linear, *ends)
    np.testing.assert_array_equal(layer(np.zeros((1, 7)))[0], linear.bias)


@given(rng=generators(), ends=ends)
def test_gradients_pass_the_rounding_by_and_stop_where_inputs_were_clipped(rng, ends):
    linear = draw_linear(rng)
    layer = StaticQuantizedLinear.from_linear(linear, *ends)
    x = 2 * rng.standard_normal((3, 7))
    dy = rng.standard_normal((3, 5))
    _, vjp = static_linear.with_vjp(
        x, layer.codes, layer.scale, layer.correction, layer.input_scale, layer.input_zero_point, layer.bias
    )
    dx, *others, dbias = vjp(dy)
    scale, zero_point = layer.input_scale, layer.input_zero_point
    inside = (x >= scale * (-128 - zero_point)) & (x <= scale * (127 - zero_point))
    np.testing.assert_allclose(dx, (dy @ layer.dense_weight()) * inside, rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(dbias, dy.sum(axis=0), rtol=1e-12)
    assert others == [None] * 5
