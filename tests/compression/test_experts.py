"""Pruning of experts: their importance, and slices of router and experts."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.strategies import generators
from tinyslm.compression.pruning import expert_importance, most_important, slice_experts
from tinyslm.errors import ConfigError, DataError


@given(generators(), st.integers(1, 6))
def test_magnitude_is_the_norm_of_all_weights_of_an_expert(rng, count):
    experts = [[rng.standard_normal((4, 3)), rng.standard_normal((3, 4))] for _ in range(count)]
    importance = expert_importance(experts, method="magnitude")
    assert importance.shape == (count,)
    for expert, found in zip(experts, importance, strict=True):
        assert found == pytest.approx(np.linalg.norm(np.concatenate([weight.reshape(-1) for weight in expert])))


@given(generators(), st.integers(2, 6), st.data())
def test_slicing_commutes_with_the_order_of_the_experts(rng, count, data):
    """Which experts are kept does not depend on their order."""
    router, usage = rng.standard_normal((count, 5)), rng.permutation(count) + 1.0
    keep = data.draw(st.integers(1, count))
    order = rng.permutation(count)
    names = [f"expert {i}" for i in range(count)]
    rows, kept = slice_experts(router, names, most_important(usage, keep))
    importance = expert_importance([[]] * count, mean_routing_weight=usage[order])
    other_rows, other = slice_experts(router[order], [names[i] for i in order], most_important(importance, keep))
    assert set(kept) == set(other) and len(kept) == keep
    for row, name in zip(rows, kept, strict=True):
        np.testing.assert_array_equal(row, other_rows[other.index(name)])
        np.testing.assert_array_equal(row, router[names.index(name)])


def test_invalid_arguments_are_refused():
    with pytest.raises(ConfigError, match="mean_routing_weight"):
        expert_importance([[]] * 3)
    with pytest.raises(DataError, match=r"\(2,\)"):
        expert_importance([[]] * 3, mean_routing_weight=np.ones(2))
    with pytest.raises(ConfigError, match="method"):
        expert_importance([[]] * 3, method="luck")
    with pytest.raises(DataError, match="the router has 3 rows, but there are 2 experts"):
        slice_experts(np.ones((3, 4)), ["a", "b"], [0])
    with pytest.raises(DataError, match="ascending"):
        slice_experts(np.ones((3, 4)), ["a", "b", "c"], [2, 0])
