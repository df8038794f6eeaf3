"""Argument checks: accepted arguments pass unchanged, axes of one name have one size, messages are complete."""

import inspect

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.strategies import generators
from tinyslm.compression.argument_checks import (
    array,
    at_least,
    checked,
    fraction,
    index_of,
    integer,
    matrix,
    one_of,
    require_choice,
    require_count,
    require_finite,
    require_integer,
    require_matrix,
    require_ratio,
    require_same_shape,
)
from tinyslm.errors import ConfigError, DataError

sizes = st.integers(1, 5)


@checked(
    weight=matrix("out", "in"),
    norms=array("in", nonnegative=True),
    mask=array("out", "in", boolean=True),
    m=integer(1, "in"),
    n=integer(0, "m"),
    sparsity=fraction,
    method=one_of("slow", "fast"),
    damping=at_least(0),
)
def function(weight, norms, mask=None, *, m=1, n=0, sparsity=0.5, method="slow", damping=0.01):
    """Returns what it received."""
    return weight, norms, mask, m, n, sparsity, method, damping


@given(generators(), sizes, sizes, st.floats(0, 1), st.sampled_from([np.float32, np.float64, np.int8]), st.data())
def test_accepted_arguments_reach_the_function_unchanged(rng, rows, columns, sparsity, dtype, data):
    weight = rng.integers(-9, 9, (rows, columns)).astype(dtype)
    norms, mask = rng.random(columns), rng.random((rows, columns)) < 0.5
    m = data.draw(st.integers(1, columns))
    n = data.draw(st.integers(0, m))
    before = [each.copy() for each in (weight, norms, mask)]
    settings = {"m": m, "n": n, "sparsity": sparsity, "method": "fast", "damping": 0.0}
    received = function(weight, norms, mask, **settings)
    if dtype is np.int8:
        assert received[0].dtype == np.float64 and np.array_equal(received[0], weight)
    else:
        assert received[0] is weight
    assert received[1] is norms and received[2] is mask
    assert received[3:] == tuple(settings.values())
    for array_before, array_after in zip(before, (weight, norms, mask), strict=True):
        np.testing.assert_array_equal(array_after, array_before)
        assert array_after.dtype == array_before.dtype


def test_positional_and_keyword_arguments_and_defaults_are_the_same_call():
    weight, norms = np.ones((2, 3)), np.ones(3)
    for received in (function(weight, norms), function(norms=norms, weight=weight), function(weight, norms, None)):
        assert received[0] is weight and received[1] is norms
        assert received[2:] == (None, 1, 0, 0.5, "slow", 0.01)
    with pytest.raises(TypeError, match="norms"):
        function(weight)
    with pytest.raises(TypeError, match="luck"):
        function(weight, norms, luck=1)


def test_none_is_not_checked_and_lists_become_arrays():
    weight, norms, mask, *_ = function([[1.0, 2.0]], [0, 1], [[True, False]])
    assert all(isinstance(each, np.ndarray) for each in (weight, norms, mask))
    assert function([[1.0]], None)[1] is None and mask.dtype == bool and weight.dtype == float
    assert norms.tolist() == [0, 1]


def test_a_checked_function_keeps_its_name_signature_docstring_and_source():
    assert function.__name__ == "function" and function.__doc__ == "Returns what it received."
    assert list(inspect.signature(function).parameters)[:3] == ["weight", "norms", "mask"]
    assert "return weight, norms" in inspect.getsource(function)


def test_a_check_of_an_argument_that_does_not_exist_is_an_error_of_the_programmer():
    with pytest.raises(TypeError, match="has no argument wieght"):
        checked(wieght=fraction)(lambda weight: weight)


@given(st.lists(sizes, min_size=3, max_size=3), st.lists(sizes, min_size=3, max_size=3))
def test_axes_of_one_name_have_one_size(first, second):
    """Within an argument too: ("n", "n") is a square."""
    take = checked(x=array("a", "b", "c"), y=array("c", "b"), z=array("a", "a"))(lambda x, y, z: True)
    y, z = second[:2], (first[0], second[2])
    x = np.zeros(first)
    if y != first[:0:-1]:
        expected = rf"y must have shape \({first[2]}, {first[1]}\), found \({y[0]}, {y[1]}\)"
        with pytest.raises(DataError, match=expected):
            take(x, np.zeros(y), np.zeros(z))
    elif z[0] != z[1]:
        with pytest.raises(DataError, match=rf"z must have shape \({z[0]}, {z[0]}\), found \({z[0]}, {z[1]}\)"):
            take(x, np.zeros(y), np.zeros(z))
    else:
        assert take(x, np.zeros(y), np.zeros(z))


def test_calls_do_not_share_sizes():
    for columns in (3, 4):
        assert function(np.ones((2, columns)), np.ones(columns))[0].shape == (2, columns)


