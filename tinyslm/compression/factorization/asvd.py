"""SVD that looks at how strongly each input feature is used."""

import math

import numpy as np

from tinyslm.compression.argument_checks import require_finite, require_same_shape
from tinyslm.compression.factorization.components import Components
from tinyslm.compression.factorization.weighted_svd import weighted_components
from tinyslm.errors import ConfigError, DataError


def activation_weighted_components(weight, mean_magnitudes, *, alpha=0.5) -> Components:
    """The components that `activation_weighted_svd` takes the first of."""
    if not 0 <= alpha < math.inf:
        raise ConfigError(f"alpha is an exponent of at least 0, found {alpha!r}")
    require_same_shape("mean_magnitudes", mean_magnitudes, weight.shape[1:])
    require_finite("mean_magnitudes", mean_magnitudes)
    if np.any(mean_magnitudes < 0):
        raise DataError("mean_magnitudes must be means of absolute values, found negative entries")
    return weighted_components(weight, np.asarray(mean_magnitudes, np.float64) ** alpha)


def activation_weighted_svd(weight, mean_magnitudes, rank, *, alpha=0.5):
    """(left, right) of this rank that minimize sum_ij mean_magnitudes_j^(2 alpha) (weight - left right)_ij^2.

    weight: (out, in);  mean_magnitudes: (in,) mean |x_j| over calibration tokens;  returns left (out, R),
    right (R, in), dtype of weight. alpha = 0 is the plain SVD; at 1 a feature counts as it is used, and 1/2 tempers
    that: a heuristic, which knows nothing about features that rise and fall together (`whitened_svd` does). Multiplying
    the magnitudes by a constant changes nothing.
    Source: Yuan et al. 2023 (ASVD), with S = diag(mean|X_j|^alpha).
    """
    return activation_weighted_components(weight, mean_magnitudes, alpha=alpha).first(rank, weight.dtype)
