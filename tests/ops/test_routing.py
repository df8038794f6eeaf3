"""Routing with the probabilities of all experts. `tests/properties/test_routing.py` has the other operations."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import special

from tests.checks import check_float32, check_operation
from tests.strategies import generators
from tinyslm import ops


@given(generators(), st.integers(1, 4))
def test_routing_probabilities(rng, count):
    """The softmax over all logits at the chosen experts, with its gradient for all logits."""
    logits = rng.standard_normal((5, 4))
    chosen = ops.choose_experts(logits, count)
    wanted = np.take_along_axis(special.softmax(logits, axis=-1), chosen, axis=-1)
    np.testing.assert_allclose(ops.routing_probabilities(logits, chosen=chosen), wanted, atol=1e-14)
    check_operation(ops.routing_probabilities, logits, chosen=chosen)
    check_float32(ops.routing_probabilities, logits, chosen=chosen)


@given(generators())
def test_routing_weights_are_the_probabilities_divided_by_their_sum(rng):
    logits = rng.standard_normal((5, 4)) * 100
    chosen = ops.choose_experts(logits, 2)
    probabilities = ops.routing_probabilities(logits, chosen=chosen)
    assert np.isfinite(probabilities).all() and (probabilities.sum(axis=-1) <= 1 + 1e-12).all()
    wanted = probabilities / probabilities.sum(axis=-1, keepdims=True)
    np.testing.assert_allclose(ops.routing_weights(logits, chosen=chosen), wanted, atol=1e-13)


def test_a_single_expert_has_the_probability_1():
    assert ops.routing_probabilities(np.array([[-3.0]]), chosen=np.array([[0]])) == pytest.approx(1)
