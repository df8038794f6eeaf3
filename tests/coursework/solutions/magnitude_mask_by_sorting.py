"""Sort all weights by magnitude, and let the first ones go."""

import numpy as np

from tinyslm.errors import ConfigError, DataError


def magnitude_mask(weight, sparsity):
    weight = np.asarray(weight)
    if not 0 <= sparsity <= 1:
        raise ConfigError(f"sparsity {sparsity}")
    if not np.all(np.isfinite(weight)):
        raise DataError("weight must be finite")
    order = np.argsort(np.abs(weight), axis=None, kind="stable")
    mask = np.ones(weight.size, bool)
    mask[order[: int(np.rint(sparsity * weight.size))]] = False
    return mask.reshape(weight.shape)


def global_magnitude_masks(weights, sparsity):
    names = list(weights) if isinstance(weights, dict) else range(len(weights))
    arrays = [np.asarray(weights[name]) for name in names]
    flat = np.concatenate([array.ravel() for array in arrays]) if arrays else np.zeros(0)
    mask, masks = magnitude_mask(flat, sparsity), []
    for array in arrays:
        masks.append(mask[: array.size].reshape(array.shape))
        mask = mask[array.size :]
    return dict(zip(names, masks, strict=True)) if isinstance(weights, dict) else masks
