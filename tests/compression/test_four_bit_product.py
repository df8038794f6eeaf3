"""The product of one token with 4-bit weights, and the layers that dequantize a tile of rows at a time."""

from unittest import mock

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.compression.layers import draw_linear
from tests.strategies import generators
from tinyslm import parallel
from tinyslm.autodiff import check_gradient
from tinyslm.compression.quantization import (
    AbsmaxCodebookLinear,
    CodebookLinear,
    PackedLinear,
    linear_from_codes,
    normal_float4_levels,
    quantize,
    unpack_codes,
)
from tinyslm.compression.quantization import four_bit_product as product_module
from tinyslm.compression.quantization import packed_linear as packed_module
from tinyslm.compression.quantization import quantized_linear as tile_module
from tinyslm.compression.quantization.four_bit_product import four_bit_product, four_bit_product_definition
from tinyslm.compression.quantization.quantized_linear import dequantized_linear
from tinyslm.errors import DataError
from tinyslm.modules import Linear

dtypes = st.sampled_from([np.float32, np.float64])


def small_tiles(tile_bytes):
    """Tiles of few rows, which two threads share."""
    return (
        mock.patch.object(product_module, "TILE_BYTES", tile_bytes),
        mock.patch.object(tile_module, "TILE_BYTES", tile_bytes),
        mock.patch.object(parallel, "WORTH_SHARING", 1),
    )


@given(
    rng=generators(),
    outputs=st.integers(0, 9),
    groups=st.integers(1, 9),
    pairs=st.integers(1, 5),
    dtype=dtypes,
    has_zeros=st.booleans(),
    tile_bytes=st.sampled_from([1, 200, 2**20]),
)
def test_the_product_of_one_token_equals_its_definition(rng, outputs, groups, pairs, dtype, has_zeros, tile_bytes):
    packed = rng.integers(0, 256, (outputs, groups * pairs)).astype(np.uint8)
    scale = rng.uniform(0.5, 2, (outputs, groups)).astype(dtype)
    zero_point = rng.integers(-8, 8, scale.shape).astype(np.int32) if has_zeros else None
    x = rng.standard_normal(2 * groups * pairs).astype(dtype)
    first, second, third = small_tiles(tile_bytes)
    with first, second, third:
        found = four_bit_product(x, packed, scale, zero_point)
    expected = four_bit_product_definition(x, packed, scale, zero_point)
    assert found.dtype == dtype and found.shape == (outputs,)
    bound = 2 * 31 * np.sum(np.abs(x))  # scales up to 2, distances up to 15 + 16
    np.testing.assert_allclose(found, expected, rtol=0, atol=20 * np.finfo(dtype).eps * bound)


def test_the_definition_dequantizes_by_subtraction_and_multiplication():
    packed = np.array([[0x0F, 0x21]], np.uint8)  # codes 7, -8, -7, -6
    scale, zero_point = np.array([[1.0, 10.0]]), np.array([[1, -2]], np.int32)
    y = four_bit_product_definition(np.array([1.0, 2.0, 3.0, 4.0]), packed, scale, zero_point)
    np.testing.assert_array_equal(y, [6 - 18 + 10 * (3 * -5 + 4 * -4)])


@given(
    rng=generators(),
    bits=st.sampled_from([3, 4]),
    shape=st.tuples(st.integers(1, 5), st.sampled_from([1, 2, 6, 7, 8, 12])),
    group=st.sampled_from(["matrix", "row", 1, 2, 3, 4]),
    tokens=st.integers(0, 3),
    dtype=dtypes,
    symmetric=st.booleans(),
    tile_bytes=st.sampled_from([1, 100, 2**20]),
)
def test_packed_layers_multiply_by_their_dense_weight(rng, bits, shape, group, tokens, dtype, symmetric, tile_bytes):
    """Rows of an odd length, groups of an odd size, one scale for the matrix; no, one and several tokens."""
    if isinstance(group, int) and shape[1] % group:
        group = shape[1]
    form = {"axis": None if group == "matrix" else 0} if isinstance(group, str) else {"group_size": group}
    linear = draw_linear(rng, dtype, shape=shape)
    layer = linear_from_codes(quantize(linear.weight, bits=bits, symmetric=symmetric, **form), linear.bias)
    x = rng.standard_normal((tokens, 1, shape[1])).astype(dtype)
    first, second, third = small_tiles(tile_bytes)
    with first, second, third:
        found = layer(x)
    expected = Linear(layer.dense_weight(), linear.bias)(x)
    assert found.dtype == dtype and found.shape == expected.shape
    bound = np.sum(np.abs(x), axis=-1, keepdims=True) * 31 * np.max(layer.scale) + 10
    assert np.all(np.abs(found - expected) <= 20 * np.finfo(dtype).eps * bound)


