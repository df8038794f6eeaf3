"""SVD that keeps what a layer computes: the smallest error of its outputs on calibration tokens."""

import numpy as np
import scipy

from tinyslm.compression.argument_checks import require_finite, require_matrix, require_same_shape
from tinyslm.compression.factorization.components import Components, balanced_components
from tinyslm.errors import DataError

RELATIVE_FLOOR = 1e-12  # of the largest eigenvalue of the Gram matrix


def whitened_components(weight, gram) -> Components:
    """The components of W in the norm ||X W^T||, that is of the outputs on the tokens of gram = X^T X.

    With any square root, L L^T = gram, and W L = U S V^T: W = U (U^T W). This form divides by nothing. It equals the
    published one, U S V^T L^-1 with L from Cholesky's factorization, which needs gram to be far from singular.
    """
    require_matrix("weight", weight)
    root = square_root(gram, weight.shape[1])  # (in, in)
    U, S, _ = scipy.linalg.svd(weight @ root, full_matrices=False)  # (out, r), (r,)
    return balanced_components(U, U.T @ weight, S)


def whitened_svd(weight, gram, rank):
    """(left, right) of this rank that minimize ||X (weight - left right)^T||, the error of the layer's outputs.

    weight: (out, in);  gram: (in, in), X^T X of the inputs X (N, in) of calibration tokens;  returns left (out, R),
    right (R, in), dtype of weight. Dropping component i costs exactly s_i^2 of squared output error. left right =
    U U^T W, where U (out, R) are the principal directions of the outputs. No other matrix of this rank has a smaller
    output error on these tokens, which is no promise for other tokens: use many more than `in`.
    Directions that the tokens hardly have (eigenvalues under 10^-12 of the largest) count as if they had that much, so
    that a singular gram is no special case; where gram is 0 this is the plain SVD.
    Source: Wang et al. 2024 (SVD-LLM), section 3.1; as principal components of the outputs: Yu & Wu 2023.
    """
    return whitened_components(weight, gram).first(rank, weight.dtype)


def square_root(gram, features):
    """L (in, in) with L L^T = gram, eigenvalues floored; the identity for 0. Raises DataError for no Gram matrix."""
    gram = np.asarray(gram, np.float64)
    require_same_shape("gram", gram, (features, features))
    require_finite("gram", gram)
    size = np.max(np.abs(gram))
    if size == 0:
        return np.eye(features)
    if not np.allclose(gram, gram.T, rtol=0, atol=1e-6 * size):
        raise DataError("gram must be X^T X, found a matrix that is not symmetric")
    eigenvalues, Q = scipy.linalg.eigh(gram)  # (in,) ascending, (in, in)
    largest = eigenvalues[-1]
    if eigenvalues[0] < -1e-6 * largest:
        raise DataError(f"gram must be X^T X, found a negative eigenvalue {eigenvalues[0]:.3g}")
    return Q * np.sqrt(np.maximum(eigenvalues, RELATIVE_FLOOR * largest))
