"""Argument validation: a decorator declares the requirements of a function, and checks the arguments of each call.

    @checked(weight=matrix("out", "in"), feature_norms=array("in", nonnegative=True), sparsity=fraction)
    def wanda_mask(weight, feature_norms, sparsity): ...

In one call, an axis name has the same size in all arguments: with a weight of shape (4, 3), feature_norms must have
shape (3,). The function receives a declared array argument as a NumPy array. Integers and booleans become float64 where
real numbers are expected. An argument that is None is not checked. The results must be finite: overflow is an error.
"""

import contextlib
import dataclasses
import functools
import inspect
import math
import numbers
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from tinyslm.errors import ConfigError, DataError, NumericOverflow


def checked(**requirements: Callable) -> Callable:
    """Decorator that checks arguments before the function runs, and its results afterwards.

    requirements: {argument: check}, in the order of checking. check(name, value, sizes) returns the value for the
    function, or raises. sizes: {name: size} of the axes and integer arguments checked so far; a check adds its own.
    A result that holds nan or infinity raises NumericOverflow.
    """

    def decorate(function):
        signature = inspect.signature(function)
        unknown = requirements.keys() - signature.parameters.keys()
        if unknown:
            raise TypeError(f"{function.__name__} has no argument {', '.join(sorted(unknown))}")

        @functools.wraps(function)
        def call(*arguments, **settings):
            bound = signature.bind(*arguments, **settings)
            bound.apply_defaults()
            sizes = {}
            for name, check in requirements.items():
                if bound.arguments[name] is not None:
                    bound.arguments[name] = check(name, bound.arguments[name], sizes)
            with overflow_is_an_error(function.__name__):
                result = function(*bound.args, **bound.kwargs)
            require_finite_result(function.__name__, result)
            return result

        return call

    return decorate


@contextlib.contextmanager
def overflow_is_an_error(function: str) -> Iterator[None]:
    """Context that raises NumericOverflow where linear algebra refuses an overflowed intermediate array."""
    try:
        with np.errstate(all="ignore"):
            yield
    except (np.linalg.LinAlgError, ValueError) as error:
        if isinstance(error, np.linalg.LinAlgError) or "infs or NaNs" in str(error):
            raise _not_finite(function) from error
        raise


def require_finite_result(function: str, result: Any):
    """Raise NumericOverflow if a floating-point number of the result is not finite. Functions in it are ignored."""
    if isinstance(result, dict):
        result = tuple(result.values())
    elif dataclasses.is_dataclass(result):
        result = tuple(vars(result).values())
    if isinstance(result, tuple | list):
        for each in result:
            require_finite_result(function, each)
    elif isinstance(result, np.ndarray | np.floating | float) and not np.all(np.isfinite(result)):
        raise _not_finite(function)


def _not_finite(function):
    return NumericOverflow(
        f"the result of {function} is not finite: the arrays hold nan or infinity, or numbers that overflow; scale the "
        "arrays down, or use float64"
    )


def real(name: str, value) -> np.ndarray:
    """The value as an array of real numbers. Integers and booleans become float64."""
    value = np.asarray(value)
    if value.dtype.kind in "biu":
        return value.astype(np.float64)
    if value.dtype.kind != "f":
        raise DataError(f"{name} has dtype {value.dtype}, expected real numbers")
    return value


def finite_real(name: str, value) -> np.ndarray:
    """The value as an array of finite real numbers, of any shape with at least one entry."""
    value = real(name, value)
    if value.size == 0:
        raise DataError(f"{name} must have at least one entry, found shape {value.shape}")
    require_finite(name, value)
    return value


def array(
    *axes, finite: bool = True, nonnegative: bool = False, positive: bool = False, boolean: bool = False
) -> Callable:
    """Check of an array with these axes: names, or sizes; a first ``...`` stands for any leading axes.

    finite: no entry is nan or infinity;  nonnegative: no entry is below 0;  positive: every entry is above 0;
    boolean: all entries are booleans.
    """

    def check(name, value, sizes):
        value = np.asarray(value) if boolean else real(name, value)
        named = axes
        if axes[:1] == (...,):
            leading = max(value.ndim - len(axes) + 1, 0)
            named = (*value.shape[:leading], *axes[1:])
        _unify(name, value, named, sizes)
        if boolean and value.dtype != bool:
            raise DataError(f"{name} must hold booleans, found {value.dtype}")
        if finite:
            require_finite(name, value)
        if nonnegative and np.any(value < 0):
            raise DataError(f"{name} must not be negative, found {np.min(value)}")
        if positive and np.any(value <= 0):
            raise DataError(f"{name} must be above 0, found {np.min(value)}")
        return value

    return check


