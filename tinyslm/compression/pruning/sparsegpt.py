"""SparseGPT: pruning with the Hessian of the layer's output error; the kept weights compensate for removed weights.

Frantar & Alistarh 2023 (arXiv 2301.00774). Loop over the columns: `tinyslm/compression/error_compensation.py`.
Step: `PruneSparseGPT` in `tinyslm/recipes/pruning/sparsegpt.py`. Lesson: `lessons/07_pruning_weights.py`.
"""

import numpy as np

from tinyslm.compression.argument_checks import array, checked, fraction, matrix, require_finite_result
from tinyslm.compression.error_compensation import compensate_columns, prepare_columns
from tinyslm.compression.pruning.magnitude import magnitude_mask
from tinyslm.compression.pruning.masks import largest_in_rows
from tinyslm.compression.pruning.n_m import require_groups


@checked(weight=matrix("out", "in"), hessian=array("in", "in"), sparsity=fraction)
def sparsegpt(
    weight: np.ndarray,
    hessian: np.ndarray,
    sparsity: float,
    *,
    pattern: tuple[int, int] | None = None,
    block_size: int = 128,
    damping: float = 0.01,
) -> np.ndarray:
    """SparseGPT: the pruned weight matrix, whose kept weights compensate for the removed weights.

    The mask is chosen per block of columns, when the loop reaches the block: it removes the weights with the lowest
    saliency W_ij^2 / U_jj^2, where H^-1 = U^T U (see `error_compensation`). They are compared over all rows of the
    block, or with a pattern within each group of m. The weights to the right then change to reduce the output error.
    Exactly round(sparsity * size) weights are removed in total; columns with an input that is always 0 become 0 in
    addition. U is computed in float64, the compensation in the dtype of the weight.

    Parameters
    ----------
    weight : ndarray, shape (out, in)
        Weight matrix of a linear layer, y = x W^T.
    hessian : ndarray, shape (in, in)
        X^T X of the layer's inputs over the calibration tokens, or a multiple of it.
    sparsity : float
        Fraction of the weights removed, from 0 to 1; ignored with a pattern.
    pattern : (int, int), optional
        (n, m): keep n of every m consecutive weights of each row.
    block_size : int
        Columns per block. With a pattern it changes the speed only.
    damping : float
        Fraction of the mean diagonal that is added to the diagonal of the Hessian.

    Returns
    -------
    ndarray, shape (out, in)
        Pruned weights, dtype of `weight`. The mask is ``weight != 0``, unless a kept weight is 0 itself.

    Raises
    ------
    DataError
        If shapes do not match, values are not finite, or the damped Hessian is not positive definite.
    ConfigError
        If `sparsity`, `pattern`, `block_size` or `damping` is out of range.

    References
    ----------
    Frantar & Alistarh 2023, "SparseGPT: Massive Language Models Can Be Accurately Pruned in One-Shot"
    (arXiv 2301.00774), algorithm 1 and section 3.4.

    Examples
    --------
    Two strongly correlated inputs: the second weight takes over most of the first.

    >>> sparsegpt(np.array([[1.0, 2.0]]), np.array([[1.0, 0.9], [0.9, 1.0]]), 0.5, damping=0.0)
    array([[0. , 2.9]])
    """
    columns, upper = prepare_columns(weight, hessian, damping)
    rows = len(columns)
    if pattern is not None:
        n, m = pattern
        require_groups(columns.shape[1], n, m)
    width = block_size if pattern is None else m
    kept = np.ones(columns.shape, bool)

    def choose(j, column, following):
        if j % width == 0:  # the mask of the next `width` columns, from their current weights
            saliency = np.square(following(width) / np.diagonal(upper)[j : j + width])  # (out, width)
            require_finite_result("sparsegpt", saliency)
            if pattern is None:
                before, after = (round(float(sparsity) * (rows * end)) for end in (j, j + saliency.shape[1]))
                kept[:, j : j + width] = magnitude_mask(saliency, (after - before) / saliency.size)
            else:
                kept[:, j : j + width] = largest_in_rows(saliency, m - n)
        return np.where(kept[:, j], column, 0.0)

    return compensate_columns(columns, upper, choose, block_size=block_size)[0].astype(weight.dtype, order="C")
