"""Low rank in weighted norms: each method is the best in its own norm, and what the norms have in common."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import linalg

from tests.properties.low_rank_cases import draw_fisher, matrices_and_ranks, product
from tests.strategies import generators, generic_matrices
from tinyslm.coursework.implementation import (
    activation_weighted_components,
    activation_weighted_svd,
    fisher_weighted_components,
    fisher_weighted_svd,
    svd_components,
    truncated_svd,
    weighted_components,
    weighted_svd,
    whitened_components,
    whitened_svd,
)
from tinyslm.errors import ConfigError, DataError


def draw_inputs(rng, features, tokens=None):
    """Correlated inputs with features of very different strength."""
    mixing = rng.standard_normal((features, features)) * np.exp(rng.standard_normal(features))
    return rng.standard_normal((tokens or 4 * features, features)) @ mixing


def output_error(weight, factors, inputs):
    return np.linalg.norm(inputs @ (weight - product(factors)).T)


def close(weight):
    return {"rtol": 0, "atol": 1e-6 * np.linalg.norm(weight)}


@given(matrices_and_ranks(generic_matrices()), generators())
def test_components_of_every_method_add_up_to_the_weight_and_are_balanced(case, rng):
    weight, rank = case
    inputs = draw_inputs(rng, weight.shape[1])
    magnitudes = np.mean(np.abs(inputs), axis=0)
    for components, truncated in (
        (svd_components(weight), truncated_svd(weight, rank)),
        (weighted_components(weight, magnitudes, np.arange(1.0, len(weight) + 1)), None),
        (fisher_weighted_components(weight, weight**2), fisher_weighted_svd(weight, weight**2, rank)),
        (activation_weighted_components(weight, magnitudes), activation_weighted_svd(weight, magnitudes, rank)),
        (whitened_components(weight, inputs.T @ inputs), whitened_svd(weight, inputs.T @ inputs, rank)),
    ):
        left, right, s = components
        assert left.shape == (len(weight), len(s)) and right.shape == (len(s), weight.shape[1])
        np.testing.assert_allclose(left @ right, weight, rtol=0, atol=1e-9 * np.linalg.norm(weight))
        np.testing.assert_allclose(np.linalg.norm(left, axis=0), np.linalg.norm(right, axis=1), rtol=1e-9)
        assert np.all(np.diff(s) <= 0) and s.shape == (min(weight.shape),)
        if truncated is not None:
            np.testing.assert_array_equal(truncated[0], left[:, :rank])
            np.testing.assert_array_equal(truncated[1], right[:rank])


@given(matrices_and_ranks(generic_matrices()), generators())
def test_two_sided_weights_solve_the_rank_one_element_wise_problem(case, rng):
    weight, rank = case
    outputs, inputs = (np.exp(rng.standard_normal(n)) for n in weight.shape)
    fisher = np.outer(outputs**2, inputs**2)

    def error(factors):
        return np.sum(fisher * (weight - product(factors)) ** 2)

    best = weighted_svd(weight, inputs, outputs, rank)
    tolerance = 1e-9 * np.sum(fisher * weight**2)
    s = linalg.svdvals(np.sqrt(fisher) * weight)
    assert error(best) == pytest.approx(np.sum(s[rank:] ** 2), abs=tolerance)
    np.testing.assert_allclose(weighted_components(weight, inputs, outputs).singular_values, s, atol=1e-9 * s[0])
    one_sided = fisher_weighted_svd(weight, fisher, rank)
    moved = tuple(f + 0.01 * np.std(f) * rng.standard_normal(f.shape) for f in best)
    for other in (one_sided, truncated_svd(weight, rank), moved):
        assert error(best) <= error(other) + tolerance
    right = best[1]  # and no other left factor fits this right one better
    rows = [linalg.lstsq((right * inputs).T, row * inputs)[0] for row in weight]
    assert error(best) <= error((np.array(rows), right)) + tolerance
    np.testing.assert_allclose(product(weighted_svd(weight, inputs, np.full(len(weight), 3.0), rank)),
                               product(fisher_weighted_svd(weight, np.outer(np.ones(len(weight)), inputs**2), rank)),
                               **close(weight))  # fmt: skip


@given(matrices_and_ranks(generic_matrices()), generators())
def test_transposing_exchanges_the_two_sides(case, rng):
    weight, rank = case
    outputs, inputs = (np.exp(rng.standard_normal(n)) for n in weight.shape)
    turned = product(weighted_svd(weight.T, outputs, inputs, rank)).T
    np.testing.assert_allclose(turned, product(weighted_svd(weight, inputs, outputs, rank)), **close(weight))


@given(matrices_and_ranks(generic_matrices()), generators(), st.sampled_from([1e-9, 0.2, 1e9]))
def test_activation_weights(case, rng, constant):
    """alpha = 0 is the plain SVD, only proportions count, and the error is the smallest in the norm of the weights."""
    weight, rank = case
    magnitudes = np.exp(rng.standard_normal(weight.shape[1]))
    plain = truncated_svd(weight, rank)
    by_zero = activation_weighted_svd(weight, magnitudes, rank, alpha=0)
    np.testing.assert_allclose(product(by_zero), product(plain), **close(weight))
    unseen = activation_weighted_svd(weight, np.zeros_like(magnitudes), rank)
    np.testing.assert_allclose(product(unseen), product(plain), **close(weight))
    for alpha in (0.5, 1.0, 0.3):
        found = activation_weighted_svd(weight, magnitudes, rank, alpha=alpha)
        scaled = activation_weighted_svd(weight, constant * magnitudes, rank, alpha=alpha)
        np.testing.assert_allclose(product(scaled), product(found), **close(weight))
        weights = magnitudes**alpha

        def error(factors, weights=weights):
            return np.linalg.norm((weight - product(factors)) * weights)

        best = np.sqrt(np.sum(linalg.svdvals(weight * weights)[rank:] ** 2))
        assert error(found) == pytest.approx(best, abs=1e-9 * np.linalg.norm(weight * weights))
        assert error(found) <= error(plain) + 1e-9 * np.linalg.norm(weight * weights)
    np.testing.assert_array_equal(
        product(activation_weighted_svd(weight, magnitudes, rank)),
        product(activation_weighted_svd(weight, magnitudes, rank, alpha=0.5)),
    )


@given(matrices_and_ranks(generic_matrices()), generators())
def test_no_method_has_a_smaller_output_error_than_whitening(case, rng):
    """Dropping component i costs exactly s_i of output error, and nothing of this rank costs less."""
    weight, rank = case
    inputs = draw_inputs(rng, weight.shape[1])
    gram, magnitudes = inputs.T @ inputs, np.mean(np.abs(inputs), axis=0)
    factors = whitened_svd(weight, gram, rank)
    components = whitened_components(weight, gram)
    tolerance = 1e-6 * np.linalg.norm(inputs @ weight.T)
    np.testing.assert_allclose(
        components.singular_values, linalg.svdvals(inputs @ weight.T)[: min(weight.shape)], rtol=0, atol=tolerance
    )
    error = output_error(weight, factors, inputs)
    assert error == pytest.approx(np.linalg.norm(components.singular_values[rank:]), abs=tolerance)
    others = [
        truncated_svd(weight, rank),
        fisher_weighted_svd(weight, draw_fisher(rng, weight.shape), rank),
        activation_weighted_svd(weight, magnitudes, rank),
        activation_weighted_svd(weight, magnitudes, rank, alpha=1.0),
        tuple(f + 0.01 * np.std(f) * rng.standard_normal(f.shape) for f in factors),
    ]
    for other in others:
        assert error <= output_error(weight, other, inputs) + tolerance
    for dropped, s in enumerate(components.singular_values):
        left, right = (np.delete(f, dropped, axis) for f, axis in ((components.left, 1), (components.right, 0)))
        assert output_error(weight, (left, right), inputs) == pytest.approx(s, abs=tolerance)


def by_cholesky(weight, gram, rank):
    """The published form: SVD of W L, then the inverse of L, which whitens the inputs."""
    L = linalg.cholesky(gram, lower=True)
    left, right = truncated_svd(weight @ L, rank)
    return left, linalg.solve_triangular(L, right.T, lower=True, trans="T").T


def by_principal_outputs(weight, inputs, rank):
    """Without a Gram matrix: what the principal components of the outputs keep of the weight."""
    U = linalg.svd(weight @ inputs.T, full_matrices=False)[0][:, :rank]
    return U, U.T @ weight


@given(matrices_and_ranks(generic_matrices()), generators())
def test_cholesky_any_root_and_principal_outputs_agree(case, rng):
    weight, rank = case
    inputs = draw_inputs(rng, weight.shape[1])
    gram = inputs.T @ inputs
    L = linalg.cholesky(gram, lower=True)
    whitening = linalg.solve_triangular(L, linalg.solve_triangular(L, gram, lower=True).T, lower=True)
    np.testing.assert_allclose(whitening, np.eye(len(gram)), atol=1e-7)
    found = product(whitened_svd(weight, gram, rank))
    others = [by_cholesky(weight, gram, rank), by_principal_outputs(weight, inputs, rank)]
    symmetric = linalg.sqrtm(gram).real
    U, S, Vt = linalg.svd(weight @ symmetric, full_matrices=False)
    others.append((U[:, :rank] * S[:rank], linalg.solve(symmetric, Vt[:rank].T).T))
    error = output_error(weight, (found, np.eye(weight.shape[1])), inputs)
    size = np.linalg.norm(inputs @ weight.T)
    for other in others:  # compared by what the inputs see of them, which no conditioning blurs
        np.testing.assert_allclose(inputs @ product(other).T, inputs @ found.T, rtol=0, atol=1e-5 * size)
        assert output_error(weight, other, inputs) == pytest.approx(error, abs=1e-7 * size)


@given(matrices_and_ranks(generic_matrices()), generators(), st.sampled_from([1e-8, 1.0, 1e8]))
def test_inputs_without_correlation_give_the_plain_svd(case, rng, scale):
    weight, rank = case
    inputs = linalg.qr(rng.standard_normal((20, weight.shape[1])), mode="economic")[0]
    plain = product(truncated_svd(weight, rank))
    for gram in (scale * inputs.T @ inputs, np.zeros((weight.shape[1], weight.shape[1]))):
        np.testing.assert_allclose(product(whitened_svd(weight, gram, rank)), plain, **close(weight))


@given(generic_matrices(low=4), generators(), st.data())
def test_inputs_of_a_subspace_lose_nothing_at_its_dimension(weight, rng, data):
    """Also for fewer tokens than features, where Cholesky's factorization fails; the plain SVD does lose."""
    dimension = data.draw(st.integers(1, min(weight.shape) - 1))
    tokens = data.draw(st.integers(dimension, 20))
    inputs = rng.standard_normal((tokens, dimension)) @ rng.standard_normal((dimension, weight.shape[1]))
    gram, size = inputs.T @ inputs, np.linalg.norm(inputs @ weight.T)
    assert np.linalg.matrix_rank(gram) < len(gram)
    assert output_error(weight, whitened_svd(weight, gram, dimension), inputs) <= 1e-5 * size
    assert output_error(weight, truncated_svd(weight, dimension), inputs) > 1e-4 * size
    full = product(whitened_svd(weight, gram, min(weight.shape)))
    np.testing.assert_allclose(full, weight, rtol=0, atol=1e-9 * np.linalg.norm(weight))


