"""Exact products of codes: equal to the definition in integer arithmetic, also for the largest sums."""

import importlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.strategies import generators
from tinyslm.compression.quantization.integer_matmul import block_length, integer_matmul_definition
from tinyslm.coursework.implementation import (
    affine_matmul,
    integer_matmul,
    quantize,
    quantize_tokens,
)
from tinyslm.errors import DataError


def draw_codes(rng, *shape):
    """Any int8, with the two extremes often."""
    return rng.choice(np.array([-128, 127, *rng.integers(-128, 128, 3)], np.int8), shape)


@given(generators(), st.integers(1, 5), st.integers(1, 5), st.sampled_from([0, 1, 7, 1023, 1024, 1025, 3000]))
def test_the_product_is_that_of_plain_int32_arithmetic(rng, n, m, K):
    x, w = draw_codes(rng, n, K), draw_codes(rng, m, K)
    product = integer_matmul(x, w)
    assert product.dtype == np.int32
    np.testing.assert_array_equal(product, x.astype(np.int32) @ w.astype(np.int32).T)


code_types = st.sampled_from([np.int8, np.uint8])


@given(generators(), st.integers(0, 6), st.integers(1, 6), st.integers(0, 1200), code_types, code_types)
def test_the_fast_form_equals_the_definition(rng, n, m, K, x_type, w_type):
    x, w = draw_codes(rng, n, K).view(x_type), draw_codes(rng, m, K).view(w_type)
    np.testing.assert_array_equal(integer_matmul(x, w), integer_matmul_definition(x, w), strict=True)


def test_a_large_product_on_several_threads_is_the_same():
    rng = np.random.default_rng(0)
    x, w = draw_codes(rng, 3, 1500), draw_codes(rng, 1100, 1500)
    np.testing.assert_array_equal(integer_matmul(x, w), x.astype(np.int32) @ w.astype(np.int32).T)


@pytest.mark.parametrize("dtype", [np.int8, np.uint8])
def test_the_longest_block_is_exact_and_a_longer_one_is_not(dtype):
    """The largest products, and one product of 1 that a float32 sum above 2^24 would lose."""
    largest = -128 if dtype == np.int8 else 255
    block = block_length(dtype, dtype)
    assert block == {np.int8: 1024, np.uint8: 258}[dtype]
    assert block * largest**2 <= 2**24 < (block + 1) * largest**2
    for K in (block, 2 * block, 4 * block + 1):
        x = np.full((2, K), largest, dtype)
        w = x.copy()
        x[0, -1] = w[0, -1] = 1
        np.testing.assert_array_equal(integer_matmul(x, w), x.astype(np.int32) @ w.astype(np.int32).T)
    too_long = np.full(2 * block + 1, largest, np.float32)
    too_long[-1] = 1
    assert int(too_long @ too_long) != 2 * block * largest**2 + 1


def zero_points(rng, rows):
    return st.sampled_from([None, np.int32(rng.integers(-128, 128)), rng.integers(-128, 128, (rows, 1))])


@given(generators(), st.data(), st.sampled_from([1, 7, 1500]))
def test_four_terms_are_the_product_of_the_distances_from_the_zero_points(rng, data, K):
    x, w = draw_codes(rng, 3, K), draw_codes(rng, 4, K)
    x_zero, w_zero = data.draw(zero_points(rng, 3)), data.draw(zero_points(rng, 4))
    distances = [c.astype(np.int64) - (0 if z is None else z) for c, z in ((x, x_zero), (w, w_zero))]
    product = affine_matmul(x, w, x_zero, w_zero)
    assert product.dtype == np.int32
    np.testing.assert_array_equal(product, distances[0] @ distances[1].T)


