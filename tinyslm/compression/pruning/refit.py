"""Least-squares refit: new values of the kept weights that minimize the output error of a pruned layer.

Steps: `RefitWeights` in `tinyslm/recipes/pruning/refit.py` (masks), `SliceNeurons(refit=True)` in
`tinyslm/recipes/pruning/neurons.py` (neurons).
Lessons: `lessons/07_pruning_weights.py` and `lessons/08_pruning_structure.py`.

Both functions solve the normal equations for inputs X (N, in) of calibration tokens and G = X^T X. With kept inputs K
and removed inputs R of one output row w, the change of the kept weights is

    argmin_c ||X_K c - X_R w_R||^2   =>   G_KK c = G_KR w_R
"""

import numpy as np
import scipy

from tinyslm.compression.argument_checks import array, checked, matrix
from tinyslm.compression.pruning.slicing import ascending

RELATIVE_CUTOFF = 1e-12  # of G, thus 10^-6 of X: smaller directions may be rounding errors, whose inverse is noise


@checked(weight=matrix("out", "in"), gram=array("in", "in"), mask=array("out", "in", boolean=True))
def least_squares_refit(weight: np.ndarray, gram: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """The masked weights W' with the smallest output error ||X (W - W')^T|| on the calibration tokens.

    No other weights with the same mask have a smaller error on these tokens; SparseGPT approximates this solution.
    If the normal equations have several solutions (few tokens, inputs that are always 0), the smallest change is
    chosen. Directions of X below 10^-6 of the largest direction count as 0. Cost: one linear system per row,
    O(out * in^3). Computed in float64.

    Parameters
    ----------
    weight : ndarray, shape (out, in)
        Weight matrix before pruning, y = x W^T.
    gram : ndarray, shape (in, in)
        X^T X of the layer's inputs over the calibration tokens.
    mask : ndarray of bool, shape (out, in)
        True where a weight is kept.

    Returns
    -------
    ndarray, shape (out, in)
        The new weights, 0 where `mask` is False, dtype of `weight`.

    Raises
    ------
    DataError
        If shapes do not match, `mask` is not boolean, or `weight` or `gram` is not finite.

    References
    ----------
    Frantar & Alistarh 2023, "SparseGPT" (arXiv 2301.00774), section 3.1, eq. 2: the exact solution.

    Examples
    --------
    Two equal inputs: the kept weight takes over the removed weight.

    >>> least_squares_refit(np.array([[1.0, 2.0]]), np.ones((2, 2)), np.array([[True, False]]))
    array([[3., 0.]])
    """
    refitted = np.zeros_like(weight)
    for row, kept, new in zip(weight.astype(np.float64), mask, refitted, strict=True):
        if np.any(kept):
            new[kept] = row[kept] + _compensation(gram, kept, ~kept, row[~kept], RELATIVE_CUTOFF)
    return refitted


@checked(down=matrix("C", "F"), gram=array("F", "F"), keep=ascending("F"))
def refit_down(down: np.ndarray, gram: np.ndarray, keep: np.ndarray) -> np.ndarray:
    """The columns of a down projection for the neurons `keep`, with the smallest error of the layer's outputs.

    D' = D G[:, keep] G[keep, keep]^-1 minimizes ||h_keep D'^T - h D^T||, where h (N, F) are the inputs of the down
    projection. Of several solutions, the nearest to the slice D[:, keep] is chosen. Computed in float64.

    Parameters
    ----------
    down : ndarray, shape (C, F)
        Weight of the down projection before slicing.
    gram : ndarray, shape (F, F)
        h^T h over the calibration tokens.
    keep : ndarray of int, shape (k,)
        Ascending indices of the neurons to keep.

    Returns
    -------
    ndarray, shape (C, k)
        Weight of the sliced down projection, dtype of `down`.

    Raises
    ------
    DataError
        If shapes do not match, values are not finite, or `keep` is not ascending.

    Examples
    --------
    Neuron 2 always equals neuron 0, and is removed.

    >>> gram = np.array([[1.0, 0.0, 1.0], [0.0, 1.0, 0.0], [1.0, 0.0, 1.0]])
    >>> refit_down(np.array([[1.0, 2.0, 3.0]]), gram, np.array([0, 1]))
    array([[4., 2.]])
    """
    removed = np.setdiff1d(np.arange(down.shape[1]), keep)
    change = _compensation(gram, keep, removed, down[:, removed].T.astype(np.float64))  # (k, C)
    return (down[:, keep] + change.T).astype(down.dtype)


def _compensation(gram, kept, removed, removed_weights, cutoff=None):
    """The least-squares change of the kept weights. removed_weights: (r,) of one row or (r, rows) -> (k,) or (k, rows).

    kept, removed: indices or booleans;  cutoff: relative size of singular values that count as 0 (None: rounding).
    """
    gram = np.asarray(gram, np.float64)
    wanted = gram[np.ix_(kept, removed)] @ removed_weights
    return scipy.linalg.lstsq(gram[np.ix_(kept, kept)], wanted, cond=cutoff, lapack_driver="gelsy")[0]
