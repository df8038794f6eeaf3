"""Changing a weight matrix column by column, while the columns that are left make up for each error.

Removing a weight or rounding it, the others of its row can move so that the layer's outputs change least. SparseGPT and
GPTQ are this one loop; they differ only in what becomes of a column. The rows share one Hessian:

    H = X^T X                             inputs X (N, in) of calibration tokens; a factor of all of H changes nothing
    H^-1 = U^T U                          U upper triangular
    for every column j, from the left:
        q_j = choose(...)                 what the column becomes: zeros in it, or rounded
        e_j = (w_j - q_j) / U_jj
        W[:, j+1:] -= e_j U[j, j+1:]      the optimal move of the columns that are not yet decided

Row j of U is, up to a factor, row j of the inverse of the Hessian of the columns j, j+1, ...: this is what the optimal
brain surgeon needs after the columns before j are fixed, for all j at once.
Source: Frantar & Alistarh 2023 (SparseGPT), algorithm 1; Frantar et al. 2023 (GPTQ), algorithm 1.
"""

import numpy as np
import scipy

from tinyslm.compression.argument_checks import require_finite, require_integer, require_matrix, require_same_shape
from tinyslm.errors import ConfigError, DataError


def prepare_columns(weight, hessian, damping=0.01):
    """(weight, U) in float64 for the loop, a copy of weight with its dead columns at 0, U: (in, in) upper triangular.

    weight: (out, in);  hessian: (in, in), X^T X or a multiple of it. A column is dead if its input was 0 for every
    token (H_jj = 0): its weights do nothing, so they become 0 and H_jj 1.  damping: this share of the mean of H's
    diagonal is added to the diagonal, of dead columns too: fewer tokens than inputs give a singular H.
    H^-1 = U^T U with a positive diagonal. From H = R R^T, R upper triangular (a Cholesky factorization from the last
    row to the first), U = R^-1: H itself is never inverted.
    """
    require_matrix("weight", np.asarray(weight))
    damped, dead = damped_hessian(hessian, np.shape(weight)[1], damping)
    weight = np.where(dead, 0.0, weight)  # (out, in), float64
    try:
        # of H with rows and columns from the last on
        reversed_lower = scipy.linalg.cholesky(damped[::-1, ::-1], lower=True)
    except scipy.linalg.LinAlgError:
        raise DataError(
            "the hessian is not positive definite: use more calibration tokens, or a damping above "
            f"{damping}, often 0.1 is enough"
        ) from None
    R = reversed_lower[::-1, ::-1]  # (in, in) upper triangular
    return weight, scipy.linalg.solve_triangular(R, np.eye(len(R)), lower=False)


def damped_hessian(hessian, features, damping=0.01):
    """(H + damping * mean(diagonal) I with 1 on the diagonal of dead columns, dead (in,) booleans), in float64."""
    hessian = np.array(hessian, np.float64)
    require_same_shape("hessian", hessian, (features, features))
    require_finite("hessian", hessian)
    if not damping >= 0:
        raise ConfigError(f"damping is a share of the mean diagonal, 0 or more, found {damping!r}")
    diagonal = np.einsum("jj->j", hessian)  # (in,), a view
    if np.any(diagonal < 0) or not np.allclose(hessian, hessian.T, rtol=0, atol=1e-6 * np.max(diagonal)):
        raise DataError("hessian must be X^T X: symmetric, with nothing negative on the diagonal")
    dead = diagonal == 0
    diagonal[dead] = 1
    diagonal += damping * np.mean(diagonal)
    return hessian, dead


def compensate_columns(weight, upper, choose, *, block_size=128):
    """(new weight (out, in), errors E (out, in)): the loop; both arguments as `prepare_columns` gives them.

    choose(j, rest) -> (out,): what column j becomes. rest: (out, k), the columns from j to the end of j's block as they
    are now, moved by all errors before; rest[:, 0] is column j.  block_size: columns after a block are moved once per
    block, by one product of matrices. The result does not depend on it, unless `choose` looks at rest as a whole.

    The squared error of the outputs is that of E: tr((W - Q) H (W - Q)^T) = sum(E^2).
    """
    require_integer("block_size", block_size, 1, 2**31)
    weight, errors = weight.copy(), np.zeros_like(weight)
    columns = weight.shape[1]
    for start in range(0, columns, block_size):
        stop = min(start + block_size, columns)
        for j in range(start, stop):
            rest = weight[:, j:stop]  # (out, stop - j), a view
            chosen = choose(j, rest)  # (out,)
            errors[:, j] = (rest[:, 0] - chosen) / upper[j, j]
            rest -= np.outer(errors[:, j], upper[j, j:stop])
            rest[:, 0] = chosen  # exactly, without rounding
        weight[:, stop:] -= errors[:, start:stop] @ upper[start:stop, stop:]
    return weight, errors
