"""SVD that spends its error where the loss does not feel it."""

import numpy as np

from tinyslm.compression.argument_checks import require_finite, require_matrix, require_same_shape
from tinyslm.compression.factorization.components import Components
from tinyslm.compression.factorization.weighted_svd import weighted_components
from tinyslm.errors import DataError


def fisher_weighted_components(weight, fisher) -> Components:
    """The components that `fisher_weighted_svd` takes the first of."""
    require_matrix("weight", weight)
    require_same_shape("fisher", fisher, weight.shape)
    require_finite("fisher", fisher)
    if np.any(fisher < 0):
        raise DataError("fisher must hold squared gradients, found negative entries")
    return weighted_components(weight, np.sqrt(np.sum(fisher, axis=0, dtype=np.float64)))


def fisher_weighted_svd(weight, fisher, rank):
    """(left, right) of this rank that minimize sum_ij importance_j^2 (weight - left right)_ij^2.

    weight: (out, in);  fisher: (out, in), the mean over samples of the SQUARED gradient of each sample (not the square
    of the mean gradient, which is near 0 at a minimum);  returns left (out, R), right (R, in), dtype of weight.
    importance_j = sqrt(sum_i fisher_ij): one per INPUT feature, since one per entry has no closed form. The importances
    are at least 10^-6 of the largest; if all are 0 this is the plain SVD. Multiplying fisher by a constant changes
    nothing.
    Source: Hsu et al. 2022 (FWSVD), section 4. The paper writes z = x W: its rows are the input features.
    """
    return fisher_weighted_components(weight, fisher).first(rank, weight.dtype)
