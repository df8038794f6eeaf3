"""Importance of whole layers: how much each one turns the residual stream."""

import itertools

import numpy as np

from tinyslm.compression.argument_checks import require_finite, require_same_shape
from tinyslm.errors import DataError


def layer_importance(states):
    """Block influence, 1 - mean over tokens of cos(x_l, x_l+1): (L,), from 0 (the layer does nothing) to 2.

    states: L + 1 arrays (N, C): what enters each layer, and what the last one leaves before the final norm. A state
    of 0 counts as turned by 90 degrees. Source: Men et al. 2024 (ShortGPT, arXiv 2403.03853).
    """
    if len(states) < 2:
        raise DataError(f"states must be those before and after at least one layer, found {len(states)}")
    for state in states:
        require_same_shape("states", state, states[0].shape)
        require_finite("states", state)
    return np.array([1 - np.mean(cosines(x, y)) for x, y in itertools.pairwise(states)])


def cosines(x, y):
    """cos of the angle between each row of x and of y: (N, C) -> (N,), 0 where one of them is 0."""
    x, y = x.astype(np.float64), y.astype(np.float64)
    sizes = np.linalg.norm(x, axis=-1) * np.linalg.norm(y, axis=-1)
    return np.vecdot(x, y) / np.where(sizes > 0, sizes, 1)
