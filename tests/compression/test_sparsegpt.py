"""Pruning with compensation (OBS, refit, SparseGPT), compared with the exact least-squares solution."""

import tracemalloc

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from tests.strategies import generators
from tinyslm.compression.error_compensation import compensate_columns, damped_hessian, prepare_columns
from tinyslm.compression.pruning import (
    downdate_inverse,
    least_squares_refit,
    n_m_mask,
    obs_step,
    sparsegpt,
    wanda_mask,
    wanda_scores,
)
from tinyslm.errors import ConfigError, DataError


@st.composite
def layers(draw, columns=None, multiple=1):
    """(weight (out, in), inputs (N, in) with correlated features, rng); in is a multiple of `multiple`."""
    rng = draw(generators())
    columns = columns or multiple * draw(st.integers(2, 10))
    rows, tokens = draw(st.integers(1, 6)), 3 * columns + draw(st.integers(0, 5))
    mixing = np.eye(columns) + 0.4 * rng.standard_normal((columns, columns)) / np.sqrt(columns)
    return rng.standard_normal((rows, columns)), rng.standard_normal((tokens, columns)) @ mixing, rng


def gram(inputs):
    return inputs.T @ inputs


def output_error(inputs, weight, new):
    return np.sum(np.square(inputs @ (weight - new).T))


def brute_refit(inputs, row, kept):
    """The least-squares weights of one row, computed from the inputs."""
    refitted = np.zeros_like(row)
    refitted[kept] = np.linalg.lstsq(inputs[:, kept], inputs @ row, rcond=None)[0]
    return refitted


# --- the optimal brain surgeon


@given(layers(), st.data())
def test_one_step_is_the_least_squares_refit_without_that_weight(case, data):
    (row, *_), inputs, _ = case
    index = data.draw(st.integers(0, len(row) - 1))
    moved, loss = obs_step(row, np.linalg.inv(2 * gram(inputs)), index)
    expected = brute_refit(inputs, row, np.arange(len(row)) != index)
    np.testing.assert_allclose(moved, expected, rtol=1e-8, atol=1e-10)
    assert moved[index] == 0
    assert loss == pytest.approx(output_error(inputs, row[None], expected[None]), rel=1e-8)


@given(layers(), st.data())
def test_the_updated_inverse_is_that_of_the_smaller_matrix(case, data):
    _, inputs, _ = case
    hessian = gram(inputs)
    index = data.draw(st.integers(0, len(hessian) - 1))
    others = np.delete(np.arange(len(hessian)), index)
    reduced = downdate_inverse(np.linalg.inv(hessian), index)
    expected = np.zeros_like(hessian)
    expected[np.ix_(others, others)] = np.linalg.inv(hessian[np.ix_(others, others)])
    np.testing.assert_allclose(reduced, expected, rtol=1e-8, atol=1e-10)


@given(layers(), st.data())
def test_steps_in_any_order_equal_one_refit_of_the_remaining_weights(case, data):
    (row, *_), inputs, rng = case
    count = data.draw(st.integers(1, len(row) - 1))
    removed = rng.permutation(len(row))[:count]
    expected = brute_refit(inputs, row, ~np.isin(np.arange(len(row)), removed))
    for order in (removed, removed[::-1]):
        moved, inverse, total = row, np.linalg.inv(2 * gram(inputs)), 0.0
        for index in order:
            moved, loss = obs_step(moved, inverse, index)
            inverse, total = downdate_inverse(inverse, index), total + loss
        np.testing.assert_allclose(moved, expected, rtol=1e-7, atol=1e-9)
        assert total == pytest.approx(output_error(inputs, row[None], expected[None]), rel=1e-7)