@given(generators(), st.booleans(), st.booleans())
def test_integer_product_is_the_product_of_the_dequantized(rng, x_symmetric, w_symmetric):
    x, w = rng.standard_normal((3, 9)), rng.standard_normal((4, 9)) + 0.5
    qx, qw = quantize_tokens(x, symmetric=x_symmetric), quantize(w, axis=0, symmetric=w_symmetric)
    product = affine_matmul(qx.codes, qw.codes, qx.zero_point, qw.zero_point)
    expected = qx.dequantize() @ qw.dequantize().T
    np.testing.assert_allclose(qx.scale * qw.scale.T * product, expected, rtol=1e-12, atol=1e-12)


def test_largest_sums_do_not_overflow_and_larger_ones_are_refused():
    x, w = np.full((1, 33_025), -128, np.int8), np.full((1, 33_025), 127, np.int8)
    assert affine_matmul(x, w, np.int32(127), np.int32(-128)) == -(255**2) * 33_025
    with pytest.raises(DataError, match="overflow"):
        affine_matmul(np.zeros((1, 33_026), np.int8), np.zeros((1, 33_026), np.int8))
    largest = np.full((1, 131_071), -128, np.int8)
    assert integer_matmul(largest, largest) == 131_071 * 2**14
    with pytest.raises(DataError):
        integer_matmul(np.zeros((1, 131_072), np.int8), np.zeros((1, 131_072), np.int8))


def test_what_is_not_codes_is_refused():
    with pytest.raises(DataError, match="shapes"):
        integer_matmul(np.zeros((2, 3), np.int8), np.zeros((3, 2), np.int8))
    with pytest.raises(DataError, match="8-bit"):
        integer_matmul(np.zeros((2, 3)), np.zeros((2, 3), np.int8))
    with pytest.raises(DataError, match="overflow"):
        integer_matmul(np.zeros((1, 131_072), np.int8), np.zeros((1, 131_072), np.int8))


@given(generators(), st.booleans())
def test_a_token_is_quantized_without_regard_to_the_others(rng, symmetric):
    x = rng.standard_normal((4, 6))
    together = quantize_tokens(x, symmetric=symmetric)
    np.testing.assert_array_equal(together.codes[2:3], quantize_tokens(x[2:3], symmetric=symmetric).codes)
    other = np.concatenate([x[:1], 100 * x[1:]])
    np.testing.assert_array_equal(quantize_tokens(other, symmetric=symmetric).codes[0], together.codes[0])
    assert not np.array_equal(quantize(other).codes[0], quantize(x).codes[0])  # with one range for all tokens it would


@pytest.mark.parametrize(
    ("x_shape", "w_shape"), [((3,), (2, 3)), ((2, 3), (3,)), ((2, 3), (4, 2)), ((1, 2, 3), (4, 3)), ((2, 3), (1, 4, 3))]
)
@pytest.mark.ungraded
def test_codes_that_are_no_matrices_with_the_same_inputs_are_refused(x_shape, w_shape):
    with pytest.raises(DataError, match="needs codes of shapes"):
        integer_matmul(np.zeros(x_shape, np.int8), np.zeros(w_shape, np.int8))


@pytest.mark.parametrize("dtype", [np.int16, np.int32, np.float32, bool])
@pytest.mark.ungraded
def test_each_of_the_two_arrays_must_hold_8_bit_codes(dtype):
    codes, others = np.ones((2, 3), np.int8), np.ones((2, 3), dtype)
    for x, w in ((codes, others), (others, codes)):
        with pytest.raises(DataError, match="8-bit integer codes"):
            integer_matmul(x, w)


@pytest.mark.parametrize(
    ("x_type", "w_type", "longest"),
    [(np.uint8, np.uint8, 33_025), (np.uint8, np.int8, 65_793), (np.int8, np.uint8, 65_793)],
)
@pytest.mark.ungraded
def test_the_longest_sum_depends_on_the_kinds_of_codes(x_type, w_type, longest):
    """The product of the largest magnitudes, times the number of terms, is at most 2^31 - 1."""
    largest = {np.uint8: 255, np.int8: -128}
    x, w = np.full((1, longest + 1), largest[x_type], x_type), np.full((1, longest + 1), largest[w_type], w_type)
    product = integer_matmul(x[:, 1:], w[:, 1:])
    assert product.dtype == np.int32 and int(product[0, 0]) == longest * largest[x_type] * largest[w_type]
    with pytest.raises(DataError, match=f"a sum of {longest + 1} products"):
        integer_matmul(x, w)


