"""Magnitude pruning: small weights matter least. Source: Han et al. 2015, section 3; global form: See et al. 2016."""

import numpy as np

from tinyslm.compression.argument_checks import require_finite
from tinyslm.errors import ConfigError


def magnitude_mask(weight, sparsity):
    """True for the weights that stay: all but the round(sparsity * size) smallest in magnitude.

    weight: any shape;  sparsity: fraction removed, 0 to 1 (round is Python's: a half goes to the even number);
    returns booleans of the same shape. Exactly that many are removed, even if many weights are equal: of equal
    magnitudes the earlier one in row-major order goes first. So masks of growing sparsity are nested.
    """
    require_sparsity(sparsity)
    weight = np.asarray(weight)
    require_finite("weight", weight)
    count = round(float(sparsity) * weight.size)  # how many go
    if count == 0:
        return np.ones(weight.shape, bool)
    magnitude = np.abs(weight).reshape(-1)  # (size,)
    threshold = np.partition(magnitude, count - 1)[count - 1]  # the largest magnitude that goes
    kept = magnitude >= threshold
    undecided = np.flatnonzero(magnitude == threshold)
    kept[undecided[: count - np.sum(~kept)]] = False
    return kept.reshape(weight.shape)


def require_sparsity(sparsity):
    """A fraction of weights from 0 to 1, or ConfigError."""
    if not 0 <= sparsity <= 1:
        raise ConfigError(f"sparsity is the fraction of weights removed, from 0 to 1, found {sparsity!r}")


def global_magnitude_masks(weights, sparsity):
    """One threshold for several weights together: {name: array} -> {name: mask}, or list of arrays -> list of masks.

    sparsity holds for all of them together; a layer of small weights loses more. Leave embeddings and norms out of
    `weights`: their scales are not comparable. Equal magnitudes: earlier arrays first.
    """
    if isinstance(weights, dict):
        return dict(zip(weights, global_magnitude_masks(list(weights.values()), sparsity), strict=True))
    weights = [np.asarray(weight) for weight in weights]
    kept = magnitude_mask(np.concatenate([weight.reshape(-1) for weight in weights] or [np.zeros(0)]), sparsity)
    ends = np.cumsum([weight.size for weight in weights])
    return [part.reshape(weight.shape) for part, weight in zip(np.split(kept, ends[:-1]), weights, strict=False)]
