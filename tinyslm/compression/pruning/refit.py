"""After pruning: the weights that are left, chosen anew so that the layer computes what it did."""

import numpy as np
import scipy

from tinyslm.compression.argument_checks import require_finite, require_matrix, require_same_shape
from tinyslm.errors import DataError

RELATIVE_FLOOR = 1e-12  # of gram, which is 10^-6 of X: what is smaller may be rounding, and 1 / rounding is noise


def least_squares_refit(weight, gram, mask):
    """The weights (out, in), 0 where mask is False, with the smallest error ||X (W - W')^T|| of the outputs.

    weight: (out, in), before pruning;  gram: (in, in), X^T X of calibration inputs;  mask: (out, in), True where a
    weight stays. For a row with the weights S kept and R removed: w'_S = w_S + G_SS^-1 G_SR w_R, the normal equations
    for the move; where they have many solutions (few tokens, dead inputs), the smallest move. Directions of X
    smaller than 10^-6 of the largest count as if no token had them. So, up to those, no method that keeps
    the same weights has a smaller error on these tokens, SparseGPT among them. One system of equations per row:
    O(out * in^3). Computed in float64, dtype of weight.
    Source: the exact form of what Frantar & Alistarh 2023, section 3.1, eq. 2, approximate.
    """
    weight, gram, mask = np.asarray(weight), np.asarray(gram, np.float64), np.asarray(mask)
    require_matrix("weight", weight)
    require_same_shape("gram", gram, (weight.shape[1],) * 2)
    require_finite("gram", gram)
    require_same_shape("mask", mask, weight.shape)
    if mask.dtype != bool:
        raise DataError(f"mask must hold booleans (True: the weight stays), found {mask.dtype}")
    refitted = np.zeros_like(weight)
    for row, kept, new in zip(weight.astype(np.float64), mask, refitted, strict=True):
        if not np.any(kept):
            continue
        wanted = gram[np.ix_(kept, ~kept)] @ row[~kept]  # (kept,)
        move = scipy.linalg.lstsq(gram[np.ix_(kept, kept)], wanted, cond=RELATIVE_FLOOR, lapack_driver="gelsy")[0]
        new[kept] = row[kept] + move
    return refitted
