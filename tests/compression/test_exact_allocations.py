"""Allocations, floors and cutoffs as exact numbers: the greedy loop step by step, ties, and limits from both sides."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.strategies import generators
from tinyslm.compression.error_compensation import damped_hessian
from tinyslm.compression.factorization import (
    activation_weighted_components,
    beyond_rank_one,
    break_even_rank,
    factorized_parameters,
    greedy_ranks,
    rank_for_energy,
    rank_for_ratio,
    ratios_by_loss,
    svd_components,
    truncated_svd,
    weighted_components,
    whitened_components,
)
from tinyslm.compression.factorization.components import Components
from tinyslm.compression.factorization.rank_allocation import squared_errors
from tinyslm.compression.factorization.svd_llm import square_root
from tinyslm.compression.pruning import allocate_sparsity, cubic_sparsity, iterative_sparsity, least_squares_refit
from tinyslm.compression.pruning.refit import refit_down
from tinyslm.errors import ConfigError


def cost(shape, rank):
    return min(rank * sum(shape), math.prod(shape))


def greedy(spectra, shapes, budget):
    """`greedy_ranks` as its docstring says: the best next step of any layer, until none is left or fits.

    The next step of a layer is one component, or at once to the dense matrix where that gains no less per parameter or
    is all that remains. A layer whose next step exceeds the budget is closed. Then single components fill the rest.
    """
    ranks, left = dict.fromkeys(shapes, 1), budget - sum(cost(shape, 1) for shape in shapes.values())
    squares = {layer: [int(s) ** 2 for s in spectrum] for layer, spectrum in spectra.items()}
    open_layers = list(shapes)

    def step(layer):
        """(gain per parameter, rank, parameters) of the next step, None for a dense layer."""
        shape, rank = shapes[layer], ranks[layer]
        dense = math.prod(shape) - rank * sum(shape)
        if dense <= 0:
            return None
        lost = squares[layer][rank:]
        single, rest = lost[0] / sum(shape), sum(lost) / dense
        if rest >= single or dense <= sum(shape):
            return rest, min(shape), dense
        return single, rank + 1, sum(shape)

    while open_layers := [layer for layer in open_layers if step(layer)]:
        layer = max(open_layers, key=lambda each: step(each)[0])  # the first of equal ones
        _, rank, parameters = step(layer)
        if parameters > left:
            open_layers.remove(layer)
        else:
            ranks[layer], left = rank, left - parameters
    while True:
        gains = {
            layer: squares[layer][ranks[layer]] / sum(shape)
            for layer, shape in shapes.items()
            if sum(shape) <= left and (ranks[layer] + 1) * sum(shape) < math.prod(shape)
        }
        if not gains:
            return ranks
        layer = max(gains, key=gains.get)
        ranks[layer], left = ranks[layer] + 1, left - sum(shapes[layer])


sides = st.tuples(st.integers(1, 9), st.integers(1, 9))


@given(st.lists(sides, min_size=1, max_size=4), generators(), st.sampled_from([2, 10, 1000]), st.floats(0, 1))
def test_greedy_ranks_follow_the_steps_of_the_definition(sizes, rng, largest, share):
    """Whole numbers, so that gains are compared without rounding and many are equal; vectors and 2x2 matrices too."""
    shapes = {f"layer {i}": shape for i, shape in enumerate(sizes)}
    spectra = {
        layer: np.sort(rng.integers(0, largest, min(shape)))[::-1].astype(float) for layer, shape in shapes.items()
    }
    least, most = (sum(cost(shape, rank) for shape in sizes) for rank in (1, 9))
    budget = least + round(share * (most - least))
    assert greedy_ranks(spectra, shapes, budget) == greedy(spectra, shapes, budget)


def test_greedy_ranks_at_every_budget():
    """Squares, tall and wide matrices, flat and steep spectra, with a budget of exactly a step, and one less."""
    shapes = {"square": (8, 8), "tall": (9, 4), "wide": (4, 12), "even": (2, 2), "flat": (6, 6)}
    spectra = {
        "square": np.array([9.0, 7, 5, 3, 2, 1, 1, 0]),
        "tall": np.array([6.0, 6, 1, 1]),
        "wide": np.array([8.0, 4, 2, 0]),
        "even": np.array([5.0, 5]),
        "flat": np.full(6, 3.0),
    }
    least, most = (sum(cost(shape, rank) for shape in shapes.values()) for rank in (1, 9))
    found = [greedy_ranks(spectra, shapes, budget) for budget in range(least, most + 2)]
    assert found == [greedy(spectra, shapes, budget) for budget in range(least, most + 2)]
    assert beyond_rank_one(shapes, least) == 0 and beyond_rank_one(shapes, least + 0.5) == 0.5
    assert found[-1] == {"square": 8, "tall": 4, "wide": 4, "even": 1, "flat": 6}  # rank 1 of "even" costs as much


def test_greedy_ranks_fill_the_rest_of_a_budget_in_the_order_of_the_gains():
    """After a step to a dense matrix that does not fit, single components of all layers are taken, squared per cost."""
    spectra = {"first": np.array([5.0, 5, 4, 4, 4, 3, 2, 2, 2]), "second": np.array([5.0, 4, 4, 3, 2, 2])}
    shapes = {"first": (9, 10), "second": (6, 9)}
    assert greedy_ranks(spectra, shapes, 53) == {"first": 2, "second": 1}  # 25 / 19 is more than 16 / 15
    assert greedy_ranks(spectra, shapes, 52) == {"first": 1, "second": 2}  # 19 parameters no longer fit
    rng = np.random.default_rng(0)
    for _ in range(300):
        shapes = {layer: tuple(rng.integers(6, 13, 2).tolist()) for layer in "abc"[: rng.integers(2, 4)]}
        spectra = {
            layer: np.sort(rng.integers(1, 6, min(shape)))[::-1].astype(float) for layer, shape in shapes.items()
        }
        least, most = (sum(cost(shape, rank) for shape in shapes.values()) for rank in (1, 12))
        budget = int(rng.integers(least, most))
        assert greedy_ranks(spectra, shapes, budget) == greedy(spectra, shapes, budget)


def test_squared_errors_are_sums_from_the_end():
    np.testing.assert_array_equal(squared_errors(np.array([3.0, 2.0, 1.0])), [14, 5, 1, 0])
    np.testing.assert_array_equal(squared_errors(np.zeros(1)), [0, 0])


def test_the_energy_of_a_rank():
    """Squares 16, 9 and 0: the first has 64 % of the sum; at least one component is kept."""
    s = np.array([4.0, 3.0, 0.0])
    energies = (1e-9, 0.5, 16 / 25, 0.6401, 0.99, 1)
    assert [rank_for_energy(s, energy) for energy in energies] == [1, 1, 1, 2, 2, 2]
    assert rank_for_energy(np.zeros(3), 1) == rank_for_energy(np.ones(1), 0.5) == 1
    assert type(rank_for_energy(s, 1)) is int


def test_numbers_of_ranks():
    shapes = [(1, 1), (1, 9), (2, 2), (3, 6), (6, 3), (4, 4), (8, 5)]
    assert [break_even_rank(shape) for shape in shapes] == [0, 0, 1, 2, 2, 2, 3]
    assert [rank_for_ratio(shape, 1) for shape in shapes] == [1, 1, 1, 2, 2, 2, 3]
    assert [rank_for_ratio((8, 8), ratio) for ratio in (0.01, 0.49, 0.5, 0.74, 0.75)] == [1, 1, 2, 2, 3]
    assert [factorized_parameters((3, 6), rank) for rank in (1, 2, 3)] == [9, 18, 18]
    assert [factorized_parameters((8, 5), rank) for rank in (1, 3, 4, 5)] == [13, 39, 40, 40]


def test_the_lowest_threshold_that_meets_a_budget():
    """Every measured loss is tried in order; a layer without a loss below the threshold stays dense."""
    losses = {"a": {0.25: 3.0, 0.5: 1.0}, "b": {0.25: 2.0, 0.5: 2.0}, "c": {1.0: 0.0}}
    parameters = {layer: {0.25: 4, 0.5: 8, 1.0: 16} for layer in losses}
    expected = {
        48: {"a": 1.0, "b": 1.0, "c": 1.0},
        47: {"a": 0.5, "b": 1.0, "c": 1.0},
        40: {"a": 0.5, "b": 1.0, "c": 1.0},
        39: {"a": 0.5, "b": 0.25, "c": 1.0},
        28: {"a": 0.5, "b": 0.25, "c": 1.0},
        27: {"a": 0.25, "b": 0.25, "c": 1.0},
        24: {"a": 0.25, "b": 0.25, "c": 1.0},
    }
    assert {budget: ratios_by_loss(losses, parameters, budget) for budget in expected} == expected
    with pytest.raises(ConfigError, match="no loss threshold meets a budget of 23"):
        ratios_by_loss(losses, parameters, 23)


# floors of importances and eigenvalues


@given(generators(), st.sampled_from([1e-9, 1.0, 1e9]), st.sampled_from([0.0, 0.9e-6, 1.1e-6]))
def test_importances_below_a_millionth_of_the_largest_are_raised_to_it(rng, unit, share):
    weight = rng.standard_normal((4, 5))
    inputs, outputs = np.array([2.0, 1, 3, 4, share * 4]) * unit, np.array([1.0, share * 2, 2, 0.5]) * unit
    raised = [np.array([*each]) for each in (inputs, outputs)]
    raised[0][4], raised[1][1] = max(share, 1e-6) * 4 * unit, max(share, 1e-6) * 2 * unit
    for found, expected in zip(
        weighted_components(weight, inputs, outputs), weighted_components(weight, *raised), strict=True
    ):
        np.testing.assert_allclose(found, expected, rtol=1e-9, atol=0)
    scaled = raised[1][:, None] * weight * raised[0]
    np.testing.assert_allclose(
        weighted_components(weight, inputs, outputs).singular_values, np.linalg.svd(scaled, compute_uv=False), rtol=1e-8
    )
    only = weighted_components(weight, np.zeros(5), outputs).singular_values
    np.testing.assert_allclose(only, np.linalg.svd(raised[1][:, None] * weight, compute_uv=False), rtol=1e-8)
    magnitudes = activation_weighted_components(weight, inputs**2, alpha=0.5).singular_values
    np.testing.assert_allclose(magnitudes, np.linalg.svd(weight * raised[0], compute_uv=False), rtol=1e-8)


@pytest.mark.parametrize("unit", [1e-9, 1.0, 1e9])
def test_eigenvalues_below_1e_12_of_the_largest_are_raised_to_it(unit):
    gram = np.diag([4.0, 0.0, 3e-12, 5e-12, 1.0]) * unit
    root = square_root(gram)
    np.testing.assert_allclose(np.diag(root @ root.T) / unit, [4, 4e-12, 4e-12, 5e-12, 1], rtol=1e-9)
    weight = np.eye(5)
    values = whitened_components(weight, gram).singular_values / np.sqrt(unit)
    np.testing.assert_allclose(values, np.sqrt([4, 1, 5e-12, 4e-12, 4e-12]), rtol=1e-9)
    np.testing.assert_array_equal(square_root(np.zeros((3, 3))), np.eye(3))
    np.testing.assert_allclose(square_root(np.array([[9.0]]) * unit) ** 2, [[9 * unit]])


@pytest.mark.parametrize(("share", "counts"), [(0.7e-12, False), (1.4e-12, True)])
def test_a_direction_of_the_refit_counts_from_1e_12_of_the_largest_on(share, counts):
    """Input 1 is weak, and input 2, which is removed, equals it: the weight moves if the direction counts."""
    gram = np.array([[1.0, 0, 0], [0, share, share], [0, share, share]])
    refitted = least_squares_refit(np.ones((1, 3)), gram, np.array([[True, True, False]]))
    np.testing.assert_allclose(refitted, [[1, 2 if counts else 1, 0]], rtol=1e-9)
    whole = refit_down(np.ones((1, 3)), gram, [0, 1])  # has no cutoff but that of rounding
    np.testing.assert_allclose(whole, [[1, 2]], rtol=1e-9)


def test_damping_adds_a_fraction_of_the_mean_diagonal():
    hessian = np.array([[4.0, 1.0, 0], [1.0, 3.0, 0], [0, 0, 0]])
    damped, dead = damped_hessian(hessian, 0.5)
    np.testing.assert_allclose(damped, hessian + np.diag([0, 0, 1.0]) + 0.5 * (4 + 3 + 1) / 3 * np.eye(3), rtol=1e-15)
    assert dead.tolist() == [False, False, True]
    np.testing.assert_array_equal(hessian[2], 0)
    undamped, _ = damped_hessian(hessian, 0)
    np.testing.assert_array_equal(undamped, hessian + np.diag([0, 0, 1.0]))


def test_components_of_a_matrix_without_full_rank():
    """The factors of a component of size 0 are 0 and finite; a chosen part is in the dtype and contiguous."""
    for weight in (np.zeros((3, 4)), np.outer([1.0, 2, 3], [1.0, 0, 0, 0])):
        left, right, s = svd_components(weight)
        assert np.isfinite(left).all() and np.isfinite(right).all()
        np.testing.assert_allclose(left @ right, weight, atol=1e-15)
        assert not left[:, s == 0].any() and not right[s == 0].any()
        truncated_svd(weight, 3)
    components = Components(np.arange(12.0).reshape(4, 3), np.arange(15.0).reshape(3, 5), np.array([3.0, 2, 1]))
    for chosen in (slice(2), [0, 1], np.array([True, True, False])):
        left, right = components.keep(chosen, np.float32)
        np.testing.assert_array_equal(left, components.left[:, :2])
        np.testing.assert_array_equal(right, components.right[:2])
        assert left.dtype == right.dtype == np.float32 and left.flags.c_contiguous and right.flags.c_contiguous
    assert [part.shape for part in components.first(3, float)] == [(4, 3), (3, 5)]


# sparsities


def test_equal_losses_prefer_more_weights_and_equal_removals_the_smaller_loss():
    """Of choices that meet the request at the same loss, that with the earlier levels."""
    sizes = {"a": 10, "b": 10}
    losses = {"a": {0.0: 0.0, 0.5: 1.0}, "b": {0.0: 0.0, 0.5: 1.0}}
    assert allocate_sparsity(losses, sizes, 0.25) in ({"a": 0.5, "b": 0.0}, {"a": 0.0, "b": 0.5})
    assert allocate_sparsity(losses, sizes, 0.0) == {"a": 0.0, "b": 0.0}
    assert allocate_sparsity(losses, sizes, 0.26) == {"a": 0.5, "b": 0.5}
    cheaper = {"a": {0.0: 0.0, 0.5: 1.0}, "b": {0.5: 0.5, 0.25: 0.9}}
    assert allocate_sparsity(cheaper, sizes, 0.125) == {"a": 0.0, "b": 0.5}
    assert allocate_sparsity({"a": {0.5: -1.0, 0.0: 0.0}}, {"a": 10}, 0.0) == {"a": 0.5}


def test_an_exact_request_is_met_despite_rounding():
    """0.1 + 0.2 is not 0.3 in binary: sums of weights are compared to a millionth."""
    losses = {layer: {level: level for level in (0.0, 0.1, 0.2, 0.3)} for layer in "abc"}
    sizes = dict.fromkeys("abc", 10)
    for tenths in range(10):
        found = allocate_sparsity(losses, sizes, tenths / 30)
        assert round(10 * sum(found.values())) == tenths
    assert allocate_sparsity({"a": {0.3333326: 0.0}}, {"a": 1}, 0.3333334) == {"a": 0.3333326}  # both are 0.333333
    assert allocate_sparsity({"a": {1 / 3: 0.0, 1.0: 1.0}}, {"a": 3}, 1 / 3 + 1e-8) == {"a": 1 / 3}
    assert allocate_sparsity({"a": {1 / 3: 0.0, 1.0: 1.0}}, {"a": 3}, 1 / 3 + 1e-6) == {"a": 1.0}


def test_schedules_in_exact_numbers():
    curve = [cubic_sparsity(step, 0.75, start=2, stop=6, initial=0.25) for step in range(9)]
    assert curve == [0.25, 0.25, 0.25, 0.75 - 0.5 * 27 / 64, 0.6875, 0.75 - 0.5 / 64, 0.75, 0.75, 0.75]
    assert [iterative_sparsity(number, 0.875, 3) for number in range(4)] == pytest.approx([0, 0.5, 0.75, 0.875])
    assert iterative_sparsity(0, 1, 2) == 0 and iterative_sparsity(1, 1, 2) == 1
