"""SVD with truncation-aware data whitening (SVD-LLM; Wang et al. 2024, arXiv 2403.07378).

It minimizes the squared error of a layer's outputs on calibration tokens.
On models: `tinyslm/recipes/factorization/svd_llm.py`. Lesson: `lessons/10_low_rank.py`.
"""

import numpy as np
import scipy

from tinyslm.compression.argument_checks import array, checked, matrix
from tinyslm.compression.factorization.components import Components, balanced_components
from tinyslm.errors import DataError

SMALLEST_EIGENVALUE = 1e-12  # relative to the largest eigenvalue of X^T X


@checked(weight=matrix("out", "in"), gram=array("in", "in"))
def whitened_components(weight: np.ndarray, gram: np.ndarray) -> Components:
    """All components of `whitened_svd`.

    For any square root L L^T = X^T X and W L = U S V^T, they are W = U (U^T W). This form needs no inverse. It equals
    the published form U S V^T L^-1 with the Cholesky factor L, which requires a well-conditioned X^T X.

    Parameters
    ----------
    weight, gram
        As in `whitened_svd`.

    Returns
    -------
    Components
        Ordered by singular value: dropping component i adds s_i^2 to the squared error of the outputs.

    Examples
    --------
    >>> whitened_components(np.diag([3.0, 2.0]), np.diag([1.0, 4.0])).singular_values
    array([4., 3.])
    """
    root = square_root(gram)  # (in, in)
    U, S, _ = scipy.linalg.svd(weight @ root, full_matrices=False)  # (out, r), (r,)
    return balanced_components(U, U.T @ weight, S)


@checked(weight=matrix("out", "in"), gram=array("in", "in"))
def whitened_svd(weight: np.ndarray, gram: np.ndarray, rank: int) -> tuple[np.ndarray, np.ndarray]:
    """Factors that minimize the error of the layer's outputs on calibration tokens, ||X (weight - left right)^T||.

    left right = U U^T W, where U (out, rank) holds the principal directions of the outputs. No other matrix of this
    rank has a smaller output error on these tokens; for other tokens that holds only approximately, and only if there
    are many more calibration tokens than input features.
    Eigenvalues of X^T X are raised to at least 10^-12 of the largest, so that a singular X^T X is allowed. If it is 0,
    this is the plain SVD.

    Parameters
    ----------
    weight : ndarray, shape (out, in)
        Weight matrix of a linear layer, y = x W^T.
    gram : ndarray, shape (in, in)
        X^T X of the layer's inputs X (N, in) at N calibration tokens.
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
        If shapes do not match, values are not finite, or `gram` is not symmetric and positive semi-definite.
    ConfigError
        If rank is out of range.

    References
    ----------
    Wang et al. 2024, "SVD-LLM" (arXiv 2403.07378), section 3.1. As principal components of the outputs: Yu & Wu 2023,
    "Compressing Transformers: Features Are Low-Rank, but Weights Are Not!".

    Examples
    --------
    >>> inputs = np.array([[1.0, 0.0], [0.0, 2.0]])
    >>> left, right = whitened_svd(np.diag([3.0, 2.0]), inputs.T @ inputs, 1)
    >>> np.round(left @ right, 6) + 0.0
    array([[0., 0.],
           [0., 2.]])
    """
    return whitened_components(weight, gram).first(rank, weight.dtype)


def square_root(gram):
    """L (in, in) with L L^T = gram, small eigenvalues raised; the identity for 0. DataError unless gram is X^T X."""
    gram = gram.astype(np.float64)
    size = np.max(np.abs(gram))
    if size == 0:
        return np.eye(len(gram))
    if not np.allclose(gram, gram.T, rtol=0, atol=1e-6 * size):
        raise DataError("gram must be X^T X, found a matrix that is not symmetric")
    eigenvalues, Q = scipy.linalg.eigh(gram)  # (in,) ascending, (in, in)
    largest = eigenvalues[-1]
    if eigenvalues[0] < -1e-6 * largest:
        raise DataError(f"gram must be X^T X, found a negative eigenvalue {eigenvalues[0]:.3g}")
    return Q * np.sqrt(np.maximum(eigenvalues, SMALLEST_EIGENVALUE * largest))
