"""A QR decomposition first, then the small triangular matrix."""

import numpy as np

from tinyslm.compression.argument_checks import require_integer, require_matrix


def truncated_svd(weight, rank):
    require_matrix("weight", weight)
    require_integer("rank", rank, 1, min(weight.shape))
    wide = weight.astype(np.float64)
    Q, R = np.linalg.qr(wide if wide.shape[0] >= wide.shape[1] else wide.T)
    U, S, Vt = np.linalg.svd(R)
    left, right = Q @ U[:, :rank] * np.sqrt(S[:rank]), np.sqrt(S[:rank])[:, None] * Vt[:rank]
    if wide.shape[0] < wide.shape[1]:
        left, right = right.T, left.T
    return left.astype(weight.dtype), right.astype(weight.dtype)
