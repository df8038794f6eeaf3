"""Low rank: the best approximation, what a rank costs, and weights that say where error hurts."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import linalg, stats

from tests.properties.low_rank_cases import draw_fisher, matrices_and_ranks, product
from tests.strategies import generators, generic_matrices, matrices
from tinyslm.autodiff import value_and_grad
from tinyslm.coursework.implementation import (
    LowRankLinear,
    break_even_rank,
    factorize_linear,
    factorized_parameters,
    fisher_weighted_svd,
    hidden_state_loss,
    quantize,
    rank_for_ratio,
    truncated_svd,
)
from tinyslm.errors import ConfigError, DataError
from tinyslm.modules import Linear
from tinyslm.tree import named_parameters

sides = st.integers(1, 300)


@given(matrices_and_ranks(matrices()), generators())
def test_eckart_young(case, rng):
    weight, rank = case
    s = linalg.svdvals(weight)
    difference = weight - product(truncated_svd(weight, rank))
    tolerance = 1e-9 * s[0] + 1e-300
    assert np.linalg.norm(difference) == pytest.approx(np.sqrt(np.sum(s[rank:] ** 2)), abs=tolerance)
    assert np.linalg.norm(difference, 2) == pytest.approx(np.append(s, 0)[rank], abs=tolerance)
    basis = rng.standard_normal((weight.shape[1], rank))
    random = weight @ basis @ np.linalg.pinv(basis)  # the best matrix with this row space
    assert np.linalg.norm(difference) <= np.linalg.norm(weight - random) + tolerance


@given(generic_matrices(), generators())
def test_full_rank_is_lossless_and_errors_do_not_increase(weight, rng):
    size = np.linalg.norm(weight)
    errors = [np.linalg.norm(weight - product(truncated_svd(weight, k))) for k in range(1, min(weight.shape) + 1)]
    assert errors[-1] <= 1e-12 * size and np.all(np.diff(errors) <= 1e-12 * size)


@given(matrices_and_ranks(generic_matrices()), generators(), st.sampled_from([-2.5, 1e-3, 7.0]))
def test_nested_idempotent_and_equivariant(case, rng, factor):
    weight, rank = case
    tolerance = {"rtol": 0, "atol": 1e-7 * np.linalg.norm(weight)}
    approximation = product(truncated_svd(weight, rank))
    np.testing.assert_allclose(product(truncated_svd(approximation, rank)), approximation, **tolerance)
    for smaller in range(1, rank):
        nested = product(truncated_svd(approximation, smaller))
        np.testing.assert_allclose(nested, product(truncated_svd(weight, smaller)), **tolerance)
    np.testing.assert_allclose(product(truncated_svd(weight.T, rank)), approximation.T, **tolerance)
    scaled = product(truncated_svd(factor * weight, rank))
    np.testing.assert_allclose(scaled / factor, approximation, **tolerance)
    P, Q = (stats.ortho_group.rvs(n, random_state=rng) for n in weight.shape)
    np.testing.assert_allclose(product(truncated_svd(P @ weight @ Q, rank)), P @ approximation @ Q, **tolerance)


@given(matrices_and_ranks(generic_matrices()))
def test_the_singular_values_are_shared_equally(case):
    weight, rank = case
    left, right = truncated_svd(weight, rank)
    s = linalg.svdvals(weight)[:rank]
    assert left.shape == (weight.shape[0], rank) and right.shape == (rank, weight.shape[1])
    np.testing.assert_allclose(left.T @ left, np.diag(s), atol=1e-10 * s[0])
    np.testing.assert_allclose(right @ right.T, np.diag(s), atol=1e-10 * s[0])


@given(matrices_and_ranks(generic_matrices()))
def test_low_rank_inputs_are_their_projections_on_the_leading_directions(case):
    """|X - X Q Q^T|^2 is the sum of the eigenvalues of X^T X that Q leaves out; with all directions nothing is lost."""
    inputs, rank = case
    eigenvalues, directions = linalg.eigh(inputs.T @ inputs)  # ascending
    Q, size = directions[:, -rank:], np.linalg.norm(inputs)
    projected = inputs @ Q @ Q.T
    np.testing.assert_allclose(product(truncated_svd(inputs, rank)), projected, rtol=0, atol=1e-6 * size)
    lost = np.sum((inputs - product(truncated_svd(inputs, rank))) ** 2)
    assert lost == pytest.approx(np.sum(eigenvalues[:-rank]), abs=1e-9 * size**2)


@given(matrices_and_ranks(generic_matrices()), st.integers(2, 8), st.booleans())
def test_quantizing_the_factors_costs_at_most_what_their_steps_allow(case, bits, symmetric):
    """|W - L' R'| <= |W - L R| + |L' - L| |R|_2 + |L'|_2 |R' - R|, where no entry of a factor moves by more than half
    its step; |R|_2 is known beforehand: the root of the largest singular value, which balanced factors share."""
    weight, rank = case
    left, right = truncated_svd(weight, rank)
    one, other = (quantize(f, bits=bits, symmetric=symmetric, axis=0) for f in (left, right))
    moves = [np.sqrt(np.sum((q.scale / 2) ** 2) * q.codes.shape[1]) for q in (one, other)]
    s = linalg.svdvals(weight)
    largest = np.sqrt(s[0])
    bound = np.linalg.norm(s[rank:]) + moves[0] * largest + (largest + moves[0]) * moves[1]
    for f, q, move in zip((left, right), (one, other), moves, strict=True):
        assert np.linalg.norm(q.dequantize() - f) <= move * (1 + 1e-9)
    error = np.linalg.norm(weight - one.dequantize() @ other.dequantize())
    assert error <= bound * (1 + 1e-9) + 1e-12 * s[0]
    assert max(np.linalg.norm(left, 2), np.linalg.norm(right, 2)) == pytest.approx(largest, rel=1e-9)


@given(sides, sides, st.floats(0.01, 1))
def test_ranks_and_what_they_cost(m, n, ratio):
    shape = (m, n)
    limit = break_even_rank(shape)
    assert limit * (m + n) <= m * n < (limit + 1) * (m + n)
    for rank in {1, max(limit, 1), min(m, n)}:
        built = rank * m + rank * n  # entries of the two factors
        assert factorized_parameters(shape, rank) == min(built, m * n)
        assert (factorized_parameters(shape, rank) < m * n) == (rank < m * n / (m + n))
    rank = rank_for_ratio(shape, ratio)
    assert isinstance(rank, int | np.integer) and 1 <= rank <= min(m, n)
    assert rank == 1 or rank * (m + n) <= ratio * m * n * (1 + 1e-12)
    assert (rank + 1) * (m + n) > ratio * m * n * (1 - 1e-12)


@pytest.mark.ungraded
def test_ranks_and_parameters_are_of_type_int():
    counts = rank_for_ratio((8, 8), 0.5), break_even_rank((8, 8)), factorized_parameters((8, 8), 3)
    assert {type(count) for count in counts} == {int}


def test_half_of_a_square_matrix_is_a_quarter_of_its_rank():
    assert rank_for_ratio((64, 64), 0.5) == 16 and break_even_rank((64, 64)) == 32
    assert rank_for_ratio((256, 1024), 0.7) == 143 and rank_for_ratio((4, 4), 0.01) == 1


def weighted_error(weight, factors, fisher):
    return np.sum(np.sum(fisher, axis=0) * (weight - product(factors)) ** 2)


@given(matrices_and_ranks(generic_matrices()), generators())
def test_minimizes_the_weighted_error(case, rng):
    weight, rank = case
    fisher = draw_fisher(rng, weight.shape)
    factors = fisher_weighted_svd(weight, fisher, rank)
    importance = np.sqrt(fisher.sum(axis=0))
    best = weighted_error(weight, factors, fisher)
    tolerance = 1e-9 * np.sum(importance**2 * weight**2)
    assert best == pytest.approx(np.sum(linalg.svdvals(weight * importance)[rank:] ** 2), abs=tolerance)
    assert best <= weighted_error(weight, truncated_svd(weight, rank), fisher) + tolerance
    for wrong in (fisher * rng.random(weight.shape), draw_fisher(rng, weight.shape)):
        assert best <= weighted_error(weight, fisher_weighted_svd(weight, wrong, rank), fisher) + tolerance
    moved = tuple(f + 0.01 * np.std(f) * rng.standard_normal(f.shape) for f in factors)
    assert best <= weighted_error(weight, moved, fisher) + tolerance
    plain = [np.linalg.norm(weight - product(f)) for f in (truncated_svd(weight, rank), factors)]
    assert plain[0] <= plain[1] + 1e-9 * np.linalg.norm(weight)


@given(matrices_and_ranks(generic_matrices()), generators())
def test_equals_the_projection_form(case, rng):
    """W' = U U^T W with U from the SVD of the weighted matrix: the same without dividing by an importance."""
    weight, rank = case
    fisher = draw_fisher(rng, weight.shape)
    U = linalg.svd(weight * np.sqrt(fisher.sum(axis=0)))[0][:, :rank]
    result = product(fisher_weighted_svd(weight, fisher, rank))
    np.testing.assert_allclose(result, U @ U.T @ weight, rtol=0, atol=1e-7 * np.linalg.norm(weight))