def test_a_removed_weight_is_not_removed_again():
    inverse = downdate_inverse(np.eye(3), 1)
    with pytest.raises(DataError, match="removed already"):
        obs_step(np.ones(3), inverse, 1)
    with pytest.raises(DataError, match="removed already"):
        downdate_inverse(inverse, 1)
    with pytest.raises(ConfigError, match="index"):
        obs_step(np.ones(3), np.eye(3), 3)
    with pytest.raises(DataError, match="inverse_hessian"):
        obs_step(np.ones(3), np.eye(2), 1)


# --- the refit


@given(layers(), st.floats(0.1, 0.9))
def test_the_refit_is_the_least_squares_solution_of_every_row(case, sparsity):
    weight, inputs, rng = case
    mask = rng.random(weight.shape) > sparsity
    refitted = least_squares_refit(weight, gram(inputs), mask)
    expected = [brute_refit(inputs, row, kept) for row, kept in zip(weight, mask, strict=True)]
    np.testing.assert_allclose(refitted, expected, rtol=1e-7, atol=1e-9)
    assert not np.any(refitted[~mask])


@given(layers(), st.floats(0, 1))
def test_the_refit_is_never_worse_than_the_mask_alone_or_sparsegpt(case, sparsity):
    weight, inputs, _ = case
    sparse = sparsegpt(weight, gram(inputs), sparsity)
    refitted = least_squares_refit(weight, gram(inputs), sparse != 0)
    error = output_error(inputs, weight, refitted)
    for other in (sparse, weight * (sparse != 0)):
        assert error <= output_error(inputs, weight, other) * (1 + 1e-8) + 1e-12


@given(layers(), st.integers(1, 3))
def test_with_few_tokens_and_dead_inputs_the_refit_is_the_smallest_change(case, tokens):
    weight, inputs, rng = case
    inputs = inputs[:tokens] * (np.arange(inputs.shape[1]) > 0)  # the first input is always 0
    mask = rng.random(weight.shape) > 0.3
    refitted = least_squares_refit(weight, gram(inputs), mask)
    np.testing.assert_allclose(refitted[:, 0], np.where(mask[:, 0], weight[:, 0], 0), atol=1e-7)
    for row, kept, new in zip(weight, mask, refitted, strict=True):
        sizes = np.linalg.svd(inputs[:, kept], compute_uv=False) if kept.any() else np.ones(1)
        assume(not np.any((sizes > 1e-9 * sizes[0]) & (sizes < 1e-5 * sizes[0])))  # tokens as good as parallel
        move = np.linalg.lstsq(inputs[:, kept], inputs[:, ~kept] @ row[~kept], rcond=1e-9)[0]
        np.testing.assert_allclose(inputs[:, kept] @ (new[kept] - row[kept]), inputs[:, kept] @ move, atol=1e-5)
        assert np.linalg.norm(new[kept] - row[kept]) <= np.linalg.norm(move) * (1 + 1e-5) + 1e-5


def test_a_direction_with_a_tiny_singular_value_does_not_change_the_weights():
    """Two tokens that are parallel up to 10^-8: following the difference would take weights of 10^8."""
    inputs = np.array([[1.0, 2.0, 1.0], [2.0, 4.0 + 1e-8, -1.0]])
    refitted = least_squares_refit(np.ones((1, 3)), gram(inputs), np.array([[True, True, False]]))
    assert np.max(np.abs(refitted)) < 3


def test_a_refit_without_a_pruned_weight_changes_nothing():
    rng = np.random.default_rng(0)
    weight, inputs = rng.standard_normal((3, 5)).astype(np.float32), rng.standard_normal((9, 5))
    same = least_squares_refit(weight, gram(inputs), np.ones((3, 5), bool))
    np.testing.assert_array_equal(same, weight)
    assert same.dtype == np.float32
    assert not np.any(least_squares_refit(weight, gram(inputs), np.zeros((3, 5), bool)))
    with pytest.raises(DataError, match="booleans"):
        least_squares_refit(weight, gram(inputs), np.ones((3, 5)))
    with pytest.raises(DataError, match="gram"):
        least_squares_refit(weight, np.eye(3), np.ones((3, 5), bool))


