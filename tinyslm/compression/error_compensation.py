"""Error compensation: the loop over the columns of a weight matrix that SparseGPT and GPTQ share.

If a weight is removed or rounded, changes of the other weights of its row can reduce the error of the layer's outputs.
SparseGPT (`pruning/sparsegpt.py`) and GPTQ (`quantization/gptq.py`) differ only in the new values of a column. All rows
have the same Hessian:

    H = X^T X                             inputs X (N, in) of calibration tokens; the scale of H has no effect
    H^-1 = U^T U                          U upper triangular
    for each column j, from the left:
        q_j = choose(...)                 the new column: some zeros, or rounded values
        e_j = (w_j - q_j) / U_jj
        W[:, j+1:] -= e_j U[j, j+1:]      the optimal change of the later columns

Row j of U is, up to a factor, row j of the inverse of the Hessian of the columns j, j+1, ...: the row that the optimal
brain surgeon needs after the columns before j are fixed.
Sources: Frantar & Alistarh 2023 (SparseGPT), algorithm 1; Frantar et al. 2023 (GPTQ), algorithm 1.
Lessons: `lessons/07_pruning_weights.py` and `lessons/09_quantization.py`.
"""

from collections.abc import Callable

import numpy as np
import scipy

from tinyslm.compression.argument_checks import array, at_least, checked, integer, matrix
from tinyslm.errors import DataError


@checked(weight=matrix("out", "in"), hessian=array("in", "in"))
def prepare_columns(weight: np.ndarray, hessian: np.ndarray, damping: float = 0.01) -> tuple[np.ndarray, np.ndarray]:
    """Inputs of the loop: weight (out, in), in its dtype, with dead columns set to 0, and U (in, in) in float64.

    weight: (out, in);  hessian: (in, in), X^T X or a multiple of it;  damping: see `damped_hessian`.
    A column is dead if its input is 0 for each token (H_jj = 0). Its weights have no effect: they become 0.
    H^-1 = U^T U with U upper triangular and a positive diagonal. From H = R R^T with R upper triangular (a Cholesky
    factorization from the last row to the first), U = R^-1. H itself is never inverted.
    """
    damped, dead = damped_hessian(hessian, damping)
    weight = np.where(dead, 0.0, weight)  # (out, in)
    try:
        # of H with rows and columns in reverse order
        reversed_lower = scipy.linalg.cholesky(damped[::-1, ::-1], lower=True)
    except scipy.linalg.LinAlgError:
        raise DataError(
            "the hessian is not positive definite: use more calibration tokens, or a damping above "
            f"{damping}, often 0.1 is enough"
        ) from None
    R = reversed_lower[::-1, ::-1]  # (in, in) upper triangular
    return weight, scipy.linalg.lapack.dtrtri(R)[0]  # the inverse of an upper triangular matrix


@checked(hessian=array("in", "in"), damping=at_least(0))
def damped_hessian(hessian: np.ndarray, damping: float = 0.01) -> tuple[np.ndarray, np.ndarray]:
    """Damped Hessian H + damping * mean(diagonal) I in float64, and the dead columns (in,) as booleans.

    Before damping, the diagonal entries of dead columns are set to 1.

    damping: fraction of the mean diagonal. Fewer tokens than inputs give a singular H, so it must be above 0 then.
    """
    hessian = np.array(hessian, np.float64)
    diagonal = np.einsum("jj->j", hessian)  # (in,), a view
    if np.any(diagonal < 0) or np.max(np.abs(hessian - hessian.T), initial=0) > 1e-6 * np.max(diagonal, initial=0):
        raise DataError("hessian must be X^T X: symmetric, without a negative number on the diagonal")
    dead = diagonal == 0
    diagonal[dead] = 1
    diagonal += damping * np.mean(diagonal)
    return hessian, dead


@checked(block_size=integer(1, 2**31))
def compensate_columns(
    weight: np.ndarray, upper: np.ndarray, choose: Callable, *, block_size: int = 128
) -> tuple[np.ndarray, np.ndarray]:
    """Run the loop over the columns; returns the new weight (out, in) and the errors E (out, in).

    weight, upper: from `prepare_columns`.

    choose(j, rest) -> (out,): the new column j. rest: (out, k), the current columns from j to the end of j's block,
    with the compensation of all earlier errors; rest[:, 0] is column j.  block_size: columns after a block change once
    per block, by one matrix product. The result does not depend on it, unless `choose` uses several columns of rest.

    The squared error of the outputs is the squared norm of E: tr((W - Q) H (W - Q)^T) = sum(E^2).
    """
    columns = np.array(weight.T, order="C")  # (in, out): the entries of a column are neighbours in memory
    errors, upper = np.zeros_like(columns), upper.astype(columns.dtype)
    for start in range(0, len(columns), block_size):
        stop = min(start + block_size, len(columns))
        for j in range(start, stop):
            rest = columns[j:stop]  # (stop - j, out), a view
            chosen = choose(j, rest.T)  # (out,)
            errors[j] = (rest[0] - chosen) / upper[j, j]
            rest -= np.multiply.outer(upper[j, j:stop], errors[j])
            rest[0] = chosen  # exactly, without rounding
        columns[stop:] -= upper[start:stop, stop:].T @ errors[start:stop]
    return np.ascontiguousarray(columns.T), np.ascontiguousarray(errors.T)