@given(matrices_and_ranks(generic_matrices()), generators(), st.sampled_from([1e-12, 1.0, 1e12]))
def test_only_the_proportions_of_the_fisher_information_count(case, rng, constant):
    weight, rank = case
    tolerance = {"rtol": 0, "atol": 1e-7 * np.linalg.norm(weight)}
    plain = product(truncated_svd(weight, rank))
    uniform = product(fisher_weighted_svd(weight, np.full(weight.shape, constant), rank))
    np.testing.assert_allclose(uniform, plain, **tolerance)
    np.testing.assert_allclose(product(fisher_weighted_svd(weight, np.zeros(weight.shape), rank)), plain, **tolerance)
    fisher = draw_fisher(rng, weight.shape)
    expected = product(fisher_weighted_svd(weight, fisher, rank))
    np.testing.assert_allclose(product(fisher_weighted_svd(weight, constant * fisher, rank)), expected, **tolerance)


@given(generators())
def test_features_without_information_are_given_up_but_stay_finite(rng):
    weight = rng.standard_normal((5, 7))
    fisher = rng.random((5, 7)) + 0.1
    fisher[:, 2:] = 0
    result = product(fisher_weighted_svd(weight, fisher, 2))
    np.testing.assert_allclose(result[:, :2], weight[:, :2], atol=1e-6)
    assert np.all(np.linalg.norm(result, axis=0) <= np.linalg.norm(weight, axis=0) * (1 + 1e-6))


