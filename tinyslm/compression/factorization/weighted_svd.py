"""Weighted SVD: SVD in a norm with one weight per input feature and one per output feature. FWSVD and ASVD use it.

Lesson: `lessons/10_low_rank.py`.
"""

import numpy as np
import scipy

from tinyslm.compression.argument_checks import array, checked, matrix
from tinyslm.compression.factorization.components import Components, balanced_components

SMALLEST_IMPORTANCE = 1e-6  # relative to the largest importance


@checked(weight=matrix("out", "in"), inputs=array("in", nonnegative=True), outputs=array("out", nonnegative=True))
def weighted_components(weight: np.ndarray, inputs: np.ndarray, outputs: np.ndarray | None = None) -> Components:
    """All components of `weighted_svd`.

    With P = diag(outputs), R = diag(inputs) and P W R = U S V^T they are W = (P^-1 U) (S V^T R^-1). The first k of them
    minimize ||P (W - W') R|| over all W' of rank k (Eckart & Young 1936), because P and R are invertible.

    Parameters
    ----------
    weight, inputs
        As in `weighted_svd`.
    outputs : ndarray, shape (out,), optional
        Importance of each output feature; None for equal importance.

    Returns
    -------
    Components
        Ordered by singular value: dropping component i adds s_i^2 to the weighted squared error.

    Examples
    --------
    >>> weighted_components(np.diag([3.0, 2.0]), np.array([1.0, 2.0])).singular_values
    array([4., 3.])
    """
    inputs = _positive(inputs)
    outputs = np.ones(len(weight)) if outputs is None else _positive(outputs)
    scaled = outputs[:, None] * weight * inputs  # (out, in)
    U, S, Vt = scipy.linalg.svd(scaled, full_matrices=False)  # (out, r), (r,), (r, in)
    return balanced_components(U / outputs[:, None], S[:, None] * Vt / inputs, S)


@checked(weight=matrix("out", "in"))
def weighted_svd(
    weight: np.ndarray, inputs: np.ndarray, outputs: np.ndarray, rank: int
) -> tuple[np.ndarray, np.ndarray]:
    """Factors that minimize sum_ij (outputs_i inputs_j)^2 (weight - left right)_ij^2.

    If the Fisher information has rank one, F_ij = outputs_i^2 inputs_j^2, this is exactly the problem with one weight
    per entry. In general that problem has no solution in closed form (Srebro & Jaakkola 2003).

    Parameters
    ----------
    weight : ndarray, shape (out, in)
        Weight matrix of a linear layer, y = x W^T.
    inputs : ndarray, shape (in,)
        Importance of each input feature, not negative. Raised to at least 10^-6 of the largest; 1 if all are 0.
    outputs : ndarray, shape (out,)
        Importance of each output feature, likewise.
    rank : int
        Number of components kept, from 1 to min(out, in).

    Returns
    -------
    left : ndarray, shape (out, rank)
    right : ndarray, shape (rank, in)
        The factors, dtype of `weight`.

    Raises
    ------
    DataError
        If shapes do not match, values are not finite, or an importance is negative.
    ConfigError
        If rank is out of range.

    Examples
    --------
    >>> left, right = weighted_svd(np.diag([3.0, 2.0]), np.array([1.0, 2.0]), np.array([1.0, 2.0]), 1)
    >>> np.round(left @ right, 6) + 0.0
    array([[0., 0.],
           [0., 2.]])
    """
    return weighted_components(weight, inputs, outputs).first(rank, weight.dtype)


def _positive(importance):
    """Importances in float64, raised to at least 10^-6 of the largest; ones if all are 0."""
    largest = np.float64(np.max(importance))
    if largest == 0:
        return np.ones(len(importance))
    return np.maximum(importance.astype(np.float64), SMALLEST_IMPORTANCE * largest)
