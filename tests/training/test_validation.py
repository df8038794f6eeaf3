"""The validation curve: its best step is the first of the lowest losses."""

import math

from hypothesis import given
from hypothesis import strategies as st

from tinyslm.training.validation import best_step, evaluations_since_best

CURVES = st.lists(st.tuples(st.integers(1, 9), st.floats(0, 9) | st.sampled_from([1.0, math.nan])), min_size=1).map(
    lambda points: [(sum(gap for gap, _ in points[: i + 1]), nats) for i, (_, nats) in enumerate(points)]
)


@given(CURVES)
def test_no_step_is_better_than_the_best_and_none_before_it_is_as_good(curve):
    best = best_step(curve)
    numbers = {step: math.inf if math.isnan(nats) else nats for step, nats in curve}
    assert numbers[best] == min(numbers.values())
    assert all(nats > numbers[best] for step, nats in numbers.items() if step < best)


@given(CURVES)
def test_the_evaluations_since_the_best_are_those_at_later_steps(curve):
    assert evaluations_since_best(curve) == sum(step > best_step(curve) for step, _ in curve)


def test_without_an_evaluation_there_is_none_since_the_best():
    assert evaluations_since_best([]) == 0
