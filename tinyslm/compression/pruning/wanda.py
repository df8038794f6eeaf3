"""Wanda: pruning by weight magnitude times the norm of the input feature (Sun et al. 2024, arXiv 2306.11695).

Step: `PruneWanda` in `tinyslm/recipes/pruning/wanda.py`. Lesson: `lessons/07_pruning_weights.py`.
"""

import numpy as np

from tinyslm.compression.argument_checks import array, checked, fraction, matrix
from tinyslm.compression.pruning.masks import largest_in_rows


@checked(weight=matrix("out", "in"), feature_norms=array("in", nonnegative=True))
def wanda_scores(weight: np.ndarray, feature_norms: np.ndarray) -> np.ndarray:
    """Wanda's importance scores: weight magnitude times the norm of its input feature.

    The score of weight ij is the L2 norm, over all calibration tokens, of its term W_ij x_j in output i. So a small
    weight is important if its input is large. If an input feature is multiplied by a number and its weights are divided
    by the same number, the scores do not change; magnitudes do.

    Parameters
    ----------
    weight : ndarray, shape (out, in)
        Weight matrix of a linear layer, y = x W^T.
    feature_norms : ndarray, shape (in,)
        L2 norm of each input feature over the calibration tokens: the root of the diagonal of X^T X.

    Returns
    -------
    ndarray, shape (out, in)
        ``|W_ij| * ||X_j||``, dtype of `weight`.

    Raises
    ------
    DataError
        If shapes do not match, values are not finite, or a norm is negative.

    References
    ----------
    Sun et al. 2024, "A Simple and Effective Pruning Approach for Large Language Models" (arXiv 2306.11695), eq. 1.

    Examples
    --------
    >>> wanda_scores(np.array([[1.0, -2.0]]), np.array([3.0, 1.0]))
    array([[3., 2.]])
    """
    return np.abs(weight) * feature_norms.astype(weight.dtype)  # (out, in)


@checked(sparsity=fraction)
def wanda_mask(weight: np.ndarray, feature_norms: np.ndarray, sparsity: float) -> np.ndarray:
    """Mask that removes the round(sparsity * in) weights with the lowest Wanda scores from each output row.

    The same number of weights is removed from each row. Of equal scores, the lower index is removed first. The kept
    weights do not change. If X^T X is diagonal, no other mask with these counts has a smaller output error.

    Parameters
    ----------
    weight : ndarray, shape (out, in)
        Weight matrix of a linear layer, y = x W^T.
    feature_norms : ndarray, shape (in,)
        L2 norm of each input feature over the calibration tokens.
    sparsity : float
        Fraction of the weights removed from each row, from 0 to 1.

    Returns
    -------
    ndarray of bool, shape (out, in)
        True where a weight is kept.

    Raises
    ------
    DataError
        If shapes do not match, values are not finite, or a norm is negative.
    ConfigError
        If `sparsity` is not from 0 to 1.

    References
    ----------
    Sun et al. 2024 (arXiv 2306.11695), section 3: scores are compared per output.

    Examples
    --------
    >>> wanda_mask(np.array([[1.0, -2.0], [5.0, 1.0]]), np.array([3.0, 1.0]), 0.5)
    array([[ True, False],
           [ True, False]])
    """
    scores = wanda_scores(weight, feature_norms)
    return largest_in_rows(scores, round(float(sparsity) * scores.shape[1]))
