"""Products of quantized layers: dtypes, shapes of scales, gradients, and refused arguments."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.strategies import generators
from tinyslm.compression.quantization import (
    QuantizedArray,
    choose_range,
    encode,
    integer_linear,
    outlier_linear,
    quantize,
    quantize_tokens,
    static_linear,
    weight_only_linear,
)
from tinyslm.compression.quantization.quantized_linear import (
    integer_linear_definition,
    upcast_tiles,
    weight_only_linear_definition,
)
from tinyslm.errors import DataError
from tinyslm.modules import Linear

SHAPE = (5, 6)
DTYPES = pytest.mark.parametrize("dtype", [np.float32, np.float64])

WEIGHT = quantize(np.random.default_rng(2).standard_normal(SHAPE), axis=0)
ONE, ZERO = np.array(1.0), np.array(0)
PRODUCTS = {
    "weight only": lambda x, scale, bias: weight_only_linear(x, WEIGHT.codes, scale, bias=bias),
    "integers": lambda x, scale, bias: integer_linear(x, WEIGHT.codes, scale, bias=bias),
    "outliers": lambda x, scale, bias: outlier_linear(x, WEIGHT.codes, scale, np.array([1]), np.ones((5, 1)), bias),
    "static": lambda x, scale, bias: static_linear(x, WEIGHT.codes, scale, np.zeros(5, np.int32), ONE, ZERO, bias),
}


@pytest.mark.parametrize("name", PRODUCTS)
def test_inputs_scales_and_bias_are_float32_or_float64(name):
    """Each one alone, with and without a bias; and inputs without a feature are refused."""
    product, x, scale, bias = PRODUCTS[name], np.ones((2, 6)), WEIGHT.scale, np.ones(5)
    assert product(x, scale, bias).shape == product(x, scale, None).shape == (2, 5)
    for dtype in (np.int32, np.float16, bool):
        wrong = [(x.astype(dtype), scale, bias), (x, scale.astype(dtype), None), (x, scale, bias.astype(dtype))]
        for argument, arguments in zip(("x", "scale", "bias"), wrong, strict=True):
            with pytest.raises(DataError, match=rf"{argument} has dtype {np.dtype(dtype)}"):
                product(*arguments)
    with pytest.raises(DataError, match=r"x must have at least one input per row, found shape \(2, 0\)"):
        product(np.ones((2, 0)), scale, bias)


@given(generators(), st.sampled_from([(), (5, 1)]), st.sampled_from([None, (), (5, 1)]))
def test_scales_and_zero_points_of_every_shape(rng, scale_shape, zero_shape):
    codes, scale = WEIGHT.codes, rng.uniform(0.5, 2, scale_shape)
    zero_point = None if zero_shape is None else rng.integers(-128, 128, zero_shape).astype(np.int32)
    x, dy = rng.standard_normal((3, 6)), rng.standard_normal((3, 5))
    weight = scale * (codes - (0.0 if zero_point is None else zero_point))
    for product, definition in (
        (weight_only_linear, weight_only_linear_definition),
        (integer_linear, integer_linear_definition),
    ):
        y, vjp = product.with_vjp(x, codes, scale, zero_point)
        np.testing.assert_allclose(y, definition(x, codes, scale, zero_point), rtol=1e-9, atol=1e-9)
        dx, *others = vjp(dy)
        np.testing.assert_allclose(dx, dy @ weight, rtol=1e-9, atol=1e-9)
        assert others == [None] * 4
    np.testing.assert_allclose(weight_only_linear(x, codes, scale, zero_point), x @ weight.T, rtol=1e-9, atol=1e-9)


@DTYPES
@pytest.mark.parametrize("other", [np.float32, np.float64])
def test_outputs_and_gradients_have_the_dtype_of_the_inputs(dtype, other):
    x = np.random.default_rng(3).standard_normal((6, 6)).astype(dtype)
    columns, kept = np.array([1, 4]), np.ones((5, 2), other)
    scale, step = WEIGHT.scale.astype(other), other(0.01)
    for product, arguments in (
        (weight_only_linear, (scale, np.int32(3))),
        (integer_linear, (scale, np.int32(3))),
        (outlier_linear, (scale, columns, kept)),
        (static_linear, (scale, np.zeros(5, np.int32), step, np.int32(3))),
    ):
        y, vjp = product.with_vjp(x, WEIGHT.codes, *arguments)
        dx = vjp(y)[0]
        assert y.dtype == dx.dtype == dtype and dx.shape == x.shape


@pytest.mark.parametrize("symmetric", [True, False])
def test_definitions_dequantize_and_multiply(symmetric):
    rng = np.random.default_rng(4)
    weight, bias, x = (
        quantize(rng.standard_normal(SHAPE), axis=0, symmetric=symmetric),
        rng.standard_normal(5),
        rng.standard_normal((2, 3, 6)),
    )
    parts = (weight.codes, weight.scale, weight.zero_point, bias)
    np.testing.assert_array_equal(weight_only_linear_definition(x, *parts), Linear(weight.dequantize(), bias)(x))
    rounded = quantize(x.reshape(6, 6), axis=0).dequantize().reshape(2, 3, 6)
    np.testing.assert_array_equal(integer_linear_definition(x, *parts), Linear(weight.dequantize(), bias)(rounded))


@given(generators(), st.booleans(), st.sampled_from([(), (2, 1)]))
def test_codes_are_dequantized_by_subtraction_and_multiplication(rng, grouped, leading):
    shape = (*leading, 3, 6)
    codes, scale = rng.integers(-128, 128, shape).astype(np.int8), rng.uniform(0.5, 2, (*leading, 3, 2))
    zero_point = rng.integers(-128, 128, scale.shape).astype(np.int32)
    if not grouped:
        scale, zero_point = scale[..., :1], zero_point[..., :1]
    before = codes.copy()
    array = QuantizedArray(codes, scale, zero_point, group_size=3 if grouped else None)
    steps = codes.astype(float) - np.repeat(zero_point, 6 // scale.shape[-1], axis=-1)
    np.testing.assert_array_equal(array.dequantize(), steps * np.repeat(scale, 6 // scale.shape[-1], axis=-1))
    plain = QuantizedArray(codes, scale, None, group_size=array.group_size)
    zeros = QuantizedArray(codes, scale, np.zeros_like(zero_point), group_size=array.group_size)
    np.testing.assert_array_equal(plain.dequantize(), zeros.dequantize())
    np.testing.assert_array_equal(codes, before)


def test_inputs_exactly_at_the_ends_of_a_fixed_range_have_a_gradient():
    """Codes -128 and 127 of a step of 1/2 with the zero point 3, and the next input beyond each."""
    codes = np.array([[2]], np.int8)
    x = np.array([[-65.5], [62.0], [-65.500001], [62.000001]])
    arguments = (codes, np.array([[3.0]]), np.array([6], np.int32), np.array(0.5), np.array(3, np.int32))
    dx = static_linear.with_vjp(x, *arguments)[1](np.ones((4, 1)))[0]
    assert dx.tolist() == [[6.0], [6.0], [0.0], [0.0]]
    for bad in (0.0, -0.5, np.nan, np.inf):
        with pytest.raises(DataError, match="scale must be finite and above 0"):
            static_linear(x, codes, np.array([[3.0]]), np.array([6], np.int32), np.array(bad), np.array(3))
    with pytest.raises(DataError, match="cannot quantize nan or infinity"):
        static_linear(np.array([[1.0], [np.nan]]), *arguments)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_tile_has_as_many_rows_as_fit_in_a_mebibyte(dtype):
    codes = np.ones((1000, 1024), np.int8)
    rows = 2**20 // (1024 * np.dtype(dtype).itemsize)
    zero_point = np.arange(1000, dtype=np.int32)[:, None]
    starts = []
    for part, tile in upcast_tiles(codes, zero_point, dtype):
        assert tile.dtype == dtype and tile.shape == (part.stop - part.start, 1024)
        np.testing.assert_array_equal(tile[:, :2], 1.0 - np.repeat(zero_point[part], 2, axis=1))
        starts.append(part.start)
    assert starts == list(range(0, 1000, rows))


@DTYPES
@pytest.mark.parametrize("other", [np.float32, np.float64])
def test_scales_are_rounded_to_the_dtype_of_the_inputs(dtype, other):
    """To the last bit: the integer product times the scale of the inputs times the scale of the weights."""
    rng = np.random.default_rng(6)
    x, codes = rng.standard_normal((4, 6)).astype(dtype), rng.integers(-127, 128, SHAPE).astype(np.int8)
    scale, bias = rng.uniform(0.5, 2, (5, 1)).astype(other), rng.standard_normal(5).astype(other)
    row = scale.reshape(1, -1).astype(dtype)
    tokens = quantize(x, axis=0)
    product = (tokens.codes.astype(int) @ codes.T.astype(int)).astype(dtype) * tokens.scale
    np.testing.assert_array_equal(integer_linear(x, codes, scale), product * row, strict=True)
    step, zero_point = other(0.03), np.int32(5)
    input_codes = encode(x, step, zero_point, symmetric=False).astype(int)
    fixed = ((input_codes - 5) @ codes.T.astype(int)).astype(dtype) * (step * scale).reshape(1, -1).astype(dtype)
    correction = (5 * codes.astype(int).sum(axis=1)).astype(np.int32)
    arguments = (codes, scale, correction, step, zero_point)
    np.testing.assert_array_equal(static_linear(x, *arguments), fixed, strict=True)
    np.testing.assert_array_equal(static_linear(x, *arguments, bias), (fixed + bias).astype(dtype), strict=True)
    columns, kept = np.array([1, 4]), (1e4 * rng.standard_normal((5, 2))).astype(other)  # they dominate the sum
    inside = np.isin(np.arange(6), columns)
    codes[:, columns] = 0
    rest = quantize(np.where(inside, dtype(0), x), axis=0)
    product = (rest.codes.astype(int) @ codes.T.astype(int)).astype(dtype) * rest.scale * row
    expected = product + x[:, columns] @ kept.T.astype(dtype)
    found, vjp = outlier_linear.with_vjp(x, codes, scale, columns, kept)
    np.testing.assert_array_equal(found, expected, strict=True)
    np.testing.assert_array_equal(vjp(found)[0][:, columns], found @ kept.astype(dtype), strict=True)
    whole = weight_only_linear(x, codes, scale)
    np.testing.assert_array_equal(whole, weight_only_linear(x, codes, np.ones((5, 1), other)) * row, strict=True)


@given(generators())
def test_tokens_are_quantized_like_the_rows_of_a_matrix(rng):
    x = rng.random((4, 7)) + 1
    for symmetric in (True, False):
        found, expected = quantize_tokens(x, symmetric=symmetric), quantize(x, axis=0, symmetric=symmetric)
        np.testing.assert_array_equal(found.codes, expected.codes)
        np.testing.assert_array_equal(found.dequantize(), expected.dequantize())


def test_numbers_in_lists_are_quantized_like_arrays():
    rows = [[1.0, -2.0], [30.0, 0.5]]
    np.testing.assert_array_equal(quantize(rows, axis=0).codes, quantize(np.array(rows), axis=0).codes)
    assert choose_range(rows, "percentile") == choose_range(np.array(rows), "percentile")
