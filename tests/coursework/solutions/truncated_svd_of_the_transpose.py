"""NumPy's decomposition of the transposed matrix."""

import numpy as np

from tinyslm.compression.argument_checks import require_integer, require_matrix


def truncated_svd(weight, rank):
    require_matrix("weight", weight)
    require_integer("rank", rank, 1, min(weight.shape))
    V, S, Ut = np.linalg.svd(weight.T.astype(np.float64), full_matrices=False)
    root = np.sqrt(S[:rank])
    return (Ut[:rank].T * root).astype(weight.dtype), (V[:, :rank] * root).T.astype(weight.dtype)
