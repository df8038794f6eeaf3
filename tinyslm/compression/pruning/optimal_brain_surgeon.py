"""Optimal brain surgeon (OBS): remove one weight, and change the others so that the error grows least.

`sparsegpt.py` applies it to all columns of a matrix in a fixed order. Lesson: `lessons/07_pruning_weights.py`.
"""

import numpy as np

from tinyslm.compression.argument_checks import array, checked, index_of
from tinyslm.errors import DataError


@checked(weights=array("n"), inverse_hessian=array("n", "n"), index=index_of("n"))
def obs_step(weights: np.ndarray, inverse_hessian: np.ndarray, index: int) -> tuple[np.ndarray, float]:
    """One step of the optimal brain surgeon: weight q = `index` removed, the others changed for the smallest error.

    The error of a change d is 1/2 d^T H d; for the squared error of a linear layer's outputs H = 2 X^T X. The best
    change is d = -w_q / [H^-1]_qq * H^-1 e_q. It assumes that the gradient at `weights` is 0.

    Parameters
    ----------
    weights : ndarray, shape (n,)
        Weights, for example one row of a weight matrix.
    inverse_hessian : ndarray, shape (n, n)
        H^-1.
    index : int
        The weight to remove, from 0 to n - 1.

    Returns
    -------
    tuple
        (new weights (n,), 0 at `index`; increase of the error w_q^2 / (2 [H^-1]_qq)). Computed in float64, dtype of
        `weights`.

    Raises
    ------
    DataError
        If shapes do not match, values are not finite, or the diagonal entry of H^-1 is not positive: the weight was
        removed already.
    ConfigError
        If `index` is out of range.

    References
    ----------
    Hassibi & Stork 1993, "Second order derivatives for network pruning: Optimal Brain Surgeon", eq. 5.

    Examples
    --------
    >>> weights, loss = obs_step(np.array([2.0, 1.0]), np.array([[1.0, 0.5], [0.5, 1.0]]), 0)
    >>> weights.tolist(), float(loss)
    ([0.0, 0.0], 2.0)
    """
    _require_present(inverse_hessian, index)
    dtype = weights.dtype
    weights = weights.astype(np.float64)
    column = inverse_hessian[:, index].astype(np.float64)  # (n,)
    moved = weights - weights[index] / column[index] * column
    moved[index] = 0
    return moved.astype(dtype), dtype.type(weights[index] ** 2 / (2 * column[index]))


@checked(inverse_hessian=array("n", "n"), index=index_of("n"))
def downdate_inverse(inverse_hessian: np.ndarray, index: int) -> np.ndarray:
    """The inverse of H without row and column q = `index`, from H^-1: the input of the next `obs_step`.

    H^-1 - H^-1[:, q] H^-1[q, :] / [H^-1]_qq, one step of Gaussian elimination in place of a new inversion.

    Parameters
    ----------
    inverse_hessian : ndarray, shape (n, n)
        H^-1.
    index : int
        The removed weight, from 0 to n - 1.

    Returns
    -------
    ndarray, shape (n, n)
        The inverse of the smaller matrix; row and column `index` are 0.

    Raises
    ------
    DataError
        If the matrix is not square and finite, or the diagonal entry is not positive: the weight was removed already.
    ConfigError
        If `index` is out of range.

    References
    ----------
    Frantar, Singh & Alistarh 2022, "Optimal Brain Compression" (OBC), lemma 1.

    Examples
    --------
    >>> downdate_inverse(np.array([[1.0, 0.5], [0.5, 1.0]]), 0)
    array([[0.  , 0.  ],
           [0.  , 0.75]])
    """
    _require_present(inverse_hessian, index)
    column = inverse_hessian[:, index]  # (n,)
    reduced = inverse_hessian - np.outer(column, column / column[index])
    reduced[index], reduced[:, index] = 0, 0
    return reduced


def _require_present(inverse_hessian, index):
    """Raise DataError if weight `index` was removed already."""
    if not inverse_hessian[index, index] > 0:
        raise DataError(f"weight {index} was removed already, or inverse_hessian is not positive definite")