@given(st.lists(sizes, max_size=3), sizes)
def test_leading_axes_and_fixed_sizes(leading, columns):
    take = checked(x=array(..., "in"), y=array("in", 2), z=array(...))(lambda x, y, z: (x.shape, z.shape))
    shape = (*leading, columns)
    assert take(np.zeros(shape), np.zeros((columns, 2)), np.zeros(leading)) == (shape, tuple(leading))
    with pytest.raises(DataError, match=rf"y must have shape \({columns}, 2\), found \({columns}, 3\)"):
        take(np.zeros(shape), np.zeros((columns, 3)), 0)
    with pytest.raises(DataError, match=r"x must have shape \(in,\), found \(\)"):
        take(np.float64(1), np.zeros((columns, 2)), 0)


WEIGHT, NORMS = np.ones((2, 3)), np.ones(3)
REFUSED = [
    ({"weight": np.ones(3)}, DataError, r"weight must be a matrix \(out, in\) .* found shape \(3,\)"),
    ({"weight": np.ones((0, 3))}, DataError, r"at least one entry, found shape \(0, 3\)"),
    (
        {"weight": np.array([[1.0, np.nan, np.inf]])},
        DataError,
        "weight must be finite, found 2 nan or infinite",
    ),
    ({"norms": np.ones(2)}, DataError, r"norms must have shape \(3,\), found \(2,\)"),
    ({"norms": np.ones((3, 1))}, DataError, r"norms must have shape \(3,\), found \(3, 1\)"),
    ({"norms": np.array([1.0, np.inf, 1.0])}, DataError, "norms must be finite, found 1"),
    ({"norms": np.array([1.0, -2.0, 1.0])}, DataError, "norms must not be negative, found -2.0"),
    ({"mask": np.ones((2, 3))}, DataError, "mask must hold booleans, found float64"),
    ({"mask": np.ones((3, 2), bool)}, DataError, r"mask must have shape \(2, 3\), found \(3, 2\)"),
    ({"m": 4}, ConfigError, "m must be a whole number from 1 to 3, found 4"),
    ({"m": 2.0}, ConfigError, "m must be a whole number from 1 to 3, found 2.0"),
    ({"m": True}, ConfigError, "m must be a whole number from 1 to 3, found True"),
    ({"m": 2, "n": 3}, ConfigError, "n must be a whole number from 0 to 2, found 3"),
    ({"sparsity": 1.5}, ConfigError, "sparsity is the fraction of weights removed, from 0 to 1, found 1.5"),
    ({"sparsity": np.nan}, ConfigError, "sparsity .* found nan"),
    ({"method": "luck"}, ConfigError, "method is 'luck', expected one of slow, fast"),
    ({"damping": -0.1}, ConfigError, "damping must be a number of at least 0, found -0.1"),
    ({"damping": np.nan}, ConfigError, "damping .* found nan"),
]


@pytest.mark.parametrize(("changes", "error", "message"), REFUSED, ids=lambda each: str(each)[:40])
def test_messages_name_the_argument_what_was_found_and_what_was_expected(changes, error, message):
    arguments = {"weight": WEIGHT, "norms": NORMS, "mask": np.ones((2, 3), bool)} | changes
    with pytest.raises(error, match=message):
        function(**arguments)


@given(sizes, st.integers(-2, 6))
def test_an_index_is_one_of_its_axis(size, index):
    take = checked(x=array("n"), index=index_of("n"))(lambda x, index: x[index])
    if 0 <= index < size:
        assert take(np.arange(size), index) == index
    else:
        with pytest.raises(ConfigError, match=f"index must be a whole number from 0 to {size - 1}, found {index}"):
            take(np.arange(size), index)


def test_an_axis_that_is_not_known_yet_is_named_in_the_message():
    with pytest.raises(DataError, match=r"x must have shape \(3, in\), found \(3,\)"):
        checked(x=array("out", "in"))(lambda x: x)(np.ones(3))


def test_helpers_without_the_decorator():
    require_integer("count", np.int64(3), 1, 3)
    require_count("steps", 1)
    require_choice("form", "csr", ("csr", "bitmap"))
    require_ratio(1.0)
    require_same_shape("x", WEIGHT, [2, 3])
    require_matrix("x", WEIGHT)
    require_finite("x", NORMS)
    for value in (0, -1, 1.0, True):
        with pytest.raises(ConfigError, match=f"steps is {value}, expected an integer of at least 1"):
            require_count("steps", value)
    with pytest.raises(ConfigError, match="form is 'coo', expected one of csr, bitmap"):
        require_choice("form", "coo", ("csr", "bitmap"))
    for ratio in (0, 1.1, -0.5, np.nan):
        with pytest.raises(ConfigError, match="ratio is the fraction of heads kept, above 0 and up to 1"):
            require_ratio(ratio, "heads")
