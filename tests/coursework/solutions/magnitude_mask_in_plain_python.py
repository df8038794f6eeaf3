"""Lists and a loop, no NumPy but for the result."""

import numpy as np


def magnitude_mask(weight, sparsity):
    weight = np.asarray(weight)
    ranked = sorted((abs(value), place) for place, value in enumerate(weight.flatten().tolist()))
    gone = {place for _, place in ranked[: round(float(sparsity) * weight.size)]}
    return np.array([place not in gone for place in range(weight.size)], bool).reshape(weight.shape)


def global_magnitude_masks(weights, sparsity):
    if hasattr(weights, "items"):
        return dict(zip(weights.keys(), global_magnitude_masks([*weights.values()], sparsity), strict=True))
    everything = [value for weight in weights for value in np.ravel(weight).tolist()]
    kept = iter(magnitude_mask(np.array(everything), sparsity).tolist())
    return [np.array([next(kept) for _ in range(np.size(w))], bool).reshape(np.shape(w)) for w in weights]
