"""Mixture of experts: who is chosen, with which weight, and that every token gets back the sum of its experts."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from scipy import special

from tests.checks import check_float32, check_gradients, check_operation
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
    check_gradients(routing_weights, logits, chosen=chosen)


@given(routings())
def test_routing_weights_keep_float32(routing):
    _, logits, chosen = routing
    check_float32(routing_weights, logits, chosen=chosen)


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


def test_of_many_equal_logits_the_first_experts_are_chosen():
    """More than the 16 numbers up to which NumPy's fastest sort keeps their order."""
    logits = np.zeros((2, 100))
    logits[0, 70] = 1.0
    np.testing.assert_array_equal(choose_experts(logits, 30), [[70, *range(29)], range(30)])


def test_experts_without_tokens_and_rows_of_another_order():
    """An expert that no token chose adds nothing; rows need not ascend."""
    weights = np.array([[0.25, 0.75], [1.0, 0.5], [2.0, 3.0]])
    rows, slots = [np.array([2, 0]), np.array([], int), np.array([1, 0])], [np.array([1, 0]), np.array([], int), [0, 1]]
    slots = [np.asarray(slot) for slot in slots]
    outputs = [np.array([[1.0, 2], [3, 4]]), np.zeros((0, 2)), np.array([[5.0, 6], [7, 8]])]
    y, vjp = combine_experts.with_vjp(weights, *outputs, rows=rows, slots=slots)
    np.testing.assert_array_equal(y, [[0.25 * 3 + 0.75 * 7, 0.25 * 4 + 0.75 * 8], [5, 6], [3, 6]])
    dweights, *doutputs = vjp(np.array([[1.0, 0], [0, 1], [1, 1]]))
    np.testing.assert_array_equal(dweights, [[3, 7], [6, 0], [0, 3]])
    np.testing.assert_array_equal(doutputs[0], [[3, 3], [0.25, 0]])
    np.testing.assert_array_equal(doutputs[2], [[0, 1], [0.75, 0]])
    assert doutputs[1].shape == (0, 2)


@given(routings())
def test_logits_of_any_size_give_weights_that_sum_to_one(routing):
    """The exponentials of differences of 1,000 would overflow."""
    _, logits, chosen = routing
    weights = routing_weights(1000 * logits, chosen=chosen)
    np.testing.assert_allclose(weights.sum(axis=-1), 1)
    assert np.all(weights >= 0)
