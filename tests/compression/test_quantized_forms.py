"""Quantized layers: the forms of their arrays in a file, refused settings, and what `from_linear` stores."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.compression.layers import draw_linear
from tests.strategies import generators
from tinyslm.compression.quantization import (
    AbsmaxCodebookLinear,
    CodebookLinear,
    FakeQuantizedLinear,
    OutlierLinear,
    PackedLinear,
    QuantizedEmbedding,
    QuantizedLinear,
    StaticQuantizedLinear,
    affine_parameters,
    double_quantize,
    float4_levels,
    linear_from_codes,
    normal_float4_levels,
    pack_codes,
    packed_length,
    quantize,
    quantize_to_levels,
)
from tinyslm.errors import ConfigError
from tinyslm.modules import Embedding, Linear

SHAPE = (5, 6)
FLOATING = np.floating
PARTS = ({"axis": 0}, {}, {"group_size": 2}, {"group_size": 3}, {"group_size": 6})  # that share a scale
DTYPES = pytest.mark.parametrize("dtype", [np.float32, np.float64])
BIAS = {"bias": (FLOATING, (5,))}


def forms(layer, settings=None, arrays=None):
    return layer.array_forms(SHAPE, settings or {}, arrays or {})


def test_forms_of_layers_with_one_code_per_byte():
    """{array: (kind, shape)} as a file must have them, for a matrix (5, 6)."""
    codes = {"codes": (np.int8, SHAPE)}
    rows = {"scale": (FLOATING, (5, 1)), "zero_point": (np.int32, (5, 1))}
    whole = {"scale": (FLOATING, ()), "zero_point": (np.int32, ())}
    for found in (np.ones((5, 1)), np.ones(5), np.ones((2, 2))):
        assert forms(QuantizedLinear, arrays={"scale": found}) == codes | rows | BIAS
    for arrays in ({"scale": np.float32(1)}, {}):
        assert forms(QuantizedLinear, arrays=arrays) == codes | whole | BIAS
    scale = {"scale": (FLOATING, (5, 1))}
    inputs = {"correction": (np.int32, (5,)), "input_scale": (FLOATING, ()), "input_zero_point": (np.int32, ())}
    assert forms(StaticQuantizedLinear) == codes | scale | BIAS | inputs
    assert forms(QuantizedEmbedding) == codes | scale
    for arrays, count in (({}, 0), ({"columns": np.arange(2)}, 2), ({"columns": np.ones((3, 1))}, 3)):
        outliers = {"columns": (np.int32, (count,)), "outlier_weight": (FLOATING, (5, count))}
        assert forms(OutlierLinear, arrays=arrays) == codes | scale | BIAS | outliers


@pytest.mark.parametrize("bits", [None, *range(2, 9)])
def test_forms_of_packed_layers(bits):
    """Scales per row, per group, or one for the matrix. Scales that cannot be per group are expected per row."""
    settings = {"in_features": 6} | ({} if bits is None else {"bits": bits})
    codes = {"codes": (np.uint8, (5, packed_length(6, bits or 4)))}
    for found, shape in (
        ((), ()),
        ((5, 1), (5, 1)),
        ((5, 2), (5, 2)),
        ((5, 6), (5, 6)),
        ((7, 3), (5, 3)),
        ((5, 4), (5, 1)),
        ((5, 0), (5, 1)),
        ((5,), (5, 1)),
        ((5, 1, 2), (5, 1)),
    ):
        scales = {"scale": (FLOATING, shape), "zero_point": (np.int32, shape)}
        assert forms(PackedLinear, settings, {"scale": np.ones(found)}) == codes | scales | BIAS
    assert forms(PackedLinear, settings)["scale"] == (FLOATING, ())


def test_settings_of_packed_layers_that_are_refused():
    for wrong in (5, 7, "6", None):
        with pytest.raises(ConfigError, match=r"in_features is .*, expected 6"):
            forms(PackedLinear, {"in_features": wrong})
        with pytest.raises(ConfigError, match=r"in_features is .*, expected 6"):
            forms(CodebookLinear, {"in_features": wrong, "block_size": 3})
    with pytest.raises(ConfigError, match="in_features is None, expected 6"):
        forms(PackedLinear)
    for bits in (1, 9, 4.0, True):
        with pytest.raises(ConfigError, match="bits must be a whole number from 2 to 8"):
            forms(PackedLinear, {"in_features": 6, "bits": bits})
        with pytest.raises(ConfigError, match="bits must be a whole number from 2 to 8"):  # before any other setting
            forms(PackedLinear, {"bits": bits})
    dynamic = {"in_features": 6, "dynamic_activations": True}
    for shape in ((), (5, 1), (5, 4)):
        forms(PackedLinear, dynamic, {"scale": np.ones(shape)})
    for groups in (2, 3, 6):
        with pytest.raises(ConfigError, match=f"one scale per row, found {groups} per row"):
            forms(PackedLinear, dynamic, {"scale": np.ones((5, groups))})
        forms(PackedLinear, dynamic | {"dynamic_activations": False}, {"scale": np.ones((5, groups))})


def test_forms_of_codebook_layers():
    for shape, block_size, steps in (
        ((5, 6), 3, 1),
        ((128, 6), 3, 1),
        ((129, 6), 3, 2),
        ((600, 2), 1, 5),
        ((5, 6), 6, 1),
        ((128, 6), 4, 1),
        ((129, 6), 4, 2),
        ((256, 6), 64, 1),
        ((257, 6), 64, 2),
    ):
        found = CodebookLinear.array_forms(shape, {"in_features": shape[1], "block_size": block_size}, {})
        assert found == {
            "codes": (np.uint8, (shape[0], -(-shape[1] // 2))),
            "levels": (FLOATING, (16,)),
            "scale_codes": (np.int8, (256 * steps,)),
            "scale_steps": (FLOATING, (steps,)),
            "scale_mean": (FLOATING, ()),
            "bias": (FLOATING, (shape[0],)),
        }
    assert CodebookLinear.array_forms((5, 128), {"in_features": 128}, {})["codes"] == (np.uint8, (5, 64))
    for block_size in (0, -1):
        with pytest.raises(ConfigError, match=f"block_size must be at least 1, found {block_size}"):
            forms(CodebookLinear, {"in_features": 6, "block_size": block_size})


@pytest.mark.parametrize("columns", [6, 7])
def test_forms_of_codebook_layers_with_scales_in_floating_point(columns):
    for block_size, blocks in ((1, columns), (3, -(-columns // 3)), (64, 1)):
        settings = {"in_features": columns, "block_size": block_size}
        assert AbsmaxCodebookLinear.array_forms((5, columns), settings, {}) == {
            "codes": (np.uint8, (5, -(-columns // 2))),
            "levels": (FLOATING, (16,)),
            "absmax": (FLOATING, (5, blocks)),
            "bias": (FLOATING, (5,)),
        }
    assert AbsmaxCodebookLinear.array_forms((5, 129), {"in_features": 129}, {})["absmax"] == (FLOATING, (5, 3))
    for block_size in (0, -1):
        with pytest.raises(ConfigError, match=f"block_size must be at least 1, found {block_size}"):
            forms(AbsmaxCodebookLinear, {"in_features": 6, "block_size": block_size})


@DTYPES
@given(generators(), st.sampled_from([1, 2, 3, 4, 6, 64]), st.sampled_from([3, 15, 16]))
def test_a_codebook_layer_with_scales_in_floating_point(dtype, rng, block_size, count):
    """The weights are those of the nearest levels, with scales that are not rounded."""
    levels = {3: np.array([-1.0, 0.0, 0.75]), 15: float4_levels(), 16: normal_float4_levels()}[count]
    linear = draw_linear(rng, dtype, shape=SHAPE)
    layer = AbsmaxCodebookLinear.from_linear(linear, levels, block_size=block_size)
    found = quantize_to_levels(linear.weight, levels, block_size)
    np.testing.assert_array_equal(
        layer.levels, np.append(levels, [levels[-1]] * (16 - count)).astype(dtype), strict=True
    )
    np.testing.assert_array_equal(layer.absmax, found.absmax, strict=True)
    np.testing.assert_array_equal(layer.dense_weight(), found.dequantize(levels), strict=True)
    assert (layer.in_features, layer.block_size) == (6, block_size) and layer.bias is linear.bias


def layers(rng, dtype, biased=True):
    """One layer of each kind and variant, made of a matrix (5, 6)."""
    linear = draw_linear(rng, dtype, biased, SHAPE)
    weight, bias = linear.weight, linear.bias
    yield from (
        QuantizedLinear.from_linear(linear, symmetric=s, per_channel=p) for s in (True, False) for p in (True, False)
    )
    for bits in (2, 3, 4, 8):
        for part in PARTS:
            yield linear_from_codes(quantize(weight, bits=bits, symmetric=False, **part), bias)
    yield StaticQuantizedLinear.from_linear(linear, -1.0, 2.0)
    yield OutlierLinear.from_linear(linear, np.arange(6.0), threshold=3.0)
    for kind in (CodebookLinear, AbsmaxCodebookLinear):
        yield from (kind.from_linear(linear, float4_levels(), block_size=size) for size in (1, 2, 4, 64))


@DTYPES
@pytest.mark.parametrize("biased", [True, False])
def test_the_arrays_of_a_layer_have_the_stated_forms(dtype, biased):
    for layer in layers(np.random.default_rng(0), dtype, biased):
        arrays = {name: value for name, value in vars(layer).items() if isinstance(value, np.ndarray)}
        settings = {name: value for name, value in vars(layer).items() if name not in arrays}
        stated = type(layer).array_forms(SHAPE, settings, arrays)
        assert arrays.keys() <= stated.keys()
        for name, array in arrays.items():
            kind, shape = stated[name]
            assert np.issubdtype(array.dtype, kind) and array.shape == shape, (type(layer).__name__, name)
            assert kind is not FLOATING or array.dtype == dtype
        assert (layer.out_features, layer.in_features) == SHAPE
        assert layer.dense_weight().dtype == dtype and layer.dense_weight().shape == SHAPE
        assert layer.num_parameters() == 30 + (5 if biased else 0)


@given(
    generators(),
    st.integers(2, 8),
    st.booleans(),
    st.sampled_from(PARTS),
)
def test_a_layer_is_made_of_codes_without_a_change(rng, bits, symmetric, part):
    """8 bits without groups are stored one per byte, all others packed. Zero points that are all 0 are left out."""
    weight, bias = quantize(rng.standard_normal(SHAPE), bits=bits, symmetric=symmetric, **part), rng.standard_normal(5)
    layer = linear_from_codes(weight, bias)
    assert layer.scale is weight.scale and layer.bias is bias and layer.dynamic_activations is False
    assert layer.zero_point is (weight.zero_point if np.any(weight.zero_point) else None)
    if bits == 8 and "group_size" not in part:
        assert type(layer) is QuantizedLinear and layer.codes is weight.codes
    else:
        assert type(layer) is PackedLinear and (layer.in_features, layer.bits) == (6, bits)
        np.testing.assert_array_equal(layer.codes, pack_codes(weight.codes, bits))
    unpacked = layer.quantized_weight()
    np.testing.assert_array_equal(unpacked.codes, weight.codes, strict=True)
    groups = weight.scale.shape[1] if weight.scale.ndim else 1
    assert unpacked.bits == bits and unpacked.group_size == (6 // groups if groups > 1 else None)
    np.testing.assert_array_equal(layer.dense_weight(), weight.dequantize())
    if "group_size" in part:
        with pytest.raises(ConfigError, match="one scale per row, found groups"):
            linear_from_codes(weight, bias, dynamic_activations=True)
    else:
        assert linear_from_codes(weight, bias, dynamic_activations=True).dynamic_activations is True


@DTYPES
@given(generators(), st.booleans(), st.booleans())
def test_from_linear_quantizes_per_row_or_as_a_whole(dtype, rng, symmetric, per_channel):
    linear = draw_linear(rng, dtype)
    layer = QuantizedLinear.from_linear(linear, symmetric=symmetric, per_channel=per_channel)
    expected = quantize(linear.weight, symmetric=symmetric, axis=0 if per_channel else None)
    np.testing.assert_array_equal(layer.codes, expected.codes, strict=True)
    np.testing.assert_array_equal(layer.scale, expected.scale, strict=True)
    if symmetric:
        assert layer.zero_point is None
    else:
        np.testing.assert_array_equal(layer.zero_point, expected.zero_point, strict=True)
    assert layer.bias is linear.bias and layer.dynamic_activations is False


@DTYPES
@given(generators(), st.sampled_from([1, 2, 3, 4, 6, 64]), st.sampled_from([3, 15, 16]))
def test_a_codebook_layer_stores_levels_codes_and_scales(dtype, rng, block_size, count):
    """The last level is repeated up to 16; the indices minus 8 are packed as 4-bit codes."""
    levels = {3: np.array([-1.0, 0.0, 0.75]), 15: float4_levels(), 16: normal_float4_levels()}[count]
    linear = draw_linear(rng, dtype, shape=SHAPE)
    layer = CodebookLinear.from_linear(linear, levels, block_size=block_size)
    found = quantize_to_levels(linear.weight, levels, block_size)
    scales = double_quantize(found.absmax)
    padded = np.append(levels, [levels[-1]] * (16 - count)).astype(dtype)
    np.testing.assert_array_equal(layer.levels, padded, strict=True)
    packed = pack_codes((found.codes.astype(int) - 8).astype(np.int8), 4)
    np.testing.assert_array_equal(layer.codes, packed, strict=True)
    np.testing.assert_array_equal(layer.scale_codes, scales.differences.codes, strict=True)
    np.testing.assert_array_equal(layer.scale_steps, scales.differences.scale, strict=True)
    np.testing.assert_array_equal(layer.scale_mean, scales.mean, strict=True)
    assert (layer.in_features, layer.block_size) == (6, block_size) and layer.bias is linear.bias
    np.testing.assert_array_equal(layer.scales(), scales.dequantize(), strict=True)
    expected = levels.astype(dtype)[found.codes] * np.repeat(scales.dequantize(), block_size, axis=1)[:, :6]
    np.testing.assert_array_equal(layer.dense_weight(), expected, strict=True)


def test_a_large_codebook_layer_has_several_steps_for_its_scales():
    linear = draw_linear(np.random.default_rng(1), shape=(300, 4))
    layer = CodebookLinear.from_linear(linear, float4_levels(), block_size=2)
    assert layer.scale_steps.shape == (3,) and layer.scale_codes.shape == (768,)
    found = quantize_to_levels(linear.weight, float4_levels(), 2)
    np.testing.assert_array_equal(layer.scales(), double_quantize(found.absmax, 256).dequantize())


def test_an_embedding_is_quantized_per_token():
    table = np.random.default_rng(5).standard_normal((7, 3)) * np.arange(1.0, 8)[:, None]
    layer, expected = QuantizedEmbedding.from_embedding(Embedding(table)), quantize(table, axis=0)
    np.testing.assert_array_equal(layer.codes, expected.codes, strict=True)
    np.testing.assert_array_equal(layer.scale, expected.scale, strict=True)
    for found in (layer.table, layer.dense_weight(), layer(np.arange(7))):
        np.testing.assert_array_equal(found, expected.dequantize(), strict=True)


@DTYPES
@pytest.mark.parametrize("bits", [2, 3, 8])
def test_first_step_sizes_of_training_are_the_smaller_of_two(dtype, bits):
    rows = np.array([[1.0, 1, 1, -1], [8, 0, 0, 0], [0, 0, 0, 0], [-3, 2, 1, 0.5]], dtype)
    layer, high = FakeQuantizedLinear.from_linear(Linear(rows), bits=bits), 2 ** (bits - 1) - 1
    covering = quantize(rows, bits=bits, axis=0).scale
    usual = 2 * np.mean(np.abs(rows), axis=1, keepdims=True) / dtype(np.sqrt(high))
    expected = np.where(usual > 0, np.minimum(usual, covering), covering)
    np.testing.assert_array_equal(layer.scale, expected, strict=True)
    np.testing.assert_array_equal(layer.factor, np.ones((4, 1), dtype), strict=True)
    assert (layer.bits, layer.dynamic_activations, layer.bias) == (bits, False, None) and layer.weight is rows
    assert layer.scale[2] == 1


@given(generators(), st.sampled_from([(-1.0, 2.0), (0.5, 3.0), (-4.0, -1.0), (-2.0, 0.0)]))
def test_a_static_layer_stores_the_codes_of_zero_times_the_sums_of_rows(rng, ends):
    linear = draw_linear(rng)
    layer = StaticQuantizedLinear.from_linear(linear, *ends)
    weight = quantize(linear.weight, axis=0)
    scale, zero_point = affine_parameters(np.float64(ends[0]), np.float64(ends[1]), symmetric=False)
    np.testing.assert_array_equal(layer.codes, weight.codes, strict=True)
    np.testing.assert_array_equal(layer.scale, weight.scale, strict=True)
    correction = (int(zero_point) * weight.codes.astype(int).sum(axis=1)).astype(np.int32)
    np.testing.assert_array_equal(layer.correction, correction, strict=True)
    np.testing.assert_array_equal(layer.input_scale, scale)
    np.testing.assert_array_equal(layer.input_zero_point, zero_point)
    assert layer.bias is linear.bias


@DTYPES
@pytest.mark.parametrize("other", [np.float32, np.float64])
def test_calls_keep_the_shape_and_the_inputs(dtype, other):
    """Layers with products of their own return the dtype of the inputs, whatever the dtype of the stored arrays."""
    rng = np.random.default_rng(3)
    for layer in layers(rng, other, biased=False):
        x = rng.standard_normal((2, 3, 6)).astype(dtype)
        before = x.copy()
        y = layer(x)
        assert y.shape == (2, 3, 5)
        if not isinstance(layer, PackedLinear | CodebookLinear | AbsmaxCodebookLinear):  # these multiply like `Linear`
            assert y.dtype == dtype
        np.testing.assert_array_equal(x, before)
