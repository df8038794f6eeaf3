"""Argument validation: what a function requires of its arguments is declared above it, and checked before it runs.

    @checked(weight=matrix("out", "in"), feature_norms=array("in", nonnegative=True), sparsity=fraction)
    def wanda_mask(weight, feature_norms, sparsity): ...

A declared array argument arrives in the function as a NumPy array. Axes of one name have one size in all arguments, so
that a shape which does not fit is reported with the shape that was expected. Arguments that are None are not checked.
"""

import functools
import inspect
import numbers

import numpy as np

from tinyslm.errors import ConfigError, DataError


def checked(**requirements):
    """Decorator that checks arguments before the function runs.

    requirements: {argument: check}, where check(name, value, sizes) returns the value to pass on, or raises; sizes is
    the dictionary of the axes that are known so far, {axis: size}. Checks run in the order of the declaration.
    """

    def decorate(function):
        signature = inspect.signature(function)

        @functools.wraps(function)
        def call(*arguments, **settings):
            bound = signature.bind(*arguments, **settings)
            bound.apply_defaults()
            sizes = {}
            for name, check in requirements.items():
                if bound.arguments[name] is not None:
                    bound.arguments[name] = check(name, bound.arguments[name], sizes)
            return function(*bound.args, **bound.kwargs)

        return call

    return decorate


def array(*axes, finite=True, nonnegative=False, boolean=False):
    """Check of an array with named axes: its shape fits, its entries are finite (and not negative, or booleans)."""

    def check(name, value, sizes):
        value = np.asarray(value)
        expected = tuple(sizes.get(axis, size) for axis, size in zip(axes, value.shape, strict=False))
        expected += tuple(sizes.get(axis, axis) for axis in axes[value.ndim :])
        require_same_shape(name, value, expected)
        if boolean and value.dtype != bool:
            raise DataError(f"{name} must hold booleans, found {value.dtype}")
        if finite:
            require_finite(name, value)
        if nonnegative and np.any(value < 0):
            raise DataError(f"{name} must not be negative, found {np.min(value)}")
        sizes.update(zip(axes, value.shape, strict=True))
        return value

    return check


def matrix(rows, columns):
    """Check of a finite matrix with named axes, neither of them empty."""
    check_shape = array(rows, columns, finite=False)

    def check(name, value, sizes):
        value = np.asarray(value)
        require_matrix(name, value)
        return check_shape(name, value, sizes)

    return check


def integer(low, high):
    """Check of a whole number from low to high; each may be the name of an axis, which stands for its size."""

    def check(name, value, sizes):
        require_integer(name, value, sizes.get(low, low), sizes.get(high, high))
        return value

    return check


def fraction(name, value, sizes):
    """Check of a fraction removed: from 0 to 1."""
    if not 0 <= value <= 1:
        raise ConfigError(f"{name} is the fraction of weights removed, from 0 to 1, found {value!r}")
    return value


def require_integer(name, value, low, high):
    """Raise ConfigError unless value is a whole number with low <= value <= high."""
    if not isinstance(value, numbers.Integral) or isinstance(value, bool) or not low <= value <= high:
        raise ConfigError(f"{name} must be a whole number from {low} to {high}, found {value!r}")


def require_count(name, value):
    """Raise ConfigError unless value is a whole number of at least 1."""
    if not isinstance(value, numbers.Integral) or isinstance(value, bool) or value < 1:
        raise ConfigError(f"{name} is {value!r}, expected an integer of at least 1")


def require_choice(name, value, choices):
    """Raise ConfigError unless value is one of the choices."""
    if value not in choices:
        raise ConfigError(f"{name} is {value!r}, expected one of {', '.join(choices)}")


def require_ratio(ratio, units="parameters"):
    """Raise ConfigError unless ratio is a fraction kept, above 0 and up to 1."""
    if not 0 < ratio <= 1:
        raise ConfigError(f"ratio is the fraction of {units} kept, above 0 and up to 1, found {ratio!r}")


def require_same_shape(name, array, shape):
    """Raise DataError unless the array has exactly this shape."""
    if array.shape != tuple(shape):
        raise DataError(f"{name} must have shape {tuple(shape)}, found {array.shape}")


def require_matrix(name, array):
    """Raise DataError unless the array is a finite matrix (two axes, neither of them empty)."""
    if array.ndim != 2 or array.size == 0:
        raise DataError(f"{name} must be a matrix (out, in) with at least one entry, found shape {array.shape}")
    require_finite(name, array)


def require_finite(name, array):
    """Raise DataError if the array holds nan or infinity."""
    if not np.all(np.isfinite(array)):
        raise DataError(f"{name} must be finite, found {np.sum(~np.isfinite(array))} nan or infinite entries")
