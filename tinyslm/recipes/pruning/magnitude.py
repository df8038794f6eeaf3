"""Magnitude pruning of a model.

Mathematics: `tinyslm/compression/pruning/magnitude.py`. Lesson: `lessons/07_pruning_weights.py`.
"""

from dataclasses import dataclass

import numpy as np

from tinyslm.compression.argument_checks import require_choice
from tinyslm.compression.pruning import global_magnitude_masks, magnitude_mask, n_m_mask
from tinyslm.errors import ConfigError
from tinyslm.recipes.calibration import Calibration
from tinyslm.recipes.linear_layers import compressible_layers, naming_layer, require_dense
from tinyslm.recipes.pruning.masked_layers import pattern_of, with_masks
from tinyslm.recipes.step import Progress, ignore_progress
from tinyslm.tree import Module

SCOPES = ("layer", "global")


@dataclass(frozen=True)
class PruneMagnitude:
    """Remove the weights of smallest magnitude from the linear layers of the blocks.

    Embeddings, head and norms do not change. Later training keeps the removed weights at 0.

    Parameters
    ----------
    sparsity : float
        Fraction of the weights removed, from 0 to 1.
    scope : str
        "layer" (default): this fraction is removed from each layer. "global": one threshold for all layers together.
    pattern : str
        N:M pattern such as "2:4" (keep 2 of every 4 weights of a row), only with scope "layer" and the sparsity of the
        pattern. Default "": no pattern.

    Raises
    ------
    ConfigError
        When applied: for an invalid setting, or if a layer is already compressed.
    DataError
        When applied: if m of the pattern does not divide the number of inputs of a layer.

    References
    ----------
    Han et al. 2015, section 3; See, Luong & Manning 2016 (global threshold); Mishra et al. 2021 (2:4).

    Examples
    --------
    >>> PruneMagnitude(sparsity=0.5, pattern="2:4")
    PruneMagnitude(sparsity=0.5, scope='layer', pattern='2:4')
    """

    sparsity: float
    scope: str = "layer"
    pattern: str = ""

    def __call__(
        self, model: Module, calibration: Calibration | None = None, progress: Progress = ignore_progress
    ) -> Module:
        require_choice("scope", self.scope, SCOPES)
        pattern = pattern_of(self)
        if pattern and self.scope == "global":
            raise ConfigError(f"a pattern {self.pattern} has the same sparsity everywhere: scope must be 'layer'")
        require_dense(model)
        return with_masks(model, magnitude_masks(model, self.sparsity, self.scope, pattern))


def magnitude_masks(model, sparsity, scope="layer", pattern=None):
    """{path: mask} by magnitude, per layer, with a global threshold, or per group of a pattern (n, m).

    Weights removed earlier are 0, so they are removed first.
    """
    weights = {path: layer.dense_weight() for path, layer in compressible_layers(model).items()}
    if scope == "global":
        return global_magnitude_masks(weights, sparsity)
    masks = {}
    for path, weight in weights.items():
        with naming_layer(path):
            masks[path] = n_m_mask(np.abs(weight), *pattern) if pattern else magnitude_mask(weight, sparsity)
    return masks
