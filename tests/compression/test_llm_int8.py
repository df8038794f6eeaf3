"""LLM.int8(): the choice of outlier features, and the arrays that the layer stores."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.strategies import generators
from tinyslm.autodiff import value_and_grad
from tinyslm.compression.distillation import hidden_state_loss
from tinyslm.compression.quantization import (
    OutlierLinear,
    QuantizedLinear,
    outlier_features,
    outlier_linear,
    quantize,
    quantize_tokens,
)
from tinyslm.errors import ConfigError, DataError
from tinyslm.modules import Linear

thresholds = st.floats(0.5, 4)


def draw(rng, dtype=np.float64, biased=True):
    bias = rng.standard_normal(5).astype(dtype) if biased else None
    linear = Linear(rng.standard_normal((5, 7)).astype(dtype), bias)
    x = rng.standard_normal((2, 3, 7)) * np.exp(rng.standard_normal(7))
    return linear, x.astype(dtype)


def maxima_of(x):
    return np.max(np.abs(x), axis=(0, 1))


def by_hand(linear, stored, x, threshold):
    """Feature by feature: outliers times their stored weights, the others as products of rounded numbers."""
    rows, weight = x.reshape(-1, 7), linear.weight
    large = (np.abs(rows) > threshold).any(axis=0)
    rounded_weight = quantize(np.where(stored, 0, weight), axis=0).dequantize()
    rounded_rows = quantize_tokens(np.where(large | stored, 0, rows)).dequantize()
    y = np.zeros((len(rows), 5)) + (0 if linear.bias is None else linear.bias)
    for j in range(7):
        if stored[j]:
            y += np.outer(rows[:, j], weight[:, j])
        elif large[j]:
            y += np.outer(rows[:, j], rounded_weight[:, j])
        else:
            y += np.outer(rounded_rows[:, j], rounded_weight[:, j])
    return y.reshape(2, 3, 5)


@given(generators(), thresholds, st.booleans())
def test_outliers_are_multiplied_as_they_are_and_the_rest_as_integers(rng, threshold, biased):
    linear, x = draw(rng, biased=biased)
    calibration = maxima_of(rng.standard_normal((2, 3, 7)) * 2)  # of other documents: x has new outliers
    layer = OutlierLinear.from_linear(linear, calibration, threshold=threshold)
    np.testing.assert_array_equal(layer.columns, np.flatnonzero(calibration > threshold))
    np.testing.assert_allclose(layer(x), by_hand(linear, calibration > threshold, x, threshold), rtol=1e-10, atol=1e-10)


@given(generators(), st.booleans())
def test_a_threshold_of_zero_is_exact(rng, biased):
    linear, x = draw(rng, biased=biased)
    layer = OutlierLinear.from_linear(linear, maxima_of(x), threshold=0.0)
    np.testing.assert_allclose(layer(x), linear(x), rtol=1e-12, atol=1e-12)
    np.testing.assert_array_equal(layer.dense_weight(), linear.weight)


@given(generators(), st.booleans())
def test_an_infinite_threshold_is_vector_wise_int8(rng, biased):
    """The same holds for any threshold if no feature exceeds it: the set of outliers may be empty."""
    linear, x = draw(rng, biased=biased)
    plain = QuantizedLinear.from_linear(linear, dynamic_activations=True)(x)
    for threshold in (np.inf, 2 * np.max(np.abs(x))):
        layer = OutlierLinear.from_linear(linear, maxima_of(x), threshold=threshold)
        assert layer.columns.shape == (0,) and layer.outlier_weight.shape == (5, 0)
        np.testing.assert_allclose(layer(x), plain, rtol=1e-12, atol=1e-12)


@given(generators())
def test_without_stored_columns_outliers_meet_rounded_weights(rng):
    """Without stored columns, threshold 0 gives the product of unrounded activations with the rounded weight."""
    linear, x = draw(rng)
    layer = OutlierLinear.from_linear(linear, np.zeros(7)).replace(threshold=0.0)
    expected = x @ quantize(linear.weight, axis=0).dequantize().T + linear.bias
    np.testing.assert_allclose(layer(x), expected, rtol=1e-12, atol=1e-12)


@given(generators(), thresholds)
def test_the_error_is_bounded_by_the_steps_of_the_ordinary_features(rng, threshold):
    linear, x = draw(rng, biased=False)
    layer = OutlierLinear.from_linear(linear, maxima_of(x), threshold=threshold)
    rows = x.reshape(-1, 7)
    ordinary = maxima_of(x) <= threshold
    x_step = np.max(np.abs(rows) * ordinary, axis=1, keepdims=True) / 127
    w_step = np.max(np.abs(linear.weight) * ordinary, axis=1) / 127
    sizes = np.abs(rows) * ordinary, np.abs(linear.weight) * ordinary
    bound = x_step / 2 * sizes[1].sum(axis=1) + sizes[0].sum(axis=1, keepdims=True) * w_step / 2
    bound = bound + ordinary.sum() * x_step * w_step / 4
    assert np.all(np.abs(layer(x) - linear(x)).reshape(-1, 5) <= bound + 1e-12)


def test_one_outlier_spoils_the_others_unless_it_is_taken_out():
    rng = np.random.default_rng(0)
    linear, x = Linear(rng.standard_normal((8, 16))), rng.standard_normal((20, 16))
    x[:, 3] *= 100
    exact, maxima = linear(x), np.max(np.abs(x), axis=0)
    errors = [np.linalg.norm(OutlierLinear.from_linear(linear, maxima, threshold=t)(x) - exact) for t in (6.0, np.inf)]
    assert 20 * errors[0] < errors[1]


def test_a_tokens_result_depends_on_the_outliers_of_the_others():
    """So the decomposition is not invariant under batching; rounding per token alone would be."""
    rng = np.random.default_rng(1)
    layer = OutlierLinear.from_linear(Linear(rng.standard_normal((5, 7))), np.zeros(7), threshold=6.0)
    x = rng.standard_normal((2, 7))
    outlier = x.copy()
    outlier[1, 2] = 50
    np.testing.assert_array_equal(layer(x)[:1], layer(x[:1]))
    assert np.any(layer(outlier)[:1] != layer(x[:1]))


def test_gradients_pass_the_rounding_by():
    rng = np.random.default_rng(2)
    linear, x = draw(rng)
    layer = OutlierLinear.from_linear(linear, maxima_of(x), threshold=2.0)
    assert 0 < len(layer.columns) < 7
    arguments = (layer.codes, layer.scale, layer.columns, layer.outlier_weight, layer.bias)
    dy = rng.standard_normal((2, 3, 5))
    dx, *others, dbias = outlier_linear.with_vjp(x, *arguments, threshold=2.0)[1](dy)
    np.testing.assert_allclose(dx, dy @ layer.dense_weight(), rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(dbias, dy.sum(axis=(0, 1)), rtol=1e-12)
    assert others == [None] * 4
    gradients = value_and_grad(lambda layer: hidden_state_loss(layer(x), np.zeros((2, 3, 5))))(layer)[1]
    assert gradients.codes is None and gradients.outlier_weight is None and gradients.bias.shape == (5,)


def test_what_the_layer_stores():
    linear, x = draw(np.random.default_rng(3), np.float32)
    layer = OutlierLinear.from_linear(linear, maxima_of(x), threshold=2.0)
    count = len(layer.columns)
    assert 0 < count < 7
    assert layer.num_bits() == 35 * 8 + 5 * 32 + count * 32 + 5 * count * 32 + 5 * 32
    assert layer.num_parameters() == 40 and layer.multiply_adds() == 35
    assert (layer.out_features, layer.in_features) == (5, 7)
    assert not np.any(layer.codes[:, layer.columns])  # so outlier weights do not enlarge the scales of the others
    for dtype in (np.float32, np.float64):
        assert layer(x.astype(dtype)).dtype == dtype and layer(x[:0].astype(dtype)).shape == (0, 3, 5)


def test_bad_thresholds():
    for threshold in (-1.0, float("nan")):
        with pytest.raises(ConfigError, match="threshold"):
            outlier_features(np.ones(3), threshold)


def test_outliers_are_above_the_threshold_whatever_their_sign():
    """A maximum that equals it is no outlier. At both ends of the thresholds, and for one feature alone."""
    maxima = np.array([0.0, 5.999, 6.0, 6.001])
    assert outlier_features(maxima).tolist() == [False, False, False, True]
    assert outlier_features(maxima, 0.0).tolist() == [False, True, True, True]
    assert outlier_features(maxima, np.inf).tolist() == [False] * 4
    single = outlier_features(np.float64(7))
    assert isinstance(single, np.ndarray) and single.dtype == bool and single.shape == ()
    for bad in (np.nan, np.inf):
        with pytest.raises(DataError, match="the maxima of the features must be finite"):
            outlier_features(np.array([1.0, bad, 2.0]))
    with pytest.raises(ConfigError, match="threshold must be at least 0, found -1e-09"):
        outlier_features(maxima, -1e-9)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_negative_input_can_be_an_outlier(dtype):
    """It is multiplied without rounding, so that the small inputs of its token keep their precision."""
    weight = np.array([[127, -127, 64]], dtype)
    layer = OutlierLinear.from_linear(Linear(weight), np.zeros(3, dtype), threshold=6)
    assert type(layer.threshold) is float and layer.columns.dtype == np.int32 and layer.outlier_weight.dtype == dtype
    x = np.array([[1.0, -1000.0, 1.0]], dtype)
    assert layer(x).tolist() == [[127 + 127000 + 64]]
    assert layer(x / 1000).tolist() != [[127 + 127000 + 64]]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_bits_of_dense_weights_and_gradients_of_stored_columns(dtype):
    rng = np.random.default_rng(4)
    linear, x = draw(rng, dtype)
    layer = OutlierLinear.from_linear(linear, np.array([0, 9, 0, 0, 9, 0, 0.0]), threshold=6.0)
    assert layer.columns.tolist() == [1, 4]
    np.testing.assert_array_equal(layer.outlier_weight, linear.weight[:, [1, 4]], strict=True)
    rest = quantize(np.where(np.isin(np.arange(7), [1, 4]), dtype(0), linear.weight), axis=0)
    expected = rest.dequantize()
    expected[:, [1, 4]] = linear.weight[:, [1, 4]]
    np.testing.assert_array_equal(layer.dense_weight(), expected, strict=True)
    arguments = (layer.codes, layer.scale, layer.columns, layer.outlier_weight)
    dy = rng.standard_normal((2, 3, 5)).astype(dtype)
    dx, *others = outlier_linear.with_vjp(x, *arguments)[1](dy)
    np.testing.assert_allclose(dx, dy @ expected, rtol=1e-5, atol=1e-5)
    assert others == [None] * 5


def test_small_inputs_are_rounded_also_where_the_threshold_is_below_one():
    weight, x = np.array([[1.0, -0.5, 0.25]]), np.array([[0.4, 0.1234, -0.3]])
    layer = OutlierLinear.from_linear(Linear(weight), np.zeros(3), threshold=0.5)
    expected = quantize_tokens(x).dequantize() @ quantize(weight, axis=0).dequantize().T
    np.testing.assert_allclose(layer(x), expected, rtol=1e-12)
    assert np.all(np.abs(layer(x) - x @ quantize(weight, axis=0).dequantize().T) > 1e-6)


@pytest.mark.parametrize("dtype", [np.int8, np.float16, bool])
def test_stored_columns_are_float32_or_float64(dtype):
    codes, columns = np.ones((5, 3), np.int8), np.array([1])
    with pytest.raises(DataError, match=f"outlier_weight has dtype {np.dtype(dtype)}"):
        outlier_linear(np.ones((2, 3)), codes, np.ones((5, 1)), columns, np.ones((5, 1), dtype))
