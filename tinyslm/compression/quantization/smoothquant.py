"""Smoothing: moving the outliers of activations, which quantize badly, into weights, which quantize well.

(X / s)(W * s)^T = X W^T for any positive s per input feature, so the factors cost nothing: 1 / s goes into what
produces X, such as the gain of a norm. Source: Xiao et al. 2023 (SmoothQuant), section 4.
"""

import numpy as np

from tinyslm.compression.argument_checks import require_finite, require_same_shape
from tinyslm.errors import ConfigError, DataError

SMALLEST = 1e-5  # a scale: features that never occur, or that no weight reads, would have 0 or infinity


def smoothing_scales(activation_maxima, weight_maxima, alpha=0.5):
    """s_j = max|X_j|^alpha / max|W_j|^(1 - alpha), at least 1e-5: what feature j is divided by.

    activation_maxima: (in,) largest magnitude of each feature;  weight_maxima: (in,) that of each column, over all the
    matrices that read the feature;  alpha: how much of the difficulty moves to the weights, 0 to 1;  returns (in,).
    Afterwards feature j reaches (max|X_j| max|W_j|)^(1 - alpha) and column j the same to the power of alpha: with 0.5
    both are equal. Source: eq. 4; the lower bound, also of the weight maxima, is that of the authors' code.
    """
    if not 0 <= alpha <= 1:
        raise ConfigError(f"alpha must be from 0 to 1, found {alpha!r}")
    require_same_shape("weight_maxima", weight_maxima, activation_maxima.shape)
    for name, maxima in (("activation_maxima", activation_maxima), ("weight_maxima", weight_maxima)):
        require_finite(name, maxima)
        if np.any(maxima < 0):
            raise DataError(f"{name} are magnitudes, found {np.min(maxima)}")
    weight_maxima = np.maximum(weight_maxima, weight_maxima.dtype.type(SMALLEST))
    scales = activation_maxima**alpha / weight_maxima ** (1 - alpha)
    return np.maximum(scales, scales.dtype.type(SMALLEST))


def column_maxima(*weights):
    """max |W_j| of every column, over several matrices (out, in) that read the same features: (in,)."""
    return np.max([np.max(np.abs(weight), axis=0) for weight in weights], axis=0)


def smooth_gain(gain, scales, offset=0.0):
    """The gain of a norm, or its shift, whose output is divided by the scales: (in,).

    offset: what the norm adds to the stored gain (1 for Gemma, whose gain is offset + w); 0 for a shift.
    """
    return (gain + gain.dtype.type(offset)) / scales - gain.dtype.type(offset)


def smooth_weight(weight, scales):
    """The weight (out, in) that reads features divided by the scales (in,)."""
    require_same_shape("scales", scales, weight.shape[1:])
    return weight * scales
