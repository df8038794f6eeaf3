"""Layer maps: the published choices, and what every choice has in common."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinyslm.coursework.implementation import layer_map
from tinyslm.errors import ConfigError


@pytest.mark.parametrize(
    ("strategy", "student_layers", "teacher_layers", "expected"),
    [
        ("uniform", 4, 12, (2, 5, 8, 11)),
        ("uniform", 3, 5, (0, 2, 4)),
        ("top", 4, 12, (8, 9, 10, 11)),
        ("bottom", 4, 12, (0, 1, 2, 3)),
        ("spread", 4, 12, (0, 3, 7, 11)),
        ("spread", 3, 6, (0, 2, 5)),
        ("spread", 1, 2, (0,)),
        ("spread", 2, 5, (0, 4)),
        ("spread", 1, 5, (0,)),
        ("top", 1, 5, (4,)),
        ("uniform", 2, 5, (1, 4)),
        ("bottom", 5, 5, (0, 1, 2, 3, 4)),
    ],
)
def test_layer_maps_are_those_of_the_literature(strategy, student_layers, teacher_layers, expected):
    assert tuple(layer_map(strategy, student_layers, teacher_layers)) == expected


@given(st.sampled_from(["uniform", "spread", "top", "bottom"]), st.integers(1, 40), st.integers(0, 40))
def test_layer_maps_are_ascending_layers_of_the_teacher(strategy, student_layers, more):
    teacher_layers = student_layers + more
    found = layer_map(strategy, student_layers, teacher_layers)
    assert len(found) == student_layers
    assert list(found) == sorted(set(found) & set(range(teacher_layers)))
    if more == 0:
        assert tuple(found) == tuple(range(student_layers))
    if strategy in ("uniform", "top"):
        assert found[-1] == teacher_layers - 1
    if strategy == "spread" and student_layers > 1:
        assert (found[0], found[-1]) == (0, teacher_layers - 1)
    gaps = np.diff(found)
    assert gaps.size == 0 or np.ptp(gaps) <= 1


@pytest.mark.ungraded
@pytest.mark.parametrize("strategy", ["uniform", "spread", "top", "bottom"])
def test_a_layer_map_is_a_tuple_of_int(strategy):
    found = layer_map(strategy, 2, 5)
    assert type(found) is tuple and {type(layer) for layer in found} == {int}


@pytest.mark.parametrize("arguments", [("middle", 2, 4), ("top", 0, 4), ("uniform", 5, 4), ("bottom", 1.0, 4)])
@pytest.mark.ungraded
def test_impossible_layer_maps_are_refused(arguments):
    with pytest.raises(ConfigError):
        layer_map(*arguments)
