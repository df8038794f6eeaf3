"""The learning rate rises in a line, falls along half a cosine, and ends where it should."""

import math
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinyslm.coursework.implementation import warmup_cosine


@given(st.integers(1, 200), st.integers(0, 50), st.sampled_from([0.0, 0.05, 0.5]))
def test_ends_and_monotone_parts(after, warmup, final):
    steps = warmup + after
    rates = [warmup_cosine(step, steps, warmup, final) for step in range(steps)]
    assert all(0 < rate <= 1 for rate in rates[:-1])
    assert rates[-1] == pytest.approx(final)
    for step in range(warmup):
        assert rates[step] == pytest.approx((step + 1) / warmup)
    falling = rates[max(warmup - 1, 0) :]
    assert all(a > b for a, b in pairwise(falling))


def test_halfway_down_it_is_halfway_between():
    assert warmup_cosine(29, 50, 10, 0.2) == pytest.approx(0.6)
    assert warmup_cosine(19, 50, 10, 0.0) == pytest.approx((1 + math.cos(math.pi / 4)) / 2)


def test_a_training_that_ends_in_its_warm_up_only_rises():
    assert [warmup_cosine(step, 3, 4) for step in range(3)] == [0.25, 0.5, 0.75]