# --- the loop over columns


@given(layers(), st.floats(0, 0.5))
def test_the_factor_is_that_of_the_inverse_of_the_damped_hessian(case, damping):
    weight, inputs, _ = case
    hessian = gram(inputs)
    same, upper = prepare_columns(weight, hessian, damping)
    damped = hessian + damping * np.mean(np.diag(hessian)) * np.eye(len(hessian))
    np.testing.assert_allclose(upper.T @ upper, np.linalg.inv(damped), rtol=1e-8, atol=1e-10)
    assert np.all(np.diag(upper) > 0) and not np.any(np.tril(upper, -1))
    np.testing.assert_array_equal(same, weight)


@given(layers(), st.data())
def test_dead_columns_become_zero_and_do_not_affect_the_others(case, data):
    weight, inputs, _ = case
    index = data.draw(st.integers(0, weight.shape[1] - 1))
    inputs = np.where(np.arange(weight.shape[1]) == index, 0.0, inputs)
    others = np.delete(np.arange(weight.shape[1]), index)
    new, upper = prepare_columns(weight, gram(inputs), 0)
    small, small_upper = prepare_columns(weight[:, others], gram(inputs[:, others]), 0)
    assert not np.any(new[:, index]) and upper[index, index] == 1
    np.testing.assert_array_equal(new[:, others], small)
    np.testing.assert_allclose(upper[np.ix_(others, others)], small_upper, rtol=1e-9, atol=1e-12)
    damped, dead = damped_hessian(gram(inputs), 0.5)
    np.testing.assert_array_equal(np.flatnonzero(dead), [index])
    assert damped[index, index] == pytest.approx(1 + 0.5 * (np.trace(gram(inputs)) + 1) / weight.shape[1])


@given(layers(), st.sampled_from([1, 2, 3, 5, 128]), st.floats(0, 1))
def test_the_loop_is_the_surgeon_column_by_column_for_any_block_size(case, block_size, sparsity):
    """The oracle is `obs_step` with any new value of the column, which is then removed from the Hessian."""
    weight, inputs, rng = case
    mask = rng.random(weight.shape) > sparsity
    targets = np.where(mask, np.nan, rng.standard_normal(weight.shape))  # a number where the column is changed

    def choose(j, column, following):
        return np.where(mask[:, j], column, targets[:, j])

    columns, upper = prepare_columns(weight, gram(inputs), 0)
    new, errors = compensate_columns(columns, upper, choose, block_size=block_size)
    for row, kept, wanted, found in zip(weight, mask, targets, new, strict=True):
        moved, inverse = row.copy(), np.linalg.inv(gram(inputs))
        for j in range(len(row)):
            if not kept[j]:
                shift = np.zeros_like(row)
                shift[j] = wanted[j]
                moved = obs_step(moved - shift, inverse, j)[0] + shift
            inverse = downdate_inverse(inverse, j)
        np.testing.assert_allclose(found, moved, rtol=1e-7, atol=1e-9)
    np.testing.assert_array_equal(new[~mask], targets[~mask])
    difference = weight - new
    error = np.trace(difference @ gram(inputs) @ difference.T)
    assert np.sum(np.square(errors)) == pytest.approx(error, rel=1e-8, abs=1e-12)


@given(layers(), st.sampled_from([1, 2, 3, 128]), st.integers(1, 12))
def test_the_following_columns_are_those_of_which_only_the_earlier_ones_have_errors(case, block_size, count):
    """Also beyond the end of the block: W - E U, with the errors of the columns before j only."""
    weight, inputs, _ = case
    seen = []

    def choose(j, column, following):
        seen.append((column, following(count)))
        return np.round(column)

    columns, upper = prepare_columns(weight, gram(inputs))
    _, errors = compensate_columns(columns, upper, choose, block_size=block_size)
    for j, (column, following) in enumerate(seen):
        expected = (weight - errors[:, :j] @ upper[:j])[:, j : j + count]
        np.testing.assert_allclose(following, expected, rtol=1e-9, atol=1e-9)
        np.testing.assert_allclose(column, expected[:, 0], rtol=1e-9, atol=1e-9)


