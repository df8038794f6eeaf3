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

The last line is computed later: column j changes when its turn comes, by w_j -= sum over i < j of e_i U_ij.

Row j of U is, up to a factor, row j of the inverse of the Hessian of the columns j, j+1, ...: the row that the optimal
brain surgeon needs after the columns before j are fixed.
Sources: Frantar & Alistarh 2023 (SparseGPT), algorithm 1; Frantar et al. 2023 (GPTQ), algorithm 1.
Lessons: `lessons/07_pruning_weights.py` and `lessons/09_quantization.py`.
"""

from collections.abc import Callable

import numpy as np
from scipy.linalg import lapack

from tinyslm.compression.argument_checks import array, at_least, checked, integer, matrix
from tinyslm.errors import DataError

ROWS = 64  # of a symmetric matrix that are compared with its columns at a time


@checked(weight=matrix("out", "in"), hessian=array("in", "in"))
def prepare_columns(weight: np.ndarray, hessian: np.ndarray, damping: float = 0.01) -> tuple[np.ndarray, np.ndarray]:
    """Inputs of the loop: weight (out, in), in its dtype, with dead columns set to 0, and U (in, in) in float64.

    weight: (out, in);  hessian: (in, in), X^T X or a multiple of it;  damping: see `damped_hessian`.
    A column is dead if its input is 0 for each token (H_jj = 0). Its weights have no effect: they become 0.
    H^-1 = U^T U with U upper triangular and a positive diagonal. Let B be the damped H with rows and columns in reverse
    order, and B = L L^T its Cholesky factorization. U is L^-1 in reverse order. H itself is never inverted.
    L and L^-1 replace B in its memory.
    """
    damped, dead = damped_hessian(hessian[::-1, ::-1], damping)  # B, dead columns in reverse order
    lower, failed = lapack.dpotrf(damped.T, lower=True, overwrite_a=True)  # L; B is symmetric
    if failed:
        raise DataError(
            "the hessian is not positive definite: use more calibration tokens, or a damping above "
            f"{damping}, often 0.1 is enough"
        )
    inverse, _ = lapack.dtrtri(lower, lower=True, overwrite_c=True)  # L^-1
    return np.where(dead[::-1], 0.0, weight), inverse[::-1, ::-1]


@checked(hessian=array("in", "in"), damping=at_least(0))
def damped_hessian(hessian: np.ndarray, damping: float = 0.01) -> tuple[np.ndarray, np.ndarray]:
    """Damped Hessian H + damping * mean(diagonal) I in float64, and the dead columns (in,) as booleans.

    Before damping, the diagonal entries of dead columns are set to 1.

    damping: fraction of the mean diagonal. Fewer tokens than inputs give a singular H, so it must be above 0 then.
    """
    hessian = np.array(hessian, np.float64, order="C")
    diagonal = np.einsum("jj->j", hessian)  # (in,), a view
    if np.any(diagonal < 0) or _asymmetry(hessian) > 1e-6 * np.max(diagonal, initial=0):
        raise DataError("hessian must be X^T X: symmetric, without a negative number on the diagonal")
    dead = diagonal == 0
    diagonal[dead] = 1
    diagonal += damping * np.mean(diagonal)
    return hessian, dead


def _asymmetry(square):
    """Largest |H_ij - H_ji|, computed for ROWS rows at a time: without a second array of this size."""
    parts = [slice(start, start + ROWS) for start in range(0, len(square), ROWS)]
    return max((np.max(np.abs(square[part] - square[:, part].T)) for part in parts), default=0)


@checked(block_size=integer(1, 2**31))
def compensate_columns(
    weight: np.ndarray, upper: np.ndarray, choose: Callable, *, block_size: int = 128
) -> tuple[np.ndarray, np.ndarray]:
    """Run the loop over the columns; returns the new weight (out, in) and the errors E (out, in).

    weight, upper: from `prepare_columns`.

    choose(j, column, following) -> (out,): the new column j. column: (out,), the current column j, with the
    compensation of all earlier errors. following(n) -> (out, n): column j and the n - 1 columns after it, or as many as
    there are, with the compensation of the same errors.

    block_size: when a block of columns is finished, one matrix product compensates all later columns for its errors.
    The result does not depend on it.

    The squared error of the outputs is the squared norm of E: tr((W - Q) H (W - Q)^T) = sum(E^2).
    """
    columns = np.array(weight.T, order="C")  # (in, out): the entries of a column are neighbours in memory
    errors = np.zeros_like(columns)

    def following(n):
        """Columns j to j + n - 1, compensated for the errors of their block: (out, n)."""
        return (columns[j : j + n] - U[: j - start, j : j + n].T @ errors[start:j]).T

    for start in range(0, len(columns), block_size):
        stop = min(start + block_size, len(columns))
        U = upper[start:stop].astype(columns.dtype, order="C")  # (stop - start, in), the rows of this block
        for j in range(start, stop):
            column = columns[j] - U[: j - start, j] @ errors[start:j]  # (out,)
            columns[j] = choose(j, column, following)
            errors[j] = (column - columns[j]) / U[j - start, j]
        columns[stop:] -= U[:, stop:].T @ errors[start:stop]
    return columns.T, errors.T
