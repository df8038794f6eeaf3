"""Layers with packed weights: integers of 2 to 8 bits with groups, and 16 levels with 8-bit scales."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.compression.layers import draw_linear
from tests.strategies import generators
from tinyslm.autodiff import value_and_grad
from tinyslm.compression.distillation import hidden_state_loss
from tinyslm.compression.quantization import (
    CodebookLinear,
    PackedLinear,
    QuantizedLinear,
    double_quantize,
    float4_levels,
    integer_linear,
    linear_from_codes,
    normal_float4_levels,
    quantize,
    quantize_to_levels,
    unpack_codes,
)
from tinyslm.errors import ConfigError
from tinyslm.modules import Linear
from tinyslm.tree import Module, named_arrays, named_parameters

forms = st.sampled_from([{"axis": 0}, {"axis": None}, {"group_size": 3}, {"group_size": 6}, {"group_size": 1}])
LEVELS = {"nf4": normal_float4_levels(), "fp4": float4_levels()}


@given(rng=generators(), bits=st.integers(2, 8), form=forms, symmetric=st.booleans(), biased=st.booleans())
def test_a_packed_layer_multiplies_by_the_array_that_it_was_made_of(rng, bits, form, symmetric, biased):
    linear = draw_linear(rng, biased=biased, shape=(5, 6))
    weight = quantize(linear.weight, bits=bits, symmetric=symmetric, **form)
    layer = linear_from_codes(weight, linear.bias)
    assert type(layer) is (QuantizedLinear if bits == 8 and "axis" in form else PackedLinear)
    np.testing.assert_array_equal(layer.dense_weight(), weight.dequantize())
    assert (layer.out_features, layer.in_features) == (5, 6)
    x = rng.standard_normal((2, 3, 6))
    expected = Linear(weight.dequantize(), linear.bias)(x)
    np.testing.assert_allclose(layer(x), expected, rtol=1e-12, atol=1e-12)


@given(rng=generators(), bits=st.integers(2, 7), axis=st.sampled_from([0, None]), symmetric=st.booleans())
def test_packed_integer_products_are_those_of_the_codes(rng, bits, axis, symmetric):
    linear = draw_linear(rng, shape=(5, 7))
    weight = quantize(linear.weight, bits=bits, symmetric=symmetric, axis=axis)
    layer = linear_from_codes(weight, linear.bias, dynamic_activations=True)
    x = rng.standard_normal((3, 7))
    expected = integer_linear(x, weight.codes, weight.scale, weight.zero_point, linear.bias)
    np.testing.assert_array_equal(layer(x), expected)


@pytest.mark.parametrize("bits", range(2, 9))
@pytest.mark.parametrize("group_size", [3, 6])
def test_packed_bytes_are_the_bits_that_were_asked_for(bits, group_size):
    """Of 5 rows of 6 codes each row begins at a whole byte; the symmetric zero points are not stored."""
    weight = np.random.default_rng(0).standard_normal((5, 6)).astype(np.float32)
    layer = linear_from_codes(quantize(weight, bits=bits, group_size=group_size))
    sizes = {name: array.nbytes for name, array in named_arrays(layer).items()}
    assert sizes == {"codes": 5 * -(-6 * bits // 8), "scale": 5 * 6 // group_size * 4}
    assert layer.num_bytes() == sum(sizes.values()) and layer.num_bits() == 8 * layer.num_bytes()
    assert layer.num_parameters() == 30 and layer.multiply_adds() == 30


def test_groups_have_no_common_scale_for_an_integer_product():
    weight = quantize(np.ones((2, 4)), bits=4, group_size=2)
    with pytest.raises(ConfigError, match="one scale per row"):
        linear_from_codes(weight, dynamic_activations=True)


@given(
    rng=generators(), name=st.sampled_from(sorted(LEVELS)), biased=st.booleans(), block_size=st.sampled_from([1, 2, 8])
)
def test_a_codebook_layer_holds_the_nearest_levels_and_doubly_quantized_scales(rng, name, biased, block_size):
    linear = draw_linear(rng, biased=biased, shape=(5, 8))
    layer = CodebookLinear.from_linear(linear, LEVELS[name], block_size=block_size)
    found = quantize_to_levels(linear.weight, LEVELS[name], block_size)
    scales = double_quantize(found.absmax).dequantize()
    np.testing.assert_array_equal(layer.scales(), scales)
    expected = LEVELS[name][found.codes] * np.repeat(scales, block_size, axis=1)
    np.testing.assert_array_equal(layer.dense_weight(), expected)
    x = rng.standard_normal((2, 3, 8))
    np.testing.assert_allclose(layer(x), Linear(expected, linear.bias)(x), rtol=1e-12, atol=1e-12)


def test_normal_float_with_double_quantization_takes_four_and_an_eighth_bits():
    """4 + 8 / 64 + 32 / (64 * 256) bits per weight, and the 16 levels and one mean for the whole layer."""
    weight = np.random.default_rng(0).standard_normal((512, 256)).astype(np.float32)
    layer = CodebookLinear.from_linear(Linear(weight), LEVELS["nf4"])
    per_weight = 4 + 8 / 64 + 32 / (64 * 256)
    assert layer.num_bits() == per_weight * weight.size + 17 * 32
    assert layer.codes.nbytes == weight.size // 2


@pytest.mark.parametrize("kind", ["packed", "integers", "codebook"])
def test_gradients_reach_the_input_and_the_bias_and_nothing_else(kind):
    rng = np.random.default_rng(0)
    linear = draw_linear(rng, shape=(5, 8))
    if kind == "codebook":
        layer = CodebookLinear.from_linear(linear, LEVELS["nf4"], block_size=4)
    else:
        weight = quantize(linear.weight, bits=3, axis=0)
        layer = linear_from_codes(weight, linear.bias, dynamic_activations=kind == "integers")
    assert list(named_parameters(layer)) == ["bias"]
    before = Linear(rng.standard_normal((8, 4)))  # its gradient depends on the gradient of the layer's input
    x, y = rng.standard_normal((3, 4)), rng.standard_normal((3, 5))

    def loss(layers, x):
        return hidden_state_loss(layers.second(layers.first(x)), y)

    pair = Pair(before, layer)
    gradient = value_and_grad(loss)(pair, x)[1]
    error = 2 * (layer(before(x)) - y) / y.size
    np.testing.assert_allclose(gradient.second.bias, np.sum(error, axis=0), rtol=1e-10)
    np.testing.assert_allclose(gradient.first.weight, (error @ layer.dense_weight()).T @ x, rtol=1e-10)


class Pair(Module):
    """Two layers, one after the other."""

    first: object
    second: object


@given(rng=generators(), bits=st.sampled_from([2, 4]), count=st.integers(1, 9))
def test_codes_that_fill_bytes_are_looked_up_as_they_are_unpacked_bit_by_bit(rng, bits, count):
    packed = rng.integers(0, 256, (3, -(-count * bits // 8))).astype(np.uint8)
    shifts = np.arange(0, 8, bits)
    expected = (packed[..., None] >> shifts & 2**bits - 1).reshape(3, -1)[:, :count].astype(int) - 2 ** (bits - 1)
    np.testing.assert_array_equal(unpack_codes(packed, bits, count), expected)
