"""SmoothQuant: exactness, the laws of the maxima, refused arguments."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.strategies import generators
from tinyslm import ops
from tinyslm.coursework.implementation import (
    column_maxima,
    quantize,
    quantize_tokens,
    smooth_gain,
    smooth_weight,
    smoothing_scales,
)
from tinyslm.errors import ConfigError, DataError

alphas = st.floats(0, 1)


def draw(rng, features=7):
    """Inputs with outlier features, and two weights that read them."""
    x = rng.standard_normal((9, features)) * np.exp(2 * rng.standard_normal(features))
    return x, rng.standard_normal((5, features)), rng.standard_normal((4, features))


def smoothed(x, weights, alpha):
    scales = smoothing_scales(np.max(np.abs(x), axis=0), column_maxima(*weights), alpha)
    return scales, x / scales, [smooth_weight(weight, scales) for weight in weights]


@given(generators(), alphas)
def test_the_products_are_the_same(rng, alpha):
    x, *weights = draw(rng)
    scales, divided, multiplied = smoothed(x, weights, alpha)
    assert scales.shape == (7,)
    for weight, new in zip(weights, multiplied, strict=True):
        np.testing.assert_allclose(divided @ new.T, x @ weight.T, rtol=1e-10, atol=1e-10 * np.abs(x).max())


@given(generators(), alphas)
def test_the_law_of_the_maxima(rng, alpha):
    """Over all the weights together; with alpha 0.5 activations and weights are equally large."""
    x, *weights = draw(rng)
    both = np.max(np.abs(x), axis=0) * np.max(np.abs(np.concatenate(weights)), axis=0)
    _, divided, multiplied = smoothed(x, weights, alpha)
    np.testing.assert_allclose(np.max(np.abs(divided), axis=0), both ** (1 - alpha), rtol=1e-10)
    np.testing.assert_allclose(column_maxima(*multiplied), both**alpha, rtol=1e-10)


@given(generators())
def test_one_half_has_nothing_left_to_move(rng):
    x, *weights = draw(rng)
    _, divided, multiplied = smoothed(x, weights, 0.5)
    again, _, _ = smoothed(divided, multiplied, 0.5)
    np.testing.assert_allclose(again, 1, rtol=1e-10)


@given(generators(), alphas)
def test_the_ends_of_alpha(rng, alpha):
    """1 makes all features equally large, 0 all columns; between them the scales are a geometric mean."""
    x, *weights = draw(rng)
    largest, columns = np.max(np.abs(x), axis=0), column_maxima(*weights)
    np.testing.assert_allclose(smoothing_scales(largest, columns, 1.0), largest, rtol=1e-12)
    np.testing.assert_allclose(smoothing_scales(largest, columns, 0.0), 1 / columns, rtol=1e-12)
    ends = largest**alpha * (1 / columns) ** (1 - alpha)
    np.testing.assert_allclose(smoothing_scales(largest, columns, alpha), ends, rtol=1e-10)


@given(generators(), alphas, st.sampled_from([0.0, 1.0]), st.booleans())
def test_the_gain_of_a_norm_divides_its_output(rng, alpha, offset, is_layer_norm):
    x, *weights = draw(rng)
    gain, shift = rng.standard_normal(7) - offset, rng.standard_normal(7)
    scales = smoothing_scales(np.max(np.abs(x), axis=0), column_maxima(*weights), alpha)
    new = smooth_gain(gain, scales, offset)
    if is_layer_norm:
        found = ops.layer_norm(x, smooth_gain(gain, scales), smooth_gain(shift, scales))
        wanted = ops.layer_norm(x, gain, shift)
    else:
        found, wanted = ops.rms_norm(x, new, offset=offset), ops.rms_norm(x, gain, offset=offset)
    np.testing.assert_allclose(found * scales, wanted, rtol=1e-9, atol=1e-9)


def test_outliers_cost_less_after_smoothing():
    """The ordering of the paper for one matrix, in the median of 40 draws."""
    ratios = []
    for seed in range(40):
        rng = np.random.default_rng(seed)
        x, weight = rng.standard_normal((64, 48)), rng.standard_normal((32, 48)) * 0.1
        x[:, :3] *= 50
        errors = []
        for inputs, matrix in ((x, weight), (lambda s, d, m: (d, m[0]))(*smoothed(x, [weight], 0.5))):
            rounded = quantize_tokens(inputs).dequantize() @ quantize(matrix, axis=0).dequantize().T
            errors.append(np.linalg.norm(rounded - x @ weight.T))
        ratios.append(errors[1] / errors[0])
    assert np.median(ratios) < 0.6


def test_features_that_never_occur_and_columns_of_zeros():
    scales = smoothing_scales(np.array([0.0, 2.0, 0.0]), np.array([1.0, 0.0, 0.0]), 0.5)
    np.testing.assert_allclose(scales, [1e-5, np.sqrt(2 / 1e-5), 1e-5])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_dtype_is_kept(dtype):
    maxima, gain = np.array([1, 2, 3], dtype), np.array([1, 2, 3], dtype)
    scales = smoothing_scales(maxima, maxima)
    assert scales.dtype == dtype and smooth_gain(gain, scales, 1.0).dtype == dtype
    assert smooth_weight(np.ones((2, 3), dtype), scales).dtype == column_maxima(np.ones((2, 3), dtype)).dtype == dtype


def test_bad_arguments():
    one = np.ones(3)
    for alpha in (-0.1, 1.1, float("nan")):
        with pytest.raises(ConfigError, match="alpha"):
            smoothing_scales(one, one, alpha)
    with pytest.raises(DataError, match="weight_maxima must have shape"):
        smoothing_scales(one, np.ones(4))
    with pytest.raises(DataError, match="activation_maxima must not be negative"):
        smoothing_scales(-one, one)
    with pytest.raises(DataError, match="weight_maxima must be finite"):
        smoothing_scales(one, one * np.inf)
    with pytest.raises(DataError, match="scales must have shape"):
        smooth_weight(np.ones((3, 2)), one)


@pytest.mark.ungraded
def test_one_bad_number_among_good_ones_is_refused():
    one = np.ones(3)
    for bad, words in ((-1e-9, "not be negative"), (np.nan, "finite"), (np.inf, "finite")):
        wrong = np.array([1.0, bad, 1.0])
        with pytest.raises(DataError, match=f"activation_maxima must .*{words}|activation_maxima must {words}"):
            smoothing_scales(wrong, one)
        with pytest.raises(DataError, match=f"weight_maxima must .*{words}|weight_maxima must {words}"):
            smoothing_scales(one, wrong)
    for bad, words in ((0.0, "above 0"), (-1.0, "above 0"), (np.nan, "finite"), (np.inf, "finite")):
        wrong = np.array([1.0, bad, 1.0])
        for call in (lambda scales: smooth_gain(one, scales), lambda scales: smooth_weight(np.ones((2, 3)), scales)):
            with pytest.raises(DataError, match=f"scales must be {words}"):
                call(wrong)
    for bad in (np.nan, np.inf):
        wrong = np.array([1.0, bad, 1.0])
        for call in (
            lambda x: smooth_gain(x, one),
            lambda x: smooth_weight(x[None], one),
            lambda x: column_maxima(x[None]),
        ):
            with pytest.raises(DataError, match="must be finite"):
                call(wrong)
        with pytest.raises(DataError, match="weights must be finite"):
            column_maxima(np.ones((2, 3)), wrong[None])
    for wrong in (np.ones(4), np.ones((1, 3))):
        with pytest.raises(DataError, match="must have shape"):
            smooth_gain(one, wrong)


@pytest.mark.ungraded
def test_matrices_that_read_the_same_features():
    """They may differ in their outputs only; zeros are accepted, no matrix is not."""
    found = column_maxima(np.array([[1.0, -2.0, 0.0]]), np.array([[-3.0, 0, 0], [0, 1, 0]]), np.zeros((4, 3)))
    assert found.tolist() == [3, 2, 0]
    with pytest.raises(DataError, match="pass at least one weight matrix"):
        column_maxima()
    for wrong in (np.ones((2, 4)), np.ones((2, 2)), np.ones(3), np.ones((0, 3))):
        with pytest.raises(DataError, match="weights must"):
            column_maxima(np.ones((2, 3)), wrong)


@pytest.mark.ungraded
@given(generators(), alphas, st.sampled_from([np.float32, np.float64]))
def test_scales_are_those_of_the_formula_to_the_last_bit(rng, alpha, dtype):
    activations, weights = rng.exponential(size=(2, 7)).astype(dtype)
    activations[0] = weights[1] = 0
    weights[2] = 1e-7
    bounded = np.maximum(weights, dtype(1e-5))
    expected = np.maximum(activations**alpha / bounded ** (1 - alpha), dtype(1e-5))
    np.testing.assert_array_equal(smoothing_scales(activations, weights, alpha), expected, strict=True)
    scales, gain = expected, rng.standard_normal(7).astype(dtype)
    for offset in (0.0, 1.0, -0.5):
        smoothed_gain = (gain + dtype(offset)) / scales - dtype(offset)
        np.testing.assert_array_equal(smooth_gain(gain, scales, offset), smoothed_gain, strict=True)
    matrix = rng.standard_normal((3, 7)).astype(dtype)
    np.testing.assert_array_equal(smooth_weight(matrix, scales), matrix * scales, strict=True)


@pytest.mark.ungraded
def test_lists_and_whole_numbers_are_accepted():
    expected = smooth_gain(np.array([1.0, 2.0]), np.array([2.0, 4.0]), 1.0)
    for gain, scales in (([1.0, 2.0], np.array([2.0, 4.0])), (np.array([1, 2]), [2, 4]), ([1, 2], [2.0, 4.0])):
        found = smooth_gain(gain, scales, 1.0)
        np.testing.assert_array_equal(found, expected, strict=True)
        np.testing.assert_array_equal(
            smoothing_scales(scales, gain), smoothing_scales(np.array([2.0, 4]), np.array([1.0, 2]))
        )
        np.testing.assert_array_equal(smooth_weight([gain], scales), [[2.0, 8.0]])
    assert column_maxima([[1, -2]], [[-3, 0]]).tolist() == [3, 2]
