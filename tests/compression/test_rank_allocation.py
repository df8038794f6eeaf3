"""Dividing a budget among layers: shares of energy, worth per parameter, and cuts through measured losses."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import linalg

from tests.strategies import generators, matrices, seeds
from tinyslm.compression.factorization import (
    factorized_parameters,
    greedy_ranks,
    rank_for_energy,
    rank_for_ratio,
    ratios_by_loss,
)
from tinyslm.errors import ConfigError, DataError


@given(matrices(), st.floats(0.01, 1), st.floats(0.01, 1))
def test_the_rank_grows_with_the_energy_and_bounds_the_error(weight, one, other):
    s = linalg.svdvals(weight)
    squares = np.sum(s**2)
    for energy in (one, other):
        rank = rank_for_energy(s, energy)
        assert type(rank) is int and 1 <= rank <= len(s)
        assert np.sum(s[rank:] ** 2) <= (1 - energy) * squares * (1 + 1e-9) + 1e-12 * squares
        assert rank == 1 or np.sum(s[rank - 1 :] ** 2) > (1 - energy) * squares * (1 - 1e-9)
    low, high = sorted((one, other))
    assert rank_for_energy(s, low) <= rank_for_energy(s, high)


@given(generators(), st.integers(1, 6), st.integers(0, 4))
def test_all_energy_is_the_rank_of_the_matrix(rng, rank, zeros):
    s = np.append(np.sort(rng.random(rank) + 1e-3)[::-1], np.zeros(zeros))
    assert rank_for_energy(s, 1) == rank


@st.composite
def spectra(draw, count=3, side=(2, 5), same_sum=None):
    """{layer: singular values}, {layer: shape}, of random size and decay."""
    rng = np.random.default_rng(draw(seeds))
    shapes = {}
    for layer in "abcd"[:count]:
        m = draw(st.integers(*side))
        shapes[layer] = (m, same_sum - m if same_sum else draw(st.integers(*side)))
    decays = {layer: draw(st.sampled_from([0.0, 0.3, 1.5])) for layer in shapes}
    values = {
        layer: np.sort(rng.random(min(shape)) * np.exp(-decays[layer] * np.arange(min(shape))))[::-1]
        for layer, shape in shapes.items()
    }
    return values, shapes


def total_error(values, shapes, ranks):
    """The sum of squared errors of what these ranks stand for: a layer that costs as much as the dense one is dense."""
    return sum(
        0 if ranks[layer] * sum(shape) >= math.prod(shape) else np.sum(values[layer][ranks[layer] :] ** 2)
        for layer, shape in shapes.items()
    )


def total_parameters(shapes, ranks):
    return sum(factorized_parameters(shape, ranks[layer]) for layer, shape in shapes.items())


def least_error(values, shapes, budget):
    """By trying all ranks."""
    choices = itertools.product(*(range(1, min(shape) + 1) for shape in shapes.values()))
    candidates = (dict(zip(shapes, choice, strict=True)) for choice in choices)
    return min(total_error(values, shapes, each) for each in candidates if total_parameters(shapes, each) <= budget)


def budget_of(shapes, share):
    """From rank 1 in every layer (0) to all dense (1)."""
    least, most = (sum(factorized_parameters(s, k(s)) for s in shapes.values()) for k in (lambda s: 1, min))
    return int(least + share * (most - least))


@given(spectra(side=(4, 6)), st.floats(0, 1))
def test_greedy_ranks_are_within_one_step_of_the_best(case, share):
    values, shapes = case
    budget = budget_of(shapes, share)
    ranks = greedy_ranks(values, shapes, budget)
    assert list(ranks) == list(shapes) and all(1 <= ranks[layer] <= min(shape) for layer, shape in shapes.items())
    assert total_parameters(shapes, ranks) <= budget
    found, best = total_error(values, shapes, ranks), least_error(values, shapes, budget)
    largest_step = max(np.sum(s[1:] ** 2) for s in values.values())  # from rank 1 to dense at once
    assert best - 1e-12 <= found <= best + largest_step


@settings(max_examples=100)
@given(spectra(side=(9, 11), same_sum=20), st.integers(0, 6), st.integers(0, 19))
def test_greedy_ranks_are_the_best_where_all_layers_cost_the_same_and_none_becomes_dense(case, extra, remainder):
    """Ranks up to 4 of about 10: far below the border of 5, with all the energy in the first 3 components."""
    values, shapes = case
    values = {layer: np.append(s[:3] + 1e-3, np.zeros(len(s) - 3)) for layer, s in values.items()}
    budget = 20 * (len(shapes) + extra) + remainder
    ranks = greedy_ranks(values, shapes, budget)
    assert total_parameters(shapes, ranks) <= budget
    assert total_error(values, shapes, ranks) == pytest.approx(least_error(values, shapes, budget), abs=1e-9)


@given(spectra(side=(3, 6)))
def test_a_budget_for_everything_leaves_all_layers_dense_and_more_is_never_worse(case):
    values, shapes = case
    dense = sum(math.prod(shape) for shape in shapes.values())
    assert total_error(values, shapes, greedy_ranks(values, shapes, dense)) == 0
    least = sum(factorized_parameters(shape, 1) for shape in shapes.values())
    assert greedy_ranks(values, shapes, least) == dict.fromkeys(shapes, 1)
    with pytest.raises(ConfigError, match="budget"):
        greedy_ranks(values, shapes, least - 1)


@given(spectra(count=4, side=(20, 30)), st.floats(0.2, 0.95))
def test_greedy_ranks_are_no_worse_than_uniform_ones(case, ratio):
    """Where singular values fall off, so that the step to the dense matrix is never worth the most; flat ones can lose
    by as much as that step."""
    values, shapes = case
    values = {layer: s * 0.6 ** np.arange(len(s)) for layer, s in values.items()}
    uniform = {layer: rank_for_ratio(shape, ratio) for layer, shape in shapes.items()}
    ranks = greedy_ranks(values, shapes, total_parameters(shapes, uniform))
    largest_component = max(s[1] ** 2 for s in values.values())
    assert total_error(values, shapes, ranks) <= total_error(values, shapes, uniform) + largest_component


def test_a_flat_layer_becomes_dense_at_once():
    """Where no component is worth more than another, a rank above the border would cost more than the matrix."""
    values = {"flat": np.ones(10), "steep": 2.0 ** -np.arange(10)}
    shapes = dict.fromkeys(values, (10, 10))
    assert greedy_ranks(values, shapes, 100 + 60) == {"flat": 10, "steep": 3}
    assert greedy_ranks(values, shapes, 100 + 20) == {"flat": 10, "steep": 1}


@st.composite
def measured_losses(draw):
    rng = np.random.default_rng(draw(seeds))
    ratios = (0.2, 0.5, 0.8)
    losses = {layer: {ratio: float(np.round(rng.random(), 1)) for ratio in ratios} for layer in "abc"}
    sizes = {layer: int(rng.integers(10, 50)) for layer in losses}
    parameters = {layer: {ratio: int(ratio * n) for ratio in (*ratios, 1.0)} for layer, n in sizes.items()}
    return losses, parameters


@given(measured_losses(), st.floats(0.2, 1))
def test_a_cut_keeps_every_layer_that_it_can_and_is_the_lowest_that_fits(case, share):
    losses, parameters = case
    budget = share * sum(each[1.0] for each in parameters.values())

    def at(cut):
        chosen = {}
        for layer, by_ratio in losses.items():
            allowed = [ratio for ratio, loss in by_ratio.items() if loss <= cut]
            chosen[layer] = min(allowed) if allowed else 1.0
        return chosen, sum(parameters[layer][ratio] for layer, ratio in chosen.items())

    cuts = np.linspace(-0.1, 1, 12)
    fitting = [cut for cut in cuts if at(cut + 1e-9)[1] <= budget]
    if not fitting:
        with pytest.raises(ConfigError, match="smaller ratios"):
            ratios_by_loss(losses, parameters, budget)
    else:
        assert ratios_by_loss(losses, parameters, budget) == at(fitting[0] + 1e-9)[0]


def test_impossible_requests_are_refused():
    for energy in (0, 1.1, np.nan, -1):
        with pytest.raises(ConfigError, match="energy"):
            rank_for_energy(np.ones(3), energy)
    for bad in (np.array([1.0, 2.0]), np.array([1.0, -1.0]), np.zeros(0), np.ones((2, 2)), np.array([np.nan])):
        with pytest.raises(DataError):
            rank_for_energy(bad, 0.5)
    with pytest.raises(DataError, match="shape"):
        greedy_ranks({"a": np.ones(3)}, {"a": (4, 5)}, 100)
