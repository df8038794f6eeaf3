"""Activation-aware SVD (ASVD; Yuan et al. 2023, arXiv 2312.05821): input features weighted by their mean magnitude.

On models: `tinyslm/recipes/factorization/asvd.py`. Lesson: `lessons/10_low_rank.py`.
"""

import numpy as np

from tinyslm.compression.argument_checks import array, at_least, checked, matrix
from tinyslm.compression.factorization.components import Components
from tinyslm.compression.factorization.weighted_svd import weighted_components


@checked(weight=matrix("out", "in"), mean_magnitudes=array("in", nonnegative=True), alpha=at_least(0))
def activation_weighted_components(
    weight: np.ndarray, mean_magnitudes: np.ndarray, *, alpha: float = 0.5
) -> Components:
    """All components of `activation_weighted_svd`.

    Parameters
    ----------
    weight, mean_magnitudes, alpha
        As in `activation_weighted_svd`.

    Returns
    -------
    Components
        Ordered by singular value: dropping component i adds s_i^2 to the weighted squared error.

    Examples
    --------
    >>> activation_weighted_components(np.diag([3.0, 2.0]), np.array([1.0, 4.0])).singular_values
    array([4., 3.])
    """
    return weighted_components(weight, mean_magnitudes.astype(np.float64) ** alpha)


@checked(weight=matrix("out", "in"))
def activation_weighted_svd(
    weight: np.ndarray, mean_magnitudes: np.ndarray, rank: int, *, alpha: float = 0.5
) -> tuple[np.ndarray, np.ndarray]:
    """Factors that minimize the squared error of the weights, weighted by the magnitudes of their inputs.

    The error is sum_ij mean_magnitudes_j^(2 alpha) (weight - left right)_ij^2. It ignores correlations between input
    features; `whitened_svd` does not. A common factor of all magnitudes has no effect.

    Parameters
    ----------
    weight : ndarray, shape (out, in)
        Weight matrix of a linear layer, y = x W^T.
    mean_magnitudes : ndarray, shape (in,)
        Mean of |x_j| over the calibration tokens.
    rank : int
        Number of components kept, from 1 to min(out, in).
    alpha : float
        Exponent of the magnitudes, at least 0. 0 is the plain SVD.

    Returns
    -------
    left : ndarray, shape (out, rank)
    right : ndarray, shape (rank, in)
        The factors, dtype of `weight`.

    Raises
    ------
    DataError
        If shapes do not match, values are not finite, or a magnitude is negative.
    ConfigError
        If rank or alpha is out of range.

    References
    ----------
    Yuan et al. 2023, "ASVD: Activation-aware Singular Value Decomposition" (arXiv 2312.05821), with the scaling matrix
    S = diag(mean |X_j|^alpha).

    Examples
    --------
    >>> left, right = activation_weighted_svd(np.diag([3.0, 2.0]), np.array([1.0, 4.0]), 1)
    >>> np.round(left @ right, 6) + 0.0  # the smaller weight has the larger input
    array([[0., 0.],
           [0., 2.]])
    """
    return activation_weighted_components(weight, mean_magnitudes, alpha=alpha).first(rank, weight.dtype)
