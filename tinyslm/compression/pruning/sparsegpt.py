"""Pruning with the curvature of the error: when a weight goes, the others of its row move to make up for it."""

import numpy as np

from tinyslm.compression.argument_checks import require_integer, require_same_shape
from tinyslm.compression.error_compensation import compensate_columns, prepare_columns
from tinyslm.compression.pruning.magnitude import magnitude_mask, require_sparsity
from tinyslm.compression.pruning.n_m import largest_in_rows, require_groups
from tinyslm.errors import DataError


def obs_step(weights, inverse_hessian, index):
    """(new weights (n,), loss): weight `index` removed, the others moved so that the error grows least.

    weights: (n,);  inverse_hessian: (n, n), H^-1 of the error 1/2 d^T H d of a move d, H = 2 X^T X for the squared
    error of a layer's outputs. d = -w_q / [H^-1]_qq * H^-1 e_q costs w_q^2 / (2 [H^-1]_qq), which is the loss.
    Source: Hassibi & Stork 1993 (optimal brain surgeon), eq. 5. H must belong to weights at a minimum.
    """
    _require_inverse(inverse_hessian, len(weights), index)
    column = inverse_hessian[:, index]  # (n,)
    moved = weights - weights[index] / column[index] * column
    moved[index] = 0
    return moved, weights[index] ** 2 / (2 * column[index])


def downdate_inverse(inverse_hessian, index):
    """(n, n): the inverse of H without row and column `index`, which are 0 in it. The next `obs_step` needs it.

    H^-1 - H^-1[:, q] H^-1[q, :] / [H^-1]_qq: one step of Gaussian elimination instead of another inversion.
    Source: Frantar, Singh & Alistarh 2022 (OBC), lemma 1.
    """
    _require_inverse(inverse_hessian, len(inverse_hessian), index)
    column = inverse_hessian[:, index]  # (n,)
    reduced = inverse_hessian - np.outer(column, column / column[index])
    reduced[index], reduced[:, index] = 0, 0
    return reduced


def _require_inverse(inverse_hessian, size, index):
    require_same_shape("inverse_hessian", inverse_hessian, (size, size))
    require_integer("index", index, 0, size - 1)
    if not inverse_hessian[index, index] > 0:
        raise DataError(f"weight {index} was removed already, or inverse_hessian is not positive definite")


def sparsegpt(weight, hessian, sparsity, *, pattern=None, block_size=128, damping=0.01):
    """The weight (out, in) with zeros and with the others moved, so that the layer's outputs change little.

    weight: (out, in);  hessian: (in, in), X^T X of calibration inputs or a multiple;  sparsity: fraction removed;
    pattern: (n, m) for n of every m inputs, chosen when the loop comes to them, or None for the lowest
    W_ij^2 / U_jj^2 of every block of `block_size` columns, over all rows. With a pattern, sparsity is not read.
    damping: see `prepare_columns`; columns whose input is always 0 become 0 beyond the sparsity. Exactly
    round(sparsity * size) weights are removed (to the end of each block, that share of the columns so far); the mask is
    weight != 0, unless a kept weight is 0 itself. Computed in float64, dtype of weight.
    Source: Frantar & Alistarh 2023 (arXiv 2301.00774), algorithm 1 and section 3.4.
    """
    require_sparsity(sparsity)
    columns, upper = prepare_columns(weight, hessian, damping)
    rows = len(columns)
    if pattern is not None:
        n, m = pattern
        require_groups(columns.shape[1], n, m)
        block_size = -(-block_size // m) * m  # whole groups
    width = block_size if pattern is None else m
    kept = np.ones(columns.shape, bool)

    def choose(j, rest):
        if j % width == 0:  # the mask of the next columns, by what their weights are now
            saliency = np.square(rest[:, :width] / np.diagonal(upper)[j : j + width])  # (out, width)
            if pattern is None:
                before, after = (round(float(sparsity) * rows * end) for end in (j, j + saliency.shape[1]))
                kept[:, j : j + width] = magnitude_mask(saliency, (after - before) / saliency.size)
            else:
                kept[:, j : j + width] = largest_in_rows(saliency, m - n)
        return np.where(kept[:, j], rest[:, 0], 0.0)

    return compensate_columns(columns, upper, choose, block_size=block_size)[0].astype(np.asarray(weight).dtype)
