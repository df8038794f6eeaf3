"""Fisher-weighted SVD (FWSVD; Hsu et al. 2022, arXiv 2207.00112): input features weighted by their Fisher information.

On models: `tinyslm/recipes/factorization/fwsvd.py`. Lesson: `lessons/10_low_rank.py`.
"""

import numpy as np

from tinyslm.compression.argument_checks import array, checked, matrix
from tinyslm.compression.factorization.components import Components
from tinyslm.compression.factorization.weighted_svd import weighted_components
from tinyslm.errors import DataError


@checked(weight=matrix("out", "in"), fisher=array("out", "in"))
def fisher_weighted_components(weight: np.ndarray, fisher: np.ndarray) -> Components:
    """All components of `fisher_weighted_svd`.

    Parameters
    ----------
    weight, fisher
        As in `fisher_weighted_svd`.

    Returns
    -------
    Components
        Ordered by singular value: dropping component i adds s_i^2 to the weighted squared error.

    Examples
    --------
    >>> fisher_weighted_components(np.diag([3.0, 2.0]), np.array([[1.0, 2.0], [0.0, 2.0]])).singular_values
    array([4., 3.])
    """
    if np.any(fisher < 0):
        raise DataError(f"fisher must hold squared gradients, found the negative entry {np.min(fisher)}")
    return weighted_components(weight, np.sqrt(np.sum(fisher, axis=0, dtype=np.float64)))


@checked(weight=matrix("out", "in"))
def fisher_weighted_svd(weight: np.ndarray, fisher: np.ndarray, rank: int) -> tuple[np.ndarray, np.ndarray]:
    """Factors that minimize the squared error of the weights, weighted by the Fisher information of input features.

    The error is sum_ij importance_j^2 (weight - left right)_ij^2 with importance_j = sqrt(sum_i fisher_ij). There is
    one importance per input feature, because one per entry has no solution in closed form. Importances are raised to
    at least 10^-6 of the largest. If all are 0, this is the plain SVD. A common factor of `fisher` has no effect.

    Parameters
    ----------
    weight : ndarray, shape (out, in)
        Weight matrix of a linear layer, y = x W^T.
    fisher : ndarray, shape (out, in)
        Mean over samples of the squared gradient of each sample. The square of the mean gradient is another quantity:
        it is near 0 at a minimum of the loss.
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
        If shapes do not match, values are not finite, or `fisher` has a negative entry.
    ConfigError
        If rank is out of range.

    References
    ----------
    Hsu et al. 2022, "Language model compression with weighted low-rank factorization" (arXiv 2207.00112), section 4.
    The paper writes z = x W: its rows are the input features.

    Examples
    --------
    >>> left, right = fisher_weighted_svd(np.diag([3.0, 2.0]), np.array([[1.0, 2.0], [0.0, 2.0]]), 1)
    >>> np.round(left @ right, 6) + 0.0  # the smaller weight has the larger gradients
    array([[0., 0.],
           [0., 2.]])
    """
    return fisher_weighted_components(weight, fisher).first(rank, weight.dtype)
