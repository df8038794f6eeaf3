"""Truncated singular value decomposition (SVD), and the number of parameters at each rank.

Shapes are (m, n) = (out, in). On models: `tinyslm/recipes/factorization/svd.py`. Lesson: `lessons/10_low_rank.py`.
"""

import math

import numpy as np
import scipy

from tinyslm.compression.argument_checks import checked, matrix, require_integer, require_ratio
from tinyslm.compression.factorization.components import Components, balanced_components
from tinyslm.errors import ConfigError


@checked(weight=matrix("out", "in"))
def svd_components(weight: np.ndarray) -> Components:
    """All components of `truncated_svd`.

    Parameters
    ----------
    weight : ndarray, shape (out, in)
        Weight matrix of a linear layer, y = x W^T.

    Returns
    -------
    Components
        Ordered by singular value: dropping component i adds s_i^2 to the squared error of the weights.

    Raises
    ------
    DataError
        If weight is not a finite matrix.

    Examples
    --------
    >>> svd_components(np.diag([2.0, 3.0])).singular_values
    array([3., 2.])
    """
    U, S, Vt = scipy.linalg.svd(weight.astype(np.float64), full_matrices=False)  # (out, r), (r,), (r, in)
    return balanced_components(U, S[:, None] * Vt, S)


@checked(weight=matrix("out", "in"))
def truncated_svd(weight: np.ndarray, rank: int) -> tuple[np.ndarray, np.ndarray]:
    """Factors whose product is the closest matrix of this rank, in the Frobenius and the spectral norm.

    With W = U S V^T, left = U sqrt(S) and right = sqrt(S) V^T: each factor contains the root of the singular values,
    so that both have entries of similar size. The Frobenius error is the root of the sum of the dropped s_i^2.

    Parameters
    ----------
    weight : ndarray, shape (out, in)
        Weight matrix of a linear layer, y = x W^T.
    rank : int
        Number of components kept, from 1 to min(out, in).

    Returns
    -------
    left : ndarray, shape (out, rank)
    right : ndarray, shape (rank, in)
        The factors, computed in float64, dtype of `weight`.

    Raises
    ------
    DataError
        If weight is not a finite matrix.
    ConfigError
        If rank is out of range.

    References
    ----------
    Eckart & Young 1936; Mirsky 1960 for every unitarily invariant norm.

    Examples
    --------
    >>> left, right = truncated_svd(np.diag([2.0, 3.0]), 1)
    >>> np.round(left @ right, 6) + 0.0
    array([[0., 0.],
           [0., 3.]])
    """
    return svd_components(weight).first(rank, weight.dtype)


def rank_for_ratio(shape: tuple[int, int], ratio: float) -> int:
    """Largest rank whose two factors have at most this fraction of the dense parameters, at least 1.

    Rank k has k (m + n) parameters. For a square matrix, half of the parameters is a quarter of the full rank.

    Parameters
    ----------
    shape : tuple of two ints
        Shape (m, n) of the weight matrix.
    ratio : float
        Fraction of parameters kept, above 0 and up to 1.

    Returns
    -------
    int
        ``max(1, floor(ratio * mn / (m + n)))``.

    Raises
    ------
    ConfigError
        If ratio is out of range, or the shape is not two whole numbers of at least 1.

    Examples
    --------
    >>> rank_for_ratio((8, 8), 0.5)
    2
    """
    require_ratio(ratio)
    m, n = shape_of_matrix(shape)
    return max(1, math.floor(ratio * m * n / (m + n)))


def break_even_rank(shape: tuple[int, int]) -> int:
    """Largest rank whose two factors have no more parameters than the matrix; n / 2 for a square matrix.

    Parameters
    ----------
    shape : tuple of two ints
        Shape (m, n) of the weight matrix.

    Returns
    -------
    int
        ``floor(mn / (m + n))``.

    Raises
    ------
    ConfigError
        If the shape is not two whole numbers of at least 1.

    Examples
    --------
    >>> break_even_rank((8, 8))
    4
    """
    m, n = shape_of_matrix(shape)
    return m * n // (m + n)


def factorized_parameters(shape: tuple[int, int], rank: int) -> int:
    """Number of parameters of a layer at this rank. It stays dense if two factors would not be smaller.

    Parameters
    ----------
    shape : tuple of two ints
        Shape (m, n) of the weight matrix.
    rank : int
        From 1 to min(m, n).

    Returns
    -------
    int
        ``min(rank * (m + n), mn)``.

    Raises
    ------
    ConfigError
        If rank is out of range, or the shape is not two whole numbers of at least 1.

    Examples
    --------
    >>> factorized_parameters((8, 8), 3), factorized_parameters((8, 8), 5)
    (48, 64)
    """
    m, n = shape_of_matrix(shape)
    require_integer(f"rank of a matrix {tuple(shape)}", rank, 1, min(m, n))
    return min(rank * (m + n), m * n)


def shape_of_matrix(shape) -> tuple[int, int]:
    """The shape as (m, n). Raises ConfigError unless it is two whole numbers of at least 1."""
    if len(shape) != 2:
        raise ConfigError(f"a matrix has shape (m, n), found {tuple(shape)}")
    for size in shape:
        require_integer("a side of a matrix", size, 1, 2**63)
    return tuple(shape)