def test_the_factor_takes_the_memory_of_one_array_in_float64():
    """The Cholesky factor and its inverse are computed in place; checks make arrays of booleans, an eighth of it."""
    rng = np.random.default_rng(0)
    weight, hessian = np.ones((2, 600), np.float32), gram(rng.standard_normal((900, 600)).astype(np.float32))
    prepare_columns(weight, hessian)
    tracemalloc.start()
    _, upper = prepare_columns(weight, hessian)
    _, largest = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert upper.dtype == np.float64 and upper.nbytes < largest < 1.4 * upper.nbytes


@given(layers())
def test_unchanged_columns_need_no_compensation(case):
    weight, inputs, _ = case
    columns, upper = prepare_columns(weight, gram(inputs))
    new, errors = compensate_columns(columns, upper, lambda j, column, following: column, block_size=3)
    np.testing.assert_array_equal(new, weight)
    assert not np.any(errors)


def test_invalid_hessians_are_refused():
    weight = np.ones((2, 3))
    with pytest.raises(DataError, match="a damping above 0"):
        prepare_columns(weight, np.ones((3, 3)), 0)
    with pytest.raises(DataError, match="symmetric"):
        prepare_columns(weight, np.triu(np.ones((3, 3))))
    with pytest.raises(DataError, match="diagonal"):
        prepare_columns(weight, -np.eye(3))
    with pytest.raises(DataError, match="hessian must have shape"):
        prepare_columns(weight, np.eye(2))
    with pytest.raises(DataError, match="finite"):
        prepare_columns(weight, np.diag([1, 1, np.nan]))
    with pytest.raises(ConfigError, match="damping"):
        prepare_columns(weight, np.eye(3), -0.1)
    with pytest.raises(ConfigError, match="block_size"):
        compensate_columns(weight, np.eye(3), lambda j, column, following: column, block_size=0)


def test_fewer_tokens_than_inputs_need_damping_only():
    rng = np.random.default_rng(1)
    sparse = sparsegpt(rng.standard_normal((4, 8)), gram(rng.standard_normal((3, 8))), 0.5)
    assert np.all(np.isfinite(sparse)) and np.count_nonzero(sparse) == 16


# --- SparseGPT


def test_the_number_of_removed_weights_is_rounded_once():
    """0.7 * 45 is below 31.5 in float64, and 0.7 * 5 is 3.5, times 9 exactly 31.5, which rounds to 32."""
    rng = np.random.default_rng(0)
    sparse = sparsegpt(rng.standard_normal((5, 9)), gram(rng.standard_normal((30, 9))), 0.7)
    assert np.count_nonzero(sparse == 0) == 31


@given(layers(), st.floats(0, 1), st.sampled_from([1, 3, 4, 128]))
def test_exactly_the_fraction_given_by_the_sparsity_is_removed(case, sparsity, block_size):
    weight, inputs, _ = case
    sparse = sparsegpt(weight, gram(inputs), sparsity, block_size=block_size)
    assert np.count_nonzero(sparse == 0) == round(sparsity * weight.size)


@given(layers(), st.floats(0.1, 0.9), st.sampled_from([1e-3, 2.0, 1e4]))
def test_the_unit_of_the_hessian_does_not_matter(case, sparsity, unit):
    weight, inputs, _ = case
    sparse, other = (sparsegpt(weight, gram(inputs) * factor, sparsity) for factor in (1, unit))
    np.testing.assert_allclose(other, sparse, rtol=1e-9, atol=1e-12)


