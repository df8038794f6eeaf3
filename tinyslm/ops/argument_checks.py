"""Checks of the arguments of operations. They are cheap, because a generated token calls about 100 operations.

The policy for numbers in arrays is in `tinyslm.errors`.
"""

import numpy as np

from tinyslm.errors import ConfigError, DataError, NumericOverflow
from tinyslm.tree import Array

FLOATING = (np.dtype(np.float32), np.dtype(np.float64))


def require_floating(**arrays: Array | None):
    """Raise DataError unless every array is float32 or float64. None is allowed.

    The most frequent operations call it only if one of their arrays fails `array.dtype in FLOATING`.
    """
    for name, array in arrays.items():
        if array is not None and array.dtype not in FLOATING:
            raise DataError(f"{name} has dtype {array.dtype}, expected float32 or float64")


def has_zero(array: Array) -> bool:
    """Whether an entry of the array is 0. The truth value of a single number is faster than a count."""
    return not array if array.size == 1 else bool(np.count_nonzero(array) < array.size)


def require_integers(name: str, array: Array):
    """Raise DataError unless the array holds integers."""
    if array.dtype.kind not in "iu":
        raise DataError(f"{name} has dtype {array.dtype}, expected integers")


def require_entries(name: str, array: Array):
    """Raise DataError if an axis of the array has size 0."""
    if 0 in array.shape:
        raise DataError(f"{name} must have at least one entry, found shape {array.shape}")


def require_positive(name: str, value: float):
    """Raise ConfigError unless the value is a finite number above 0."""
    if not 0 < value < np.inf:
        raise ConfigError(f"{name} must be a positive number, found {value!r}")


def require_mask(name: str, mask: Array | None):
    """Raise DataError if a mask (0 for a position that is ignored) holds nan, which is neither 0 nor another number."""
    if mask is not None and mask.dtype.kind not in "biu" and not np.all(np.isfinite(mask)):
        raise DataError(f"{name} must hold booleans or finite numbers, found nan or infinity")


def require_attention_arrays(query, key, value=None, position_bias=None, softcap=None, attention_mask=None):
    """Raise DataError unless the arrays of attention are floating-point and there is at least one key."""
    require_floating(query=query, key=key, value=value, position_bias=position_bias)
    require_entries("key", key)
    if not query.shape[2]:
        raise DataError(f"query must have at least one head, found shape {query.shape}")
    require_mask("attention_mask", attention_mask)
    if softcap is not None:
        require_positive("softcap", softcap)


def require_maskable(scores: Array):
    """Raise NumericOverflow if the sum of the squared scores overflows: a masked key could have the largest score.

    Masks add half of the lowest number of the dtype. That excludes a key only if all scores are much smaller. nan
    passes: the probabilities are nan then.
    """
    flat = scores.reshape(-1)
    if np.dot(flat, flat) == np.inf:
        raise NumericOverflow(f"attention scores overflow {scores.dtype}: scale queries or keys down, or use float64")
