"""The learning rate rises in a line, stays at its peak, and falls in a line."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinyslm.training.schedule import SCHEDULES, warmup_cosine, warmup_stable_decay


@given(st.integers(1, 200), st.integers(0, 50), st.sampled_from([0.0, 0.05, 0.5]), st.sampled_from([0.2, 0.5, 1.0]))
def test_ends_and_parts(after, warmup, final, share):
    steps = 2 * warmup + after
    rates = [warmup_stable_decay(step, steps, warmup, final, share) for step in range(steps)]
    decay_steps = max(round(share * steps), 1)
    assert rates[-1] == pytest.approx(final)
    for step in range(warmup):
        line = final + (1 - final) * min((steps - 1 - step) / decay_steps, 1)
        assert rates[step] == pytest.approx(min((step + 1) / warmup, line))
    assert all(rate == 1 for rate in rates[warmup : max(steps - decay_steps, warmup)])
    falling = rates[max(steps - decay_steps, warmup) :]
    differences = [a - b for a, b in pairwise(falling)]
    assert differences == pytest.approx([(1 - final) / decay_steps] * len(differences))


def test_a_value_of_each_part():
    rates = [warmup_stable_decay(step, 100, 10, 0.2) for step in (4, 9, 10, 49, 74, 99)]
    assert rates == pytest.approx([0.5, 1, 1, 1, 0.6, 0.2])


def test_a_training_that_ends_in_its_warm_up_is_below_the_peak():
    rates = [warmup_stable_decay(step, 3, 4, 0.1) for step in range(3)]
    assert rates == pytest.approx([0.25, 0.5, 0.1])


def test_the_names_of_the_schedules():
    assert {"cosine": warmup_cosine, "stable": warmup_stable_decay} == SCHEDULES
