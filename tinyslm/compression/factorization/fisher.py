"""SVD that spends its error where the loss does not feel it."""

import numpy as np

from tinyslm.compression.checks import require_finite, require_matrix, require_same_shape
from tinyslm.compression.factorization.svd import truncated_svd
from tinyslm.errors import DataError

RELATIVE_FLOOR = 1e-6  # of the largest importance


def fisher_weighted_svd(weight, fisher, rank):
    """(left, right) of this rank that minimize sum_ij importance_j^2 (weight - left right)_ij^2.

    weight: (out, in);  fisher: (out, in), the mean over samples of the SQUARED gradient of each sample (not the square
    of the mean gradient, which is near 0 at a minimum);  returns left (out, R), right (R, in), dtype of weight.
    importance_j = sqrt(sum_i fisher_ij): one per INPUT feature, since one per entry has no closed form. The importances
    are at least 10^-6 of the largest, so that the right factor can be divided by them; if all are 0 this is the plain
    SVD. Multiplying fisher by a constant changes nothing.
    Source: Hsu et al. 2022 (FWSVD), section 4. The paper writes z = x W: its rows are the input features.
    """
    require_matrix("weight", weight)
    require_same_shape("fisher", fisher, weight.shape)
    require_finite("fisher", fisher)
    if np.any(fisher < 0):
        raise DataError("fisher must hold squared gradients, found negative entries")
    importance = np.sqrt(np.sum(fisher, axis=0, dtype=np.float64))  # (in,)
    if not np.any(importance):
        return truncated_svd(weight, rank)
    importance /= np.max(importance)
    importance = np.maximum(importance, RELATIVE_FLOOR)
    left, right = truncated_svd(weight.astype(np.float64) * importance, rank)  # (out, R), (R, in)
    return left.astype(weight.dtype), (right / importance).astype(weight.dtype)
