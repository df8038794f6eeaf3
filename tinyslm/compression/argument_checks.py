"""What every technique asks of its arguments, and what it says when the answer is no."""

import numbers

import numpy as np

from tinyslm.errors import ConfigError, DataError


def require_integer(name, value, low, high):
    """A whole number with low <= value <= high, or ConfigError."""
    if not isinstance(value, numbers.Integral) or isinstance(value, bool) or not low <= value <= high:
        raise ConfigError(f"{name} must be a whole number from {low} to {high}, found {value!r}")


def require_same_shape(name, array, shape):
    """An array of exactly this shape, or DataError."""
    if array.shape != tuple(shape):
        raise DataError(f"{name} must have shape {tuple(shape)}, found {array.shape}")


def require_matrix(name, array):
    """A finite matrix (two axes, neither of them empty), or DataError."""
    if array.ndim != 2 or array.size == 0:
        raise DataError(f"{name} must be a matrix (out, in) with at least one entry, found shape {array.shape}")
    require_finite(name, array)


def require_finite(name, array):
    """An array without nan and infinity, or DataError."""
    if not np.all(np.isfinite(array)):
        raise DataError(f"{name} must be finite, found {np.sum(~np.isfinite(array))} nan or infinite entries")
