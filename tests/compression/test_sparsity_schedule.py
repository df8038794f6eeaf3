"""Sparsity over time and over layers: the published curves, and the best allocation compared with all allocations."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.strategies import generators
from tinyslm.compression.pruning import allocate_sparsity, cubic_sparsity, iterative_sparsity, magnitude_mask
from tinyslm.errors import ConfigError, DataError

fractions = st.floats(0, 1)


@given(fractions, fractions, st.integers(-5, 20), st.integers(1, 50))
def test_the_cubic_schedule_has_the_given_ends_and_half_way_7_of_8_are_done(initial, final, start, length):
    stop = start + 2 * length

    def at(step):
        return cubic_sparsity(step, final, start=start, stop=stop, initial=initial)

    assert at(start) == at(start - 3) == pytest.approx(initial, abs=1e-12)
    assert at(stop) == at(stop + 7) == final
    assert at(start + length) == pytest.approx(initial + 7 / 8 * (final - initial), abs=1e-12)
    quarter = start + 0.5 * length
    assert at(quarter) == pytest.approx(final + (initial - final) * 27 / 64, abs=1e-12)


@given(fractions, fractions, st.integers(1, 40))
def test_the_cubic_schedule_is_concave_and_ends_flat(first, second, length):
    initial, final = sorted((first, second))
    curve = np.array([cubic_sparsity(t, final, stop=length, initial=initial) for t in range(length + 1)])
    growth = np.diff(curve)
    assert np.all(growth >= -1e-12) and np.all(np.diff(growth) <= 1e-12)
    assert growth[-1] == pytest.approx((final - initial) / length**3, abs=1e-12)


@given(st.floats(0, 0.99), st.integers(1, 8))
def test_every_round_removes_the_same_fraction_of_the_remaining_weights(final, rounds):
    densities = [1 - iterative_sparsity(r, final, rounds) for r in range(rounds + 1)]
    share = 1 - (1 - final) ** (1 / rounds)
    np.testing.assert_allclose(densities, [(1 - share) ** r for r in range(rounds + 1)], rtol=1e-12)
    assert densities[0] == 1 and densities[-1] == pytest.approx(1 - final)


@given(generators(), st.floats(0, 0.99), st.integers(1, 5))
def test_masks_of_growing_rounds_are_nested_while_the_kept_weights_change(rng, final, rounds):
    weight = rng.standard_normal((5, 7))
    mask = np.ones(weight.shape, bool)
    for r in range(1, rounds + 1):
        smaller = magnitude_mask(weight, iterative_sparsity(r, final, rounds))
        assert not np.any(smaller & ~mask)
        assert np.count_nonzero(~smaller) == round(iterative_sparsity(r, final, rounds) * weight.size)
        mask = smaller
        weight = rng.standard_normal(weight.shape) * mask  # trained under the mask, then pruned again


def test_invalid_schedules_are_refused():
    for arguments in ({"final": 1.2}, {"final": 0.5, "initial": -0.1}, {"final": 0.5, "start": 3, "stop": 3}):
        with pytest.raises(ConfigError):
            cubic_sparsity(0, **arguments)
    for arguments in ((1, 1.5, 2), (1, 0.5, 0), (3, 0.5, 2), (-1, 0.5, 2)):
        with pytest.raises(ConfigError):
            iterative_sparsity(*arguments)


# --- over layers


@st.composite
def scans(draw):
    """(losses of each layer at each sparsity, sizes); not monotone, and with sizes that have no common measure."""
    rng = draw(generators())
    levels = (0.0, 0.25, 0.5, 0.9)
    layers = [f"layer {i}" for i in range(draw(st.integers(1, 4)))]
    losses = {layer: dict(zip(levels, rng.exponential(size=len(levels)), strict=True)) for layer in layers}
    if draw(st.booleans()):
        losses = {layer: {s: round(loss) for s, loss in by.items()} for layer, by in losses.items()}  # many equal
    return losses, {layer: int(rng.integers(1, 40)) for layer in layers}


@given(scans(), st.floats(0, 0.89))
def test_no_other_allocation_meets_the_budget_at_a_smaller_loss(case, sparsity):
    losses, sizes = case
    wanted = sparsity * sum(sizes.values())

    def removed(chosen):
        return sum(each * sizes[layer] for layer, each in chosen.items())

    def total(chosen):
        return sum(losses[layer][each] for layer, each in chosen.items())

    found = allocate_sparsity(losses, sizes, sparsity)
    assert list(found) == list(losses) and removed(found) >= wanted - 1e-5
    choices = [dict(zip(losses, each, strict=True)) for each in itertools.product(*losses.values())]
    assert total(found) <= min(total(chosen) for chosen in choices if removed(chosen) >= wanted + 1e-5) + 1e-9


def test_an_insensitive_layer_loses_more():
    losses = {"deaf": {0.0: 0.0, 0.4: 0.01, 0.8: 0.02}, "keen": {0.0: 0.0, 0.4: 1.0, 0.8: 9.0}}
    assert allocate_sparsity(losses, {"deaf": 10, "keen": 10}, 0.4) == {"deaf": 0.8, "keen": 0.0}
    assert allocate_sparsity(losses, {"deaf": 10, "keen": 30}, 0.4) == {"deaf": 0.4, "keen": 0.4}


def test_many_layers_are_allocated_quickly():
    """The layers of a model have few different sizes, so few sums are different."""
    rng = np.random.default_rng(0)
    sizes = {f"{i}": 2 ** int(rng.integers(14, 18)) for i in range(60)}
    losses = {layer: {s / 10: float(rng.exponential()) * s for s in range(10)} for layer in sizes}
    found = allocate_sparsity(losses, sizes, 0.6)
    assert sum(found[layer] * sizes[layer] for layer in sizes) >= 0.6 * sum(sizes.values()) - 1e-3


def test_budgets_that_cannot_be_met_are_refused():
    losses = {"a": {0.0: 0.0, 0.5: 1.0}}
    with pytest.raises(ConfigError, match="remove 5 weights together, fewer than 6"):
        allocate_sparsity(losses, {"a": 10}, 0.6)
    with pytest.raises(DataError, match="same layers"):
        allocate_sparsity(losses, {"b": 10}, 0.5)
    with pytest.raises(DataError, match="at least one"):
        allocate_sparsity({}, {}, 0.5)
    with pytest.raises(ConfigError, match="sparsity"):
        allocate_sparsity(losses, {"a": 10}, 1.5)
