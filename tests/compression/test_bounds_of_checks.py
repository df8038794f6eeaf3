"""Argument checks one by one: values next to each bound, and what a check hands to the function."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

from tinyslm.compression.argument_checks import (
    array,
    at_least,
    checked,
    finite_real,
    fraction,
    index_of,
    integer,
    matrices,
    matrix,
    one_of,
    positive,
    real,
    require_choice,
    require_count,
    require_finite,
    require_integer,
    require_matrix,
    require_ratio,
    require_same_shape,
)
from tinyslm.errors import ConfigError, DataError

NUMBERS = {  # name: (check, accepted values, refused values, words of the message)
    "integer": (integer(2, 4), (2, 3, 4, np.int8(2)), (1, 5, 3.0, True, "3", np.nan), "from 2 to 4"),
    "integer of one value": (integer(0, 0), (0,), (-1, 1, False), "from 0 to 0"),
    "at least": (at_least(0.5), (0.5, 1, 1e300), (0.49, -1, np.inf, -np.inf, np.nan), "at least 0.5"),
    "positive": (positive, (1e-300, 1, 1e300), (0, -1e-300, np.inf, np.nan), "a positive number"),
    "fraction": (fraction, (0, 0.5, 1), (-1e-9, 1 + 1e-9, np.nan), "from 0 to 1"),
    "one of": (one_of("a", "b"), ("a", "b"), ("", "ab", "A", None), "expected one of a, b"),
}


@pytest.mark.parametrize("name", NUMBERS)
def test_numbers_next_to_each_bound(name):
    check, accepted, refused, words = NUMBERS[name]
    for value in accepted:
        assert check("n", value, {}) is value
    for value in refused:
        with pytest.raises(ConfigError, match=f"^n .*{words}, found|^n is .*{words}"):
            check("n", value, {})


def test_bounds_that_are_names():
    """Of an axis, or of an integer checked before. A later check can use the value."""
    sizes = {"in": 5}
    assert integer(1, "in")("m", 5, sizes) == 5 and sizes == {"in": 5, "m": 5}
    assert integer("m", 7)("n", 5, sizes) == 5 and sizes["n"] == 5
    for check, value in ((integer(1, "in"), 6), (integer("m", 7), 4), (integer("m", 7), 8)):
        with pytest.raises(ConfigError, match=f"k must be a whole number from . to ., found {value}"):
            check("k", value, sizes)
    assert index_of("in")("i", 0, sizes) == 0 and index_of("in")("i", 4, sizes) == 4
    for value in (-1, 5, 1.0):
        with pytest.raises(ConfigError, match=f"i must be a whole number from 0 to 4, found {value}"):
            index_of("in")("i", value, sizes)


@pytest.mark.parametrize("dtype", [bool, np.int8, np.uint8, np.int64])
def test_integers_and_booleans_become_float64(dtype):
    value = np.array([[0, 1], [1, 1]], dtype)
    for check in (real, finite_real, *(lambda n, v, c=c: c(n, v, {}) for c in (array("a", "b"), matrix("a", "b")))):
        np.testing.assert_array_equal(check("x", value), np.array([[0.0, 1], [1, 1]]), strict=True)
    kept = matrix("a", "b", any_dtype=True)("x", value, {})
    assert kept is value
    np.testing.assert_array_equal(matrix("a", "b", any_dtype=True)("x", [[0, 1]], {}), np.array([[0, 1]]), strict=True)
    assert real("x", [1, 2]).dtype == np.float64


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_real_numbers_stay_as_they_are(dtype):
    value = np.ones((2, 3), dtype)
    for check in (real, finite_real, *(lambda n, v, c=c: c(n, v, {}) for c in (array("a", "b"), matrix("a", "b")))):
        assert check("x", value) is value


@pytest.mark.parametrize(
    "value", [np.ones(2, complex), np.array(["a"]), np.array([None]), np.zeros(1, "datetime64[s]")]
)
def test_other_kinds_of_numbers_are_refused(value):
    for check in (real, finite_real, lambda n, v: array("a")(n, v, {}), lambda n, v: matrix("a", "b")(n, v[None], {})):
        with pytest.raises(DataError, match=r"x has dtype .*, expected real numbers"):
            check("x", value)


def test_one_bad_entry_among_good_ones():
    good = np.array([[1.0, 2.0, 3.0]])
    everything = array("a", "b", finite=False)
    for bad in (np.nan, np.inf, -np.inf):
        wrong = np.array([[1.0, bad, 3.0]])
        assert everything("x", wrong, {}) is wrong
        for check in (array("a", "b"), matrix("a", "b"), matrix("a", "b", any_dtype=True)):
            assert check("x", good, {}) is good
            with pytest.raises(DataError, match="x must be finite, found 1 nan or infinite entries"):
                check("x", wrong, {})
        with pytest.raises(DataError, match="x must be finite, found 1"):
            finite_real("x", wrong)
    for check, accepted, refused, words in (
        (array("n", nonnegative=True), ([0.0, 1], [0, 0]), ([1, -1e-9, 2],), "must not be negative, found -1e-09"),
        (array("n", positive=True), ([1e-9, 1],), ([1, 0.0, 2],), "must be above 0, found 0.0"),
        (array("n", positive=True), ([1e-9, 1],), ([1, -2.0, 2],), "must be above 0, found -2.0"),
        (array("n", boolean=True), ([True, False],), ([1.0, 0.0], [1, 0]), "must hold booleans, found"),
    ):
        for value in accepted:
            np.testing.assert_array_equal(check("x", value, {}), value)
        for value in refused:
            with pytest.raises(DataError, match=f"x {words}"):
                check("x", value, {})


def test_several_matrices_share_their_columns_only():
    check, sizes = matrices("in"), {"before": 7}
    given = (np.ones((2, 3)), [[1, 2, 3]], np.ones((4, 3), np.float32))
    found = check("x", given, sizes)
    assert type(found) is tuple and sizes == {"before": 7, "in": 3}
    assert found[0] is given[0] and found[2] is given[2]
    np.testing.assert_array_equal(found[1], np.array([[1.0, 2, 3]]), strict=True)
    for nothing in ((), []):
        with pytest.raises(DataError, match="x: pass at least one weight matrix"):
            check("x", nothing, {})
    for wrong in (np.ones((2, 4)), np.ones(3), np.ones((0, 3)), np.array([[1, np.nan, 2]])):
        with pytest.raises(DataError, match="x must"):
            check("x", (np.ones((2, 3)), wrong), {})
    with pytest.raises(DataError, match="x must have shape"):
        check("x", (np.ones((2, 3)),), {"in": 4})


def test_arrays_without_entries():
    assert array("n")("x", [], {}).shape == (0,)
    assert array("n", nonnegative=True, positive=True)("x", [], {}).shape == (0,)
    for shape in ((0, 3), (3, 0)):
        with pytest.raises(DataError, match=r"x must be a matrix .* with at least one entry"):
            matrix("a", "b")("x", np.zeros(shape), {})
    for shape in ((0,), (2, 0)):
        with pytest.raises(DataError, match="x must have at least one entry"):
            finite_real("x", np.zeros(shape))
    assert finite_real("x", 3).shape == ()


def test_numbers_of_axes():
    for check, accepted, refused in (
        (matrix("a", "b"), ((1, 1), (2, 3)), ((), (3,), (1, 2, 3))),
        (array("a"), ((3,), (0,)), ((), (1, 3))),
        (array(), ((),), ((1,),)),
        (array(..., "a"), ((3,), (1, 3), (2, 1, 3)), ((),)),
        (array(..., "a", 2), ((3, 2), (1, 3, 2)), ((2,), (3, 3), ())),
        (array(...), ((), (3,), (1, 2)), ()),
        (array("a", "a"), ((1, 1), (3, 3)), ((1, 2), (3,))),
    ):
        for shape in accepted:
            assert check("x", np.zeros(shape), {}).shape == shape
        for shape in refused:
            with pytest.raises(DataError, match="x must"):
                check("x", np.zeros(shape), {})


def test_sizes_of_an_array_that_is_refused_are_not_kept():
    sizes = {"a": 2}
    for check in (array("b", "a"), matrix("b", "a")):
        with pytest.raises(DataError, match=r"x must have shape \(3, 2\), found \(3, 4\)"):
            check("x", np.zeros((3, 4)), sizes)
        assert sizes == {"a": 2}
    array("b", "a")("x", np.zeros((3, 2)), sizes)
    assert sizes == {"a": 2, "b": 3}
    leading = {}
    array(..., "c")("x", np.zeros((5, 3)), leading)
    assert leading == {"c": 3}


def test_helpers_next_to_each_bound():
    assert require_integer("n", 3, 3, 3) == 3 and require_choice("n", "a", ("a",)) == "a"
    for value in (1, np.int32(10**6)):
        require_count("n", value)
    for value in (0, -1, 1.0, True, "1"):
        with pytest.raises(ConfigError, match=r"n is .*, expected an integer of at least 1"):
            require_count("n", value)
    for ratio in (1e-9, 0.5, 1):
        require_ratio(ratio)
    for ratio in (0, -1e-9, 1 + 1e-9, np.nan):
        with pytest.raises(ConfigError, match="ratio is the fraction of parameters kept, above 0 and up to 1, found"):
            require_ratio(ratio)
    require_same_shape("x", np.zeros((2, 3)), [2, 3])
    for shape in ((3, 2), (2,), (2, 3, 1)):
        with pytest.raises(DataError, match=r"x must have shape \(.*\), found \(2, 3\)"):
            require_same_shape("x", np.zeros((2, 3)), shape)
    for wrong in (np.ones(3), np.ones((1, 2, 3)), np.ones((0, 2)), np.array([[np.inf]])):
        with pytest.raises(DataError, match="x must be"):
            require_matrix("x", wrong)
    require_finite("x", np.zeros((0, 2)))
    with pytest.raises(DataError, match="x must be finite, found 2 nan or infinite entries"):
        require_finite("x", np.array([np.nan, 1, -np.inf]))


# results


@dataclass
class Pair:
    """Two results."""

    first: Any
    second: Any


def returning(result):
    """A checked function that returns the result."""

    @checked()
    def computed():
        return result

    return computed


FINITE = (None, "text", 1, 2.5, np.float32(1), np.array([1.0, 2]), np.array([True]), np.zeros((0, 2)), len, 10**400)


@pytest.mark.parametrize("inside", [
    lambda x: x, lambda x: (x,), lambda x: [x], lambda x: (1, [2, x]), lambda x: {"a": 1, "b": x}, lambda x: Pair(1, x),
    lambda x: Pair(x, None), lambda x: {"a": (x, 1)}, lambda x: (Pair(0, {"c": [x]}), 2),
])  # fmt: skip
def test_results_that_are_not_finite_are_refused_wherever_they_are(inside):
    for result in FINITE:
        given = inside(result)
        assert returning(given)() is given
    for bad in (np.nan, np.inf, -np.inf):
        for result in (bad, np.float32(bad), np.array([1.0, bad, 2.0]), np.array(bad, np.float32)):
            with pytest.raises(DataError, match=r"computed .*overflow"):
                returning(inside(result))()


def raising(error):
    @checked()
    def computed():
        raise error

    return computed


@pytest.mark.parametrize(
    "error", [np.linalg.LinAlgError("SVD did not converge"), ValueError("array must not contain infs or NaNs")]
)
def test_linear_algebra_that_refuses_overflowed_arrays_is_an_overflow(error):
    with pytest.raises(DataError, match=r"computed .*overflow") as found:
        raising(error)()
    assert found.value.__cause__ is error


@pytest.mark.parametrize(
    "error", [ValueError("something else"), TypeError("infs or NaNs"), KeyError("a"), DataError("b")]
)
def test_other_errors_pass(error):
    with pytest.raises(type(error)) as found:
        raising(error)()
    assert found.value is error


def test_overflow_inside_of_a_function_warns_nobody(recwarn):
    @checked()
    def ignored():
        np.array([1e308]) * 10, np.array([0.0]) / 0, np.log(np.array([0.0])), np.array([1e-308]) ** 2
        return 1

    assert ignored() == 1 and len(recwarn) == 0


def test_defaults_are_checked_too_and_arguments_in_the_stated_order():
    @checked(b=positive, a=fraction)
    def function(a, b=0):
        return a, b

    with pytest.raises(ConfigError, match="b must be a positive number, found 0"):
        function(2)
    with pytest.raises(ConfigError, match="a is the fraction"):
        function(2, 1)
    assert function(0.5, b=1) == (0.5, 1) and function(None, None) == (None, None)