def _unify(name, value, axes, sizes):
    """Add the sizes of the named axes to `sizes`. Raise DataError if the shape contradicts a known size."""
    found = dict(sizes)
    for axis, size in zip(axes, value.shape, strict=False):
        if isinstance(axis, str):
            found.setdefault(axis, size)
    expected = tuple(found.get(axis, axis) for axis in axes)
    if value.shape != expected:
        raise DataError(f"{name} must have shape {_shape_text(expected)}, found {value.shape}")
    sizes.update(found)


def _shape_text(shape):
    """A shape as Python prints it, names of unknown axes without quotes."""
    return f"({', '.join(map(str, shape))}{',' if len(shape) == 1 else ''})"


def matrix(rows, columns, any_dtype: bool = False) -> Callable:
    """Check of a finite matrix with two named axes and at least one entry.

    any_dtype: integers and booleans stay as they are, for functions that only select entries.
    """

    def check(name, value, sizes):
        value = np.asarray(value) if any_dtype else real(name, value)
        require_matrix(name, value)
        _unify(name, value, (rows, columns), sizes)
        return value

    return check


def matrices(columns) -> Callable:
    """Check of several finite matrices with the same named columns, at least one matrix."""

    def check(name, value, sizes):
        if not value:
            raise DataError(f"{name}: pass at least one weight matrix")
        found = []
        for each in value:
            found.append(matrix("out", columns)(name, each, sizes))
            del sizes["out"]  # the numbers of rows differ
        return tuple(found)

    return check


def integer(low, high) -> Callable:
    """Check of a whole number from low to high. A bound may name an axis or an integer argument checked earlier."""

    def check(name, value, sizes):
        sizes[name] = require_integer(name, value, sizes.get(low, low), sizes.get(high, high))
        return value

    return check


def index_of(axis) -> Callable:
    """Check of an index into a named axis: a whole number from 0 to its size - 1."""
    return lambda name, value, sizes: require_integer(name, value, 0, sizes[axis] - 1)


def one_of(*choices) -> Callable:
    """Check of a setting with a few possible values, such as the name of a method."""
    return lambda name, value, sizes: require_choice(name, value, choices)


def at_least(low) -> Callable:
    """Check of a number of at least `low`."""

    def check(name, value, sizes):
        if not low <= value < math.inf:
            raise ConfigError(f"{name} must be a number of at least {low}, found {value!r}")
        return value

    return check


def positive(name, value, sizes):
    """Check of a finite number above 0, such as a temperature."""
    if not 0 < value < math.inf:
        raise ConfigError(f"{name} must be a positive number, found {value!r}")
    return value


def fraction(name, value, sizes):
    """Check of a sparsity: the fraction of weights removed, from 0 to 1."""
    if not 0 <= value <= 1:
        raise ConfigError(f"{name} is the fraction of weights removed, from 0 to 1, found {value!r}")
    return value


def require_integer(name: str, value, low, high):
    """Return the value. Raises ConfigError unless it is a whole number with low <= value <= high."""
    if not isinstance(value, numbers.Integral) or isinstance(value, bool) or not low <= value <= high:
        raise ConfigError(f"{name} must be a whole number from {low} to {high}, found {value!r}")
    return value


def require_count(name: str, value):
    """Raise ConfigError unless value is a whole number of at least 1."""
    if not isinstance(value, numbers.Integral) or isinstance(value, bool) or value < 1:
        raise ConfigError(f"{name} is {value!r}, expected an integer of at least 1")


def require_choice(name: str, value, choices):
    """Return the value. Raises ConfigError unless it is one of the choices."""
    if value not in choices:
        raise ConfigError(f"{name} is {value!r}, expected one of {', '.join(choices)}")
    return value


def require_ratio(ratio, units: str = "parameters"):
    """Raise ConfigError unless ratio is a fraction kept, above 0 and up to 1."""
    if not 0 < ratio <= 1:
        raise ConfigError(f"ratio is the fraction of {units} kept, above 0 and up to 1, found {ratio!r}")


def require_same_shape(name: str, array, shape):
    """Raise DataError unless the array has exactly this shape."""
    if array.shape != tuple(shape):
        raise DataError(f"{name} must have shape {tuple(shape)}, found {array.shape}")


def require_matrix(name: str, array):
    """Raise DataError unless the array is a finite matrix: two axes, at least one entry."""
    if array.ndim != 2 or array.size == 0:
        raise DataError(f"{name} must be a matrix (out, in) with at least one entry, found shape {array.shape}")
    require_finite(name, array)


def require_finite(name: str, array):
    """Raise DataError if the array holds nan or infinity."""
    if not np.all(np.isfinite(array)):
        raise DataError(f"{name} must be finite, found {np.sum(~np.isfinite(array))} nan or infinite entries")