@given(matrices_and_ranks(generic_matrices()), generators())
def test_rotating_the_inputs_commutes_with_whitening_but_not_with_the_plain_diagonal(case, rng):
    """Any invertible change of the inputs, taken back in the weight, leaves whitened outputs as they are."""
    weight, rank = case
    features = weight.shape[1]
    inputs, change = draw_inputs(rng, features), rng.standard_normal((features, features)) + 3 * np.eye(features)
    moved_inputs, moved_weight = inputs @ change, linalg.solve(change, weight.T).T
    moved = product(whitened_svd(moved_weight, moved_inputs.T @ moved_inputs, rank))
    whole = inputs @ product(whitened_svd(weight, inputs.T @ inputs, rank)).T
    np.testing.assert_allclose(moved_inputs @ moved.T, whole, rtol=0, atol=1e-5 * np.linalg.norm(inputs @ weight.T))


@given(matrices_and_ranks(generic_matrices(low=3)), generators())
def test_residual_corrections_add_up_to_the_larger_rank(case, rng):
    """Low rank plus low rank of the rest is the sum of the ranks; quantizing balanced factors costs what bounds say."""
    weight, rank = case
    size = np.linalg.norm(weight)
    first = product(truncated_svd(weight, rank))
    errors = [np.linalg.norm(weight - first)]
    for more in range(1, min(weight.shape) - rank + 1):
        corrected = first + product(truncated_svd(weight - first, more))
        np.testing.assert_allclose(corrected, product(truncated_svd(weight, rank + more)), rtol=0, atol=1e-7 * size)
        errors.append(np.linalg.norm(weight - corrected))
    assert np.all(np.diff(errors) <= 1e-9 * size)
    left, right = truncated_svd(weight, rank)
    rounded_left, rounded_right = (f + 0.01 * np.max(np.abs(f)) * rng.uniform(-1, 1, f.shape) for f in (left, right))
    bound = np.linalg.norm(rounded_left - left) * np.linalg.norm(right, 2)
    bound += np.linalg.norm(rounded_left, 2) * np.linalg.norm(rounded_right - right)
    assert np.linalg.norm(weight - rounded_left @ rounded_right) <= errors[0] + bound + 1e-12 * size


