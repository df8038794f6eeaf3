"""Wanda: exact counts per row, invariances of its mask, and the case where the mask is optimal."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.strategies import distinct_sizes, generators
from tinyslm.coursework.implementation import magnitude_mask, wanda_mask, wanda_scores
from tinyslm.errors import ConfigError, DataError

sparsities = st.one_of(st.sampled_from([0.0, 0.5, 1.0]), st.floats(0, 1))


@st.composite
def layers(draw, ties=False):
    """(weight (out, in), inputs (N, in) with features of very different size, rng)."""
    rows, columns, tokens = draw(distinct_sizes(3, 2, 12))
    rng = draw(generators())
    weight = rng.standard_normal((rows, columns))
    inputs = rng.standard_normal((tokens, columns)) * np.exp(rng.standard_normal(columns))
    if ties and draw(st.booleans()):
        weight, inputs = np.round(weight), np.ones_like(inputs)
    return weight, inputs, rng


def norms(inputs):
    return np.linalg.norm(inputs, axis=0)


@given(layers())
def test_a_score_is_the_norm_of_the_term_of_a_weight_in_the_output(case):
    weight, inputs, _ = case
    scores = wanda_scores(weight, norms(inputs))
    for i, j in np.ndindex(weight.shape):
        assert scores[i, j] == pytest.approx(np.linalg.norm(weight[i, j] * inputs[:, j]), rel=1e-12)


@given(layers(ties=True), sparsities)
def test_every_row_loses_exactly_its_lowest_and_of_equal_ones_the_first(case, sparsity):
    weight, inputs, _ = case
    mask, scores = wanda_mask(weight, norms(inputs), sparsity), wanda_scores(weight, norms(inputs))
    count = round(sparsity * weight.shape[1])
    for row, kept in zip(scores, mask, strict=True):
        order = sorted(range(len(row)), key=lambda j: (row[j], j))
        np.testing.assert_array_equal(np.flatnonzero(~kept), sorted(order[:count]))


@given(layers(ties=True), sparsities, sparsities)
def test_masks_are_nested(case, first, second):
    weight, inputs, _ = case
    low, high = (wanda_mask(weight, norms(inputs), sparsity) for sparsity in sorted((first, second)))
    assert np.all(low | ~high)


@given(layers(), sparsities)
def test_the_scale_of_a_row_does_not_matter(case, sparsity):
    weight, inputs, rng = case
    scales = np.exp(rng.standard_normal((len(weight), 1))) * rng.choice([-1, 1], (len(weight), 1))
    masks = [wanda_mask(each, norms(inputs), sparsity) for each in (weight, weight * scales)]
    np.testing.assert_array_equal(*masks)


@given(layers(), sparsities)
def test_moving_the_scale_of_a_feature_into_the_weights_does_not_matter(case, sparsity):
    """A factor of the inputs and its inverse in the weights leave the layer as it is. Powers of two: exactly."""
    weight, inputs, rng = case
    factors = 2.0 ** rng.integers(-6, 7, weight.shape[1])
    before = wanda_mask(weight, norms(inputs), sparsity)
    np.testing.assert_array_equal(wanda_mask(weight / factors, norms(inputs * factors), sparsity), before)


@pytest.mark.ungraded
def test_magnitude_masks_depend_on_the_scale_of_a_feature():
    weight = np.array([[1.0, 2.0], [3.0, 4.0]])
    moved = weight / np.array([0.1, 10.0])
    assert not np.array_equal(magnitude_mask(weight, 0.5), magnitude_mask(moved, 0.5))


@given(layers(), sparsities)
def test_with_equal_norms_it_is_magnitude_in_each_row(case, sparsity):
    weight, _, _ = case
    mask = wanda_mask(weight, np.full(weight.shape[1], 3.7), sparsity)
    np.testing.assert_array_equal(mask, [magnitude_mask(row, sparsity) for row in weight])


@given(generators(), st.integers(2, 8), st.floats(0, 1))
def test_with_uncorrelated_features_no_other_mask_has_a_smaller_output_error(rng, columns, sparsity):
    """Against all masks of one row. Orthogonal columns of the inputs: X^T X is diagonal."""
    orthogonal, _ = np.linalg.qr(rng.standard_normal((columns + 3, columns)))
    inputs, weight = orthogonal * np.exp(rng.standard_normal(columns)), rng.standard_normal((1, columns))
    mask = wanda_mask(weight, norms(inputs), sparsity)[0]

    def error(removed):
        return np.sum(np.square(inputs[:, removed] @ weight[0, removed]))

    count = np.count_nonzero(~mask)
    best = min(error(list(removed)) for removed in itertools.combinations(range(columns), count))
    assert error(np.flatnonzero(~mask)) <= best * (1 + 1e-9) + 1e-15


def test_dtype_in_is_dtype_out():
    assert wanda_scores(np.ones((2, 3), np.float32), np.ones(3)).dtype == np.float32


@pytest.mark.ungraded
def test_invalid_arguments_are_refused():
    weight = np.ones((2, 3))
    with pytest.raises(DataError, match="feature_norms"):
        wanda_scores(weight, np.ones(2))  # one per input feature, not per output
    with pytest.raises(DataError, match="norms"):
        wanda_scores(weight, np.array([1, -1, 1]))
    with pytest.raises(DataError, match="finite"):
        wanda_scores(weight, np.array([1, np.inf, 1]))
    with pytest.raises(ConfigError, match="sparsity"):
        wanda_mask(weight, np.ones(3), 1.5)
