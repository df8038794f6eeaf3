"""The truncated singular value decomposition, and what a rank costs. Shapes are (m, n) = (out, in)."""

import math

import numpy as np
import scipy

from tinyslm.compression.argument_checks import require_integer, require_matrix, require_ratio
from tinyslm.compression.factorization.components import Components, balanced_components


def svd_components(weight) -> Components:
    """The components that `truncated_svd` takes the first of."""
    require_matrix("weight", weight)
    U, S, Vt = scipy.linalg.svd(weight.astype(np.float64), full_matrices=False)  # (out, r), (r,), (r, in)
    return balanced_components(U, S[:, None] * Vt, S)


def truncated_svd(weight, rank):
    """(left, right) whose product is the closest matrix of this rank in the Frobenius and the spectral norm.

    weight: (out, in);  returns left (out, R), right (R, in), dtype of weight, computed in float64. With W = U S V^T,
    left = U sqrt(S) and right = sqrt(S) V^T: half of each singular value on either side, so that both factors have
    entries of similar size. The error is sqrt(sum of the dropped s_i^2).
    Source: Eckart & Young 1936; Mirsky 1960 for every unitarily invariant norm.
    """
    return svd_components(weight).first(rank, weight.dtype)


def rank_for_ratio(shape, ratio):
    """The largest rank whose factors hold at most this fraction of the dense parameters, but at least 1.

    ratio: fraction kept, above 0 and up to 1. floor(ratio * mn / (m + n)), because rank k costs k (m + n) parameters:
    half of the parameters of a square matrix is only a quarter of its rank.
    """
    require_ratio(ratio)
    m, n = shape
    return max(1, math.floor(ratio * m * n / (m + n)))


def break_even_rank(shape):
    """floor(mn / (m + n)): at a higher rank two factors are larger than the matrix (n / 2 for a square one)."""
    m, n = shape
    return m * n // (m + n)


def factorized_parameters(shape, rank):
    """Parameters of a layer of this rank, which stays dense where that is no more: min(k (m + n), mn)."""
    m, n = shape
    require_integer(f"rank of a matrix {tuple(shape)}", rank, 1, min(m, n))
    return min(rank * (m + n), m * n)
