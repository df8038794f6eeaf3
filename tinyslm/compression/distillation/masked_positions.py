"""Masks of positions: a mean over positions ignores padding and positions without a label."""

import numpy as np

from tinyslm.compression.argument_checks import require_finite, require_same_shape
from tinyslm.errors import DataError


def select_positions(array, mask):
    """The rows of an array whose mask is not 0. array: (..., C);  mask: (...) or None;  returns (n, C)."""
    if array.size == 0:
        raise DataError(f"a mean over positions needs at least one position and entry, found shape {array.shape}")
    rows = array.reshape(-1, array.shape[-1])  # (N, C)
    if mask is None:
        return rows
    mask = np.asarray(mask)
    require_same_shape("mask", mask, array.shape[:-1])
    require_finite("mask", mask)
    return rows[mask.reshape(-1) != 0]


def restore_positions(rows, mask, shape):
    """The vjp of `select_positions`: rows (n, C) at their positions in an array of this shape, zeros elsewhere."""
    if mask is None:
        return rows.reshape(shape)
    array = np.zeros(shape, rows.dtype)
    array[np.asarray(mask) != 0] = rows
    return array


def unmasked_pairs(mask):
    """Mask of (query, key) pairs in which neither token is ignored: mask (B, T) -> (B, 1, T, T) booleans."""
    real = np.asarray(mask) != 0
    return (real[:, :, None] & real[:, None, :])[:, None]
