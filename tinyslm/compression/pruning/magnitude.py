"""Magnitude pruning: remove the weights with the smallest absolute value, per matrix or with one global threshold.

Sources: Han et al. 2015, section 3 (per layer); See, Luong & Manning 2016 (global).
Step: `PruneMagnitude` in `tinyslm/recipes/pruning/magnitude.py`. Lesson: `lessons/07_pruning_weights.py`.
"""

import numpy as np

from tinyslm.compression.argument_checks import array, checked, fraction


@checked(weight=array(...), sparsity=fraction)
def magnitude_mask(weight: np.ndarray, sparsity: float) -> np.ndarray:
    """Mask that removes the round(sparsity * size) weights of smallest magnitude.

    The count is exact, also if many weights are equal: of equal magnitudes the earlier one in row-major order is
    removed first. Therefore the masks of growing sparsity are nested.

    Parameters
    ----------
    weight : ndarray, any shape
        Weights.
    sparsity : float
        Fraction of the weights removed, from 0 to 1. `round` is Python's: a half is rounded to the even number.

    Returns
    -------
    ndarray of bool, shape of `weight`
        True where a weight is kept.

    Raises
    ------
    ConfigError
        If `sparsity` is not from 0 to 1.
    DataError
        If `weight` is not finite.

    References
    ----------
    Han et al. 2015, "Learning both Weights and Connections for Efficient Neural Networks", section 3.

    Examples
    --------
    >>> magnitude_mask(np.array([[1.0, -4.0], [-2.0, 3.0]]), 0.5)
    array([[False,  True],
           [False,  True]])
    """
    count = round(float(sparsity) * weight.size)  # number of weights to remove
    if count == 0:
        return np.ones(weight.shape, bool)
    magnitude = np.abs(weight).reshape(-1)  # (size,)
    threshold = np.partition(magnitude, count - 1)[count - 1]  # the largest magnitude to remove
    kept = magnitude >= threshold
    undecided = np.flatnonzero(magnitude == threshold)
    kept[undecided[: count - np.sum(~kept)]] = False
    return kept.reshape(weight.shape)


def global_magnitude_masks(weights: dict | list, sparsity: float) -> dict | list:
    """Magnitude masks with one threshold for several arrays together.

    Layers with small weights get a higher sparsity than layers with large weights. Embeddings and norm gains should not
    be among `weights`: their scales are not comparable. Equal magnitudes are removed in the order of the arrays.

    Parameters
    ----------
    weights : dict of ndarray, or list of ndarray
        Weights of any shapes.
    sparsity : float
        Fraction removed of all weights together, from 0 to 1.

    Returns
    -------
    dict or list of ndarray of bool
        One mask per array, True where a weight is kept; a dictionary with the same keys, or a list.

    Raises
    ------
    ConfigError
        If `sparsity` is not from 0 to 1.
    DataError
        If a weight is not finite.

    References
    ----------
    See, Luong & Manning 2016, "Compression of Neural Machine Translation Models via Pruning": class-blind pruning.

    Examples
    --------
    >>> global_magnitude_masks({"small": np.array([1.0, 2.0]), "large": np.array([3.0, 4.0])}, 0.5)
    {'small': array([False, False]), 'large': array([ True,  True])}
    """
    if isinstance(weights, dict):
        return dict(zip(weights, global_magnitude_masks(list(weights.values()), sparsity), strict=True))
    weights = [np.asarray(weight) for weight in weights]
    kept = magnitude_mask(np.concatenate([weight.reshape(-1) for weight in weights] or [np.zeros(0)]), sparsity)
    ends = np.cumsum([weight.size for weight in weights])
    return [part.reshape(weight.shape) for part, weight in zip(np.split(kept, ends[:-1]), weights, strict=False)]
