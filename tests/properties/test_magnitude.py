"""Magnitude masks: exact counts, also with equal weights, the smallest error, and their invariances."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.strategies import generators, generic_matrices, matrices
from tinyslm.coursework.implementation import global_magnitude_masks, magnitude_mask, quantize
from tinyslm.errors import ConfigError, DataError

sparsities = st.one_of(st.sampled_from([0.0, 0.5, 1.0]), st.floats(0, 1))


def error(weight, mask):
    return np.sum(np.square(weight * ~mask))


@given(matrices(), sparsities)
def test_exact_count_and_the_smallest_of_equal_weights_by_position(weight, sparsity):
    """Also with ties; the oracle sorts by (magnitude, position)."""
    mask = magnitude_mask(weight, sparsity)
    count = round(sparsity * weight.size)
    order = sorted(range(weight.size), key=lambda i: (abs(weight.flat[i]), i))
    assert mask.dtype == bool and mask.shape == weight.shape
    np.testing.assert_array_equal(np.flatnonzero(~mask), sorted(order[:count]))


def test_a_matrix_of_equal_weights():
    assert np.sum(~magnitude_mask(np.zeros((3, 4)), 0.5)) == 6
    assert np.sum(~magnitude_mask(np.ones((3, 4)), 0.25)) == 3


@given(matrices(), sparsities, generators())
def test_no_mask_of_the_same_count_has_a_smaller_error(weight, sparsity, rng):
    mask = magnitude_mask(weight, sparsity)
    other = rng.permutation(mask.reshape(-1)).reshape(mask.shape)
    assert error(weight, mask) <= error(weight, other) * (1 + 1e-12)


@given(st.lists(matrices(), min_size=1, max_size=4), st.floats(0, 1))
def test_one_threshold_for_all_is_never_worse_than_one_per_layer(weights, sparsity):
    layerwise = [magnitude_mask(weight, sparsity) for weight in weights]
    size = sum(weight.size for weight in weights)
    removed = sum(int(np.sum(~mask)) for mask in layerwise)
    together = global_magnitude_masks(weights, removed / size)
    assert sum(int(np.sum(~mask)) for mask in together) == removed
    total = [sum(error(w, m) for w, m in zip(weights, masks, strict=True)) for masks in (together, layerwise)]
    assert total[0] <= total[1] * (1 + 1e-12)


@given(st.lists(matrices(), min_size=1, max_size=3), st.floats(0, 1), st.booleans(), generators())
def test_one_threshold_for_all_equals_one_per_layer_only_where_the_thresholds_are_equal(weights, sparsity, alike, rng):
    """Errors are compared exactly, as fractions. Layers of the same numbers in another order have one threshold."""
    if alike:
        weights = [rng.permutation(weights[0].reshape(-1)) for _ in weights]
    layerwise = [magnitude_mask(weight, sparsity) for weight in weights]
    together = global_magnitude_masks(weights, sum(np.sum(~m) for m in layerwise) / sum(w.size for w in weights))

    def exact_error(masks):
        gone = np.concatenate([weight[~mask] for weight, mask in zip(weights, masks, strict=True)])
        return sum(Fraction(number) ** 2 for number in gone)

    gone, kept = (
        [abs(number) for w, m in zip(weights, layerwise, strict=True) for number in w[m == stays]]
        for stays in (False, True)
    )
    same_threshold = max(gone, default=0) <= min(kept, default=np.inf)
    assert same_threshold or not alike
    assert (exact_error(together) == exact_error(layerwise)) == same_threshold
    assert exact_error(together) <= exact_error(layerwise)


@given(st.lists(matrices(), min_size=1, max_size=3), st.floats(0, 1))
def test_global_masks_are_those_of_one_long_vector_in_either_container(weights, sparsity):
    expected = magnitude_mask(np.concatenate([w.reshape(-1) for w in weights]), sparsity)
    masks = global_magnitude_masks(weights, sparsity)
    assert [m.shape for m in masks] == [w.shape for w in weights]
    np.testing.assert_array_equal(np.concatenate([m.reshape(-1) for m in masks]), expected)
    named = global_magnitude_masks({f"layer {i}": w for i, w in enumerate(weights)}, sparsity)
    assert list(named) == [f"layer {i}" for i in range(len(weights))]
    assert all(np.array_equal(a, b) for a, b in zip(named.values(), masks, strict=True))


@pytest.mark.ungraded
def test_no_arrays_have_no_masks():
    assert global_magnitude_masks([], 0.5) == [] and global_magnitude_masks({}, 0.5) == {}
    assert type(global_magnitude_masks([np.ones(2)], 0.5)) is list


@given(matrices(), sparsities, sparsities)
def test_masks_are_nested(weight, first, second):
    low, high = (magnitude_mask(weight, s) for s in sorted((first, second)))
    assert np.all(low | ~high)  # a weight kept at the higher sparsity is kept at the lower


@given(matrices(), sparsities)
def test_pruning_twice_is_pruning_once(weight, sparsity):
    mask = magnitude_mask(weight, sparsity)
    np.testing.assert_array_equal(magnitude_mask(weight * mask, sparsity), mask)


@given(generic_matrices(), sparsities, generators(), st.sampled_from([-3.7, 0.01, 2.0]))
def test_scale_signs_and_order_do_not_matter(weight, sparsity, rng, factor):
    mask = magnitude_mask(weight, sparsity)
    np.testing.assert_array_equal(magnitude_mask(weight * factor, sparsity), mask)
    np.testing.assert_array_equal(magnitude_mask(weight * rng.choice([-1, 1], weight.shape), sparsity), mask)
    order = rng.permutation(weight.size)
    shuffled = magnitude_mask(weight.reshape(-1)[order], sparsity)
    np.testing.assert_array_equal(shuffled, mask.reshape(-1)[order])


@given(matrices(), sparsities, st.integers(2, 8))
@pytest.mark.ungraded
def test_symmetric_codes_with_one_scale_have_the_mask_of_the_dequantized_numbers(weight, sparsity, bits):
    q = quantize(weight, bits=bits)
    np.testing.assert_array_equal(magnitude_mask(q.codes, sparsity), magnitude_mask(q.dequantize(), sparsity))


@pytest.mark.ungraded
def test_codes_with_a_zero_point_or_a_scale_per_row_have_another_mask():
    weight = np.array([[-1.0, -0.5, 3.0, 2.0], [0.02, 0.01, -0.03, 0.04]])
    for settings in ({"symmetric": False}, {"axis": 0}):
        q = quantize(weight, **settings)
        assert not np.array_equal(magnitude_mask(q.codes.astype(int), 0.5), magnitude_mask(q.dequantize(), 0.5))


@pytest.mark.parametrize("sparsity", [-0.1, 1.1, np.nan])
@pytest.mark.ungraded
def test_invalid_sparsities_are_refused(sparsity):
    with pytest.raises(ConfigError, match="sparsity"):
        magnitude_mask(np.ones((2, 3)), sparsity)
    with pytest.raises(ConfigError, match="sparsity"):
        global_magnitude_masks([np.ones((2, 3))], sparsity)


@pytest.mark.ungraded
def test_weights_that_are_not_finite_are_refused():
    with pytest.raises(DataError, match="finite"):
        magnitude_mask(np.array([1.0, np.nan]), 0.5)