def test_whitened_is_best_then_diagonals_then_plain_where_inputs_have_outliers():
    """Medians over 40 weights; the inputs have few strong directions, as those of trained models do."""
    errors = []
    for seed in range(40):
        rng = np.random.default_rng(seed)
        scales = np.exp(rng.standard_normal(24))
        scales[:2] *= 20
        common = rng.standard_normal((200, 8)) @ rng.standard_normal((8, 24))
        inputs = (common + 0.5 * rng.standard_normal((200, 24))) * scales
        weight = rng.standard_normal((16, 24))
        size = np.linalg.norm(inputs @ weight.T)
        gram, magnitudes = inputs.T @ inputs, np.mean(np.abs(inputs), axis=0)
        gradients = rng.standard_normal((200, 16))
        fisher = np.square(gradients).T @ np.square(inputs)
        found = (
            whitened_svd(weight, gram, 6),
            activation_weighted_svd(weight, magnitudes, 6, alpha=1.0),
            fisher_weighted_svd(weight, fisher, 6),
            truncated_svd(weight, 6),
        )
        errors.append([output_error(weight, factors, inputs) / size for factors in found])
    whitened, activation, fisher, plain = np.median(errors, axis=0)
    assert 1.5 * whitened < activation < 0.7 * plain and fisher == pytest.approx(activation, rel=0.1)


