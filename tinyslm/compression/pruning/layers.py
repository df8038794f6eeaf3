"""Depth pruning: importance of whole layers, from the change of direction of the hidden state.

Step: `DropLayers` in `tinyslm/recipes/pruning/layers.py`. Lesson: `lessons/08_pruning_structure.py`.
"""

import itertools

import numpy as np

from tinyslm.compression.argument_checks import checked, finite_real, require_same_shape
from tinyslm.errors import DataError


def hidden_states(name, states, sizes):
    """Argument check for `checked`: at least two finite arrays (N, C) of the same shape."""
    states = [finite_real(name, each) for each in states]
    if len(states) < 2:
        raise DataError(f"{name} must be the inputs and the output of at least one layer, found {len(states)}")
    for state in states:
        require_same_shape(name, state, states[0].shape)
    return states


@checked(states=hidden_states)
def layer_importance(states: list[np.ndarray]) -> np.ndarray:
    """Block influence of each layer: 1 - mean over tokens of cos(x_l, x_l+1), from 0 (same direction) to 2 (opposite).

    Parameters
    ----------
    states : list of ndarray, shape (N, C)
        L + 1 hidden states of N tokens: the input of each layer, and the output of the last layer before the final
        norm. The cosine with a state of 0 counts as 0.

    Returns
    -------
    ndarray of float64, shape (L,)
        Importance of each layer.

    Raises
    ------
    DataError
        If there are fewer than two states, no tokens, shapes differ, or values are not finite.

    References
    ----------
    Men et al. 2024, "ShortGPT" (arXiv 2403.03853): block influence.

    Examples
    --------
    >>> layer_importance([np.array([[1.0, 0.0]]), np.array([[2.0, 0.0]]), np.array([[0.0, 1.0]])])
    array([0., 1.])
    """
    return np.array([1 - np.mean(cosines(x, y)) for x, y in itertools.pairwise(states)])


def cosines(x, y):
    """Cosine of the angle between each row of x and of y: (N, C) -> (N,), 0 where one of them is 0."""
    x, y = unit_range(x.astype(np.float64)), unit_range(y.astype(np.float64))
    sizes = np.linalg.norm(x, axis=-1) * np.linalg.norm(y, axis=-1)
    return np.vecdot(x, y) / np.where(sizes > 0, sizes, 1)


def unit_range(rows):
    """Each row divided by a power of two, so that its largest magnitude is from 1/2 to 1: squares do not overflow."""
    _, exponent = np.frexp(np.max(np.abs(rows), axis=-1, keepdims=True))
    return np.ldexp(rows, -exponent)