@pytest.mark.ungraded
@given(generators(), st.sampled_from([np.int8, np.int16, np.int64, np.uint8, np.uint64]))
def test_zero_points_of_any_integer_type_give_the_same_int32(rng, dtype):
    """Also one per row, with the extreme codes, and without a change of the arguments."""
    x, w = draw_codes(rng, 3, 9), draw_codes(rng, 4, 9)
    x_zero, w_zero = rng.choice(np.array([0, 1, 127]), (3, 1)), rng.choice(np.array([0, 1, 127]), (4, 1))
    expected = (x.astype(np.int64) - x_zero) @ (w.astype(np.int64) - w_zero).T
    arguments = [x, w, x_zero.astype(dtype), w_zero.astype(dtype)]
    before = [each.copy() for each in arguments]
    np.testing.assert_array_equal(affine_matmul(*arguments), expected.astype(np.int32), strict=True)
    for each, copy in zip(arguments, before, strict=True):
        np.testing.assert_array_equal(each, copy, strict=True)
    only_x, only_w = affine_matmul(x, w, arguments[2]), affine_matmul(x, w, None, arguments[3])
    np.testing.assert_array_equal(only_x, (x.astype(np.int64) - x_zero) @ w.astype(np.int64).T)
    np.testing.assert_array_equal(only_w, x.astype(np.int64) @ (w.astype(np.int64) - w_zero).T)


@pytest.mark.ungraded
def test_zero_points_that_are_no_integers_are_refused():
    x, w = np.ones((2, 3), np.int8), np.ones((4, 3), np.int8)
    with pytest.raises(DataError, match="x_zero_point has dtype float64, expected integers"):
        affine_matmul(x, w, np.float64(1), np.int32(1))
    with pytest.raises(DataError, match="w_zero_point has dtype float32, expected integers"):
        affine_matmul(x, w, np.int32(1), np.ones((4, 1), np.float32))


@pytest.mark.ungraded
def test_the_definition_sums_in_64_bits():
    x = np.full((1, 2), 127, np.int8)
    np.testing.assert_array_equal(integer_matmul_definition(x, x), np.array([[32258]], np.int32), strict=True)


@pytest.mark.ungraded
def test_a_share_of_the_rows_is_computed_without_touching_the_others(monkeypatch):
    """Threads compute shares at the same time, so none may write outside of its own."""
    rng = np.random.default_rng(1)
    x, w = draw_codes(rng, 3, 1500), draw_codes(rng, 7, 1500)
    module = importlib.import_module("tinyslm.compression.quantization.integer_matmul")  # it has a function of its name
    monkeypatch.setattr(module, "ROWS", 2)
    monkeypatch.setattr(module, "map_shares", lambda function, count, work: function(slice(1, 4)))
    with monkeypatch.context() as patch:
        patch.setattr(np, "empty", lambda shape, dtype: np.full(shape, 77, dtype))
        found = module.integer_matmul(x, w)
    expected = np.full((3, 7), 77, np.int32)
    expected[:, 1:4] = integer_matmul_definition(x, w[1:4])
    np.testing.assert_array_equal(found, expected)


@pytest.mark.ungraded
def test_products_with_zero_points_need_matrices_too():
    for x, w in ((np.ones(3, np.int8), np.ones((2, 3), np.int8)), (np.ones((2, 3), np.int8), np.ones(3, np.int8))):
        with pytest.raises(DataError, match="needs codes of shapes"):
            affine_matmul(x, w, np.int32(1), np.int32(1))