@given(generators())
def test_squared_gradients_of_one_token_sum_to_its_squared_features(rng):
    """sum_i F_ij = x_j^2 |g|^2, so the information of an input feature is how strongly it is used."""
    layer, x, target = Linear(rng.standard_normal((5, 7))), rng.standard_normal((1, 7)), rng.standard_normal((1, 5))
    gradient = value_and_grad(lambda layer: hidden_state_loss(layer(x), target))(layer)[1].weight
    g = (layer(x) - target) * 2 / 5
    np.testing.assert_allclose(np.sum(gradient**2, axis=0), x[0] ** 2 * np.sum(g**2), rtol=1e-10)
    by_fisher = product(fisher_weighted_svd(layer.weight, gradient**2, 3))
    by_feature = product(fisher_weighted_svd(layer.weight, np.tile(x**2, (5, 1)), 3))
    np.testing.assert_allclose(by_fisher, by_feature, atol=1e-8)


@given(matrices_and_ranks(generic_matrices(low=4)), generators())
def test_two_steps_are_the_product_and_the_split_does_not_matter(case, rng):
    weight, rank = case
    out_features, in_features = weight.shape
    left, right = truncated_svd(weight, rank)
    x, bias = rng.standard_normal((2, 3, in_features)), rng.standard_normal(out_features)
    layer = LowRankLinear(left, right, bias)
    tolerance = {"rtol": 0, "atol": 1e-9 * np.linalg.norm(weight)}
    np.testing.assert_allclose(layer(x), x @ (left @ right).T + bias, **tolerance)
    s = linalg.svdvals(weight)[:rank]
    other = LowRankLinear(left * np.sqrt(s), right / np.sqrt(s)[:, None], bias)
    np.testing.assert_allclose(other(x), layer(x), **tolerance)
    assert layer.multiply_adds() == left.size + right.size
    assert list(named_parameters(layer)) == ["left", "right", "bias"]


@given(st.integers(4, 12), st.integers(4, 12), st.data())
def test_a_layer_is_factorized_only_where_that_is_smaller(m, n, data):
    rng = np.random.default_rng(data.draw(st.integers(0, 99)))
    linear = Linear(rng.standard_normal((m, n)), rng.standard_normal(m))
    rank = data.draw(st.integers(1, min(m, n)))
    layer = factorize_linear(linear, rank)
    assert sum(f.size for f in named_parameters(layer).values()) - m == factorized_parameters((m, n), rank)
    assert layer.multiply_adds() == factorized_parameters((m, n), rank)
    assert layer.bias is linear.bias and (layer is linear) == (rank * (m + n) >= m * n)
    fisher = draw_fisher(rng, (m, n))
    weighted = factorize_linear(linear, rank, lambda weight, rank: fisher_weighted_svd(weight, fisher, rank))
    if layer is not linear:
        np.testing.assert_array_equal(weighted.left, fisher_weighted_svd(linear.weight, fisher, rank)[0])
        np.testing.assert_array_equal(layer.dense_weight(), product(truncated_svd(linear.weight, rank)))


def test_dtypes_are_kept():
    rng = np.random.default_rng(0)
    for dtype in (np.float32, np.float64):
        weight, fisher = rng.standard_normal((5, 7)).astype(dtype), rng.random((5, 7)).astype(dtype)
        for left, right in (truncated_svd(weight, 3), fisher_weighted_svd(weight, fisher, 3)):
            assert left.dtype == dtype and right.dtype == dtype


def test_impossible_requests_are_refused():
    weight = np.ones((5, 7))
    for rank in (0, 6, 2.0, -1):
        with pytest.raises(ConfigError, match="rank"):
            truncated_svd(weight, rank)
        with pytest.raises(ConfigError, match="rank"):
            factorize_linear(Linear(weight), rank)
    for ratio in (0, 1.01, -0.5, np.nan):
        with pytest.raises(ConfigError, match="ratio"):
            rank_for_ratio((5, 7), ratio)
    with pytest.raises(DataError, match="fisher"):
        fisher_weighted_svd(weight, weight.T, 1)
    with pytest.raises(DataError, match="squared"):
        fisher_weighted_svd(weight, -weight, 1)
    for bad in (np.full((2, 2), np.nan), np.ones(3), np.ones((0, 3))):
        with pytest.raises(DataError, match="weight"):
            truncated_svd(bad, 1)
