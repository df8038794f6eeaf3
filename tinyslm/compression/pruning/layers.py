"""Depth pruning: importance of whole layers, from the change of direction of the hidden state.

Step: `DropLayers` in `tinyslm/recipes/pruning/layers.py`. Lesson: `lessons/08_pruning_structure.py`.
"""

import itertools

import numpy as np

from tinyslm.compression.argument_checks import require_finite, require_same_shape
from tinyslm.errors import DataError


def layer_importance(states: list[np.ndarray]) -> np.ndarray:
    """Block influence of each layer: 1 - mean over tokens of cos(x_l, x_l+1), from 0 (same direction) to 2 (opposite).

    Parameters
    ----------
    states : list of ndarray, shape (N, C)
        L + 1 hidden states of N tokens: the input of each layer, and the output of the last layer before the final
        norm. The cosine with a state of 0 counts as 0.

    Returns
    -------
    ndarray, shape (L,)
        Importance of each layer.

    Raises
    ------
    DataError
        If there are fewer than two states, shapes differ, or values are not finite.

    References
    ----------
    Men et al. 2024, "ShortGPT" (arXiv 2403.03853): block influence.

    Examples
    --------
    >>> layer_importance([np.array([[1.0, 0.0]]), np.array([[2.0, 0.0]]), np.array([[0.0, 1.0]])])
    array([0., 1.])
    """
    if len(states) < 2:
        raise DataError(f"states must be the inputs and the output of at least one layer, found {len(states)}")
    for state in states:
        require_same_shape("states", state, states[0].shape)
        require_finite("states", state)
    return np.array([1 - np.mean(cosines(x, y)) for x, y in itertools.pairwise(states)])


def cosines(x, y):
    """Cosine of the angle between each row of x and of y: (N, C) -> (N,), 0 where one of them is 0."""
    x, y = x.astype(np.float64), y.astype(np.float64)
    sizes = np.linalg.norm(x, axis=-1) * np.linalg.norm(y, axis=-1)
    return np.vecdot(x, y) / np.where(sizes > 0, sizes, 1)
