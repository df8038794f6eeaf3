"""Magnitude pruning of a model.

Mathematics: `tinyslm/compression/pruning/magnitude.py`. Lesson: `lessons/07_pruning_weights.py`.
"""

from dataclasses import dataclass

import numpy as np

from tinyslm.compression.pruning import global_magnitude_masks, magnitude_mask, n_m_mask
from tinyslm.errors import ConfigError
from tinyslm.recipes.linear_layers import compressible_layers, require_dense
from tinyslm.recipes.pruning.masked_layers import pattern_of, with_masks
from tinyslm.recipes.step import ignore_progress


@dataclass(frozen=True)
class PruneMagnitude:
    """Remove the fraction `sparsity` of the smallest weights, in each linear layer or by one threshold for all.

    pattern: such as "2:4", which keeps 2 of every 4 weights of a row and belongs to sparsity 0.5.
    Embeddings, head and norms are left alone. The masks hold through later training.
    """

    sparsity: float
    scope: str = "layer"  # or "global"
    pattern: str = ""

    def __call__(self, model, calibration=None, progress=ignore_progress):
        require_scope(self.scope)
        pattern = pattern_of(self)
        if pattern and self.scope == "global":
            raise ConfigError(f"a pattern {self.pattern} has the same sparsity everywhere: scope must be 'layer'")
        require_dense(model)
        if pattern:
            weights = {path: layer.dense_weight() for path, layer in compressible_layers(model).items()}
            return with_masks(model, {path: n_m_mask(np.abs(weight), *pattern) for path, weight in weights.items()})
        return with_masks(model, magnitude_masks(model, self.sparsity, self.scope))


def require_scope(scope):
    """ "layer" or "global", or ConfigError."""
    if scope not in ("layer", "global"):
        raise ConfigError(f"scope is {scope!r}, expected 'layer' or 'global'")


def magnitude_masks(model, sparsity, scope) -> dict:
    """{path: mask} by magnitude, in each layer or by one threshold for all. What was removed goes first: it is 0."""
    weights = {path: layer.dense_weight() for path, layer in compressible_layers(model).items()}
    if scope == "global":
        return global_magnitude_masks(weights, sparsity)
    return {path: magnitude_mask(weight, sparsity) for path, weight in weights.items()}