@pytest.mark.parametrize("layer_class", [CodebookLinear, AbsmaxCodebookLinear])
@given(
    rng=generators(),
    shape=st.tuples(st.integers(1, 5), st.integers(1, 9)),
    block_size=st.integers(1, 5),
    tokens=st.integers(0, 3),
    dtype=dtypes,
    tile_bytes=st.sampled_from([1, 100, 2**20]),
)
def test_codebook_layers_multiply_by_their_levels(layer_class, rng, shape, block_size, tokens, dtype, tile_bytes):
    """The dense weight is that of `BlockCodes`, bit for bit, and the products are those with it."""
    linear = draw_linear(rng, dtype, shape=shape)
    layer = layer_class.from_linear(linear, normal_float4_levels(), block_size=block_size)
    scales = layer.absmax if layer_class is AbsmaxCodebookLinear else layer.scales()
    indices = unpack_codes(layer.codes, 4, shape[1]).astype(int) + 8
    weight = layer.levels[indices] * np.repeat(scales, block_size, axis=1)[:, : shape[1]]
    np.testing.assert_array_equal(layer.dense_weight(), weight, strict=True)
    x = rng.standard_normal((tokens, shape[1])).astype(dtype)
    first, second, third = small_tiles(tile_bytes)
    with first, second, third:
        found = layer(x)
    expected = Linear(weight, linear.bias)(x)
    assert found.dtype == dtype
    np.testing.assert_allclose(
        found, expected, rtol=0, atol=100 * np.finfo(dtype).eps * (1 + np.abs(expected).max(initial=0))
    )


@pytest.mark.parametrize(
    ("bits", "inputs", "group_size", "tokens", "is_used"),
    [(4, 8, 4, 1, True), (4, 8, None, 1, True), (4, 8, 4, 2, False), (4, 6, 3, 1, False), (2, 8, 4, 1, False)],
)
def test_the_faster_form_is_used_for_one_token_and_groups_of_whole_bytes(
    bits, inputs, group_size, tokens, is_used, monkeypatch
):
    calls = []
    monkeypatch.setattr(packed_module, "four_bit_product", lambda x, *_: calls.append(x.shape) or np.zeros(5, x.dtype))
    form = {"group_size": group_size} if group_size else {"axis": 0}
    layer = linear_from_codes(quantize(np.random.default_rng(0).standard_normal((5, inputs)), bits=bits, **form))
    assert layer(np.ones((tokens, inputs))).shape == (tokens, 5)
    assert calls == ([(inputs,)] if is_used else [])


@pytest.mark.parametrize("tokens", [1, 2])
def test_a_nan_reaches_every_output(tokens):
    rng = np.random.default_rng(1)
    layer = linear_from_codes(quantize(rng.standard_normal((5, 8)), bits=4, group_size=4))
    x = rng.standard_normal((tokens, 8))
    x[0, 3] = np.nan
    y = layer(x)
    assert np.all(np.isnan(y[0])) and np.all(np.isfinite(y[1:]))


@pytest.mark.parametrize("tokens", [1, 3])
@pytest.mark.parametrize("kind", ["packed", "codebook"])
def test_gradients_of_dequantized_layers(kind, tokens):
    rng = np.random.default_rng(2)
    linear = draw_linear(rng, shape=(5, 8))
    if kind == "packed":
        layer = linear_from_codes(quantize(linear.weight, bits=4, group_size=4), linear.bias)
        rows_of, one = (lambda rows: layer.quantized_rows(rows).dequantize()), layer._product_of_one
    else:
        weight = CodebookLinear.from_linear(linear, normal_float4_levels(), block_size=4).dense_weight()
        rows_of, one = weight.__getitem__, None
    settings = {"num_outputs": 5, "rows_of": rows_of, "product_of_one": one}
    x = rng.standard_normal((tokens, 8))
    assert check_gradient(dequantized_linear, x, linear.bias, **settings) < 1e-7


def test_packed_layers_refuse_inputs_that_are_not_floating_point():
    layer = linear_from_codes(quantize(np.ones((5, 8)), bits=4, axis=0))
    assert isinstance(layer, PackedLinear)
    with pytest.raises(DataError, match="x has dtype int64"):
        layer(np.ones((2, 8), np.int64))
    with pytest.raises(DataError, match=r"x must have at least one input per row, found shape \(2, 0\)"):
        layer(np.ones((2, 0)))
