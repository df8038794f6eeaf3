"""Mixture of experts: who is chosen, with which weight, and that every token gets back the sum of its experts."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from scipy import special

from tests.checks import check_operation
from tests.strategies import generators
from tinyslm.coursework.implementation import choose_experts, combine_experts, routing_weights, take_rows


@st.composite
def routings(draw):
    """(rng, router_logits (N, E), chosen (N, k))."""
    rng = draw(generators())
    tokens, experts = draw(st.sampled_from([(5, 3), (2, 4), (1, 5)]))
    logits = rng.standard_normal((tokens, experts))
    return rng, logits, choose_experts(logits, draw(st.integers(1, experts)))


@given(routings())
def test_routing_weights(routing):
    """Equal to the softmax over all experts, divided by the sum of the chosen: Mixtral's two ways to say the same."""
    _, logits, chosen = routing
    p = np.take_along_axis(special.softmax(logits, axis=-1), chosen, axis=-1)
    np.testing.assert_allclose(routing_weights(logits, chosen=chosen), p / p.sum(axis=-1, keepdims=True), atol=1e-14)
    check_operation(routing_weights, logits, chosen=chosen)


def test_the_largest_logits_are_chosen_and_ties_go_to_the_lower_index():
    logits = np.array([[1.0, 3.0, 3.0, 2.0], [0.0, 0.0, 0.0, 0.0]])
    np.testing.assert_array_equal(choose_experts(logits, 3), [[1, 2, 3], [0, 1, 2]])


@given(routings())
def test_take_rows(routing):
    rng, _, chosen = routing
    x, rows = rng.standard_normal((chosen.shape[0], 4)), np.flatnonzero((chosen == 0).any(axis=1))
    np.testing.assert_array_equal(take_rows(x, rows=rows), x[rows])
    check_operation(take_rows, x, rows=rows)


@given(routings())
def test_combine_experts(routing):
    """The sum over a token's experts, with a gradient for the weights and for each expert's output."""
    rng, logits, chosen = routing
    weights = rng.standard_normal(chosen.shape)
    rows, slots = zip(*(np.nonzero(chosen == e) for e in range(logits.shape[1])), strict=True)
    outputs = [rng.standard_normal((len(row), 2)) for row in rows]
    expected = np.zeros((len(logits), 2))
    for n, slot in np.ndindex(chosen.shape):
        e = chosen[n, slot]
        expected[n] += weights[n, slot] * outputs[e][list(rows[e]).index(n)]
    np.testing.assert_allclose(combine_experts(weights, *outputs, rows=rows, slots=slots), expected, atol=1e-13)
    check_operation(combine_experts, weights, *outputs, rows=rows, slots=slots)