@given(layers(), st.floats(0, 1))
def test_with_uncorrelated_features_it_only_masks_and_by_the_scores_of_wanda(case, sparsity):
    """SparseGPT compares scores over all rows of a block, Wanda within each row: with one row the masks are equal."""
    weight, inputs, _ = case
    hessian = np.diag(np.diag(gram(inputs)))
    sparse = sparsegpt(weight, hessian, sparsity, damping=0)
    mask = sparse != 0
    np.testing.assert_array_equal(sparse, weight * mask)
    scores = wanda_scores(weight, np.sqrt(np.diag(hessian)))
    if mask.any() and not mask.all():
        assert np.max(scores[~mask]) <= np.min(scores[mask]) * (1 + 1e-9)
    row = sparsegpt(weight[:1], hessian, sparsity, damping=0)
    np.testing.assert_array_equal(row != 0, wanda_mask(weight[:1], np.sqrt(np.diag(hessian)), sparsity))


@given(layers(multiple=4), st.sampled_from([(2, 4), (1, 4), (1, 2)]), st.sampled_from([1, 4, 6, 128]))
def test_patterns_hold_and_are_chosen_from_the_compensated_weights(case, pattern, block_size):
    """The oracle goes group by group: scores of the compensated weights, then one column after another."""
    weight, inputs, _ = case
    n, m = pattern
    sparse = sparsegpt(weight, gram(inputs), 1 - n / m, pattern=pattern, block_size=block_size)
    np.testing.assert_array_equal(np.count_nonzero(sparse.reshape(len(weight), -1, m), axis=-1), n)
    moved, upper = prepare_columns(weight, gram(inputs))
    for j in range(weight.shape[1]):
        if j % m == 0:
            mask = n_m_mask(np.square(moved[:, j : j + m]) / np.square(np.diag(upper)[j : j + m]), n, m)
        error = np.where(mask[:, j % m], 0, moved[:, j]) / upper[j, j]
        moved[:, j:] -= np.outer(error, upper[j, j:])
    np.testing.assert_allclose(sparse, moved, rtol=1e-9, atol=1e-9)


@given(layers(columns=12), st.floats(0.1, 0.9))
def test_the_mask_of_a_block_is_chosen_from_the_compensated_weights(case, sparsity):
    weight, inputs, _ = case
    sparse = sparsegpt(weight, gram(inputs), sparsity, block_size=5)
    moved, upper = prepare_columns(weight, gram(inputs))
    for start, stop in ((0, 5), (5, 10), (10, 12)):
        saliency = np.square(moved[:, start:stop]) / np.square(np.diag(upper)[start:stop])
        count = round(sparsity * len(weight) * stop) - round(sparsity * len(weight) * start)
        order = np.argsort(saliency, axis=None)
        mask = np.ones(saliency.size, bool)
        mask[order[:count]] = False
        mask = mask.reshape(saliency.shape)
        for j in range(start, stop):
            error = np.where(mask[:, j - start], 0, moved[:, j]) / upper[j, j]
            moved[:, j:] -= np.outer(error, upper[j, j:])
    np.testing.assert_allclose(sparse, moved, rtol=1e-8, atol=1e-9)


def test_sparsegpt_keeps_the_dtype_and_refuses_invalid_arguments():
    rng = np.random.default_rng(0)
    weight, hessian = rng.standard_normal((3, 6)).astype(np.float32), gram(rng.standard_normal((20, 6)))
    before = weight.copy()
    assert sparsegpt(weight, hessian, 0.5).dtype == np.float32
    np.testing.assert_array_equal(weight, before)
    np.testing.assert_array_equal(sparsegpt(weight, hessian, 0.0), weight)
    with pytest.raises(ConfigError, match="sparsity"):
        sparsegpt(weight, hessian, 1.5)
    with pytest.raises(DataError, match="divisible by 4"):
        sparsegpt(weight, hessian, 0.5, pattern=(2, 4))