def test_dtypes_are_kept():
    rng = np.random.default_rng(0)
    for dtype in (np.float32, np.float64):
        weight, inputs = rng.standard_normal((5, 7)).astype(dtype), rng.random((9, 7)).astype(dtype)
        for left, right in (
            weighted_svd(weight, inputs[0], weight[:, 0] ** 2, 3),
            activation_weighted_svd(weight, inputs[0], 3),
            whitened_svd(weight, inputs.T @ inputs, 3),
        ):
            assert left.dtype == dtype and right.dtype == dtype


def test_impossible_requests_are_refused():
    weight, row = np.ones((5, 7)), np.ones(7)
    for call in (
        lambda: weighted_svd(weight, row[:5], np.ones(5), 1),
        lambda: weighted_svd(weight, row, row, 1),
        lambda: weighted_svd(weight, -row, np.ones(5), 1),
        lambda: weighted_svd(weight, row, np.full(5, np.nan), 1),
        lambda: activation_weighted_svd(weight, row[:5], 1),
        lambda: activation_weighted_svd(weight, -row, 1),
        lambda: activation_weighted_svd(weight, np.full(7, np.inf), 1),
        lambda: whitened_svd(weight, np.eye(5), 1),
        lambda: whitened_svd(weight, np.full((7, 7), np.nan), 1),
        lambda: whitened_svd(weight, np.triu(np.ones((7, 7))), 1),
        lambda: whitened_svd(weight, -np.eye(7), 1),
        lambda: whitened_svd(np.ones(3), np.eye(7), 1),
    ):
        with pytest.raises(DataError):
            call()
    for alpha in (-0.5, np.nan, np.inf):
        with pytest.raises(ConfigError, match="alpha"):
            activation_weighted_svd(weight, row, 1, alpha=alpha)
    for rank in (0, 6, 1.5):
        for call in (
            lambda rank: whitened_svd(weight, np.eye(7), rank),
            lambda rank: activation_weighted_svd(weight, row, rank),
            lambda rank: weighted_svd(weight, row, np.ones(5), rank),
        ):
            with pytest.raises(ConfigError, match="rank"):
                call(rank)
