"""SparseGPT pruning of a model (Frantar & Alistarh 2023).

Mathematics: `tinyslm/compression/pruning/sparsegpt.py`. Lesson: `lessons/07_pruning_weights.py`.
"""

from dataclasses import dataclass

import numpy as np

from tinyslm.checkpoints.mapped_layers import MappedLayer
from tinyslm.compression.pruning import MaskedLinear, sparsegpt
from tinyslm.recipes.block_by_block import compress_block_by_block
from tinyslm.recipes.calibration import Calibration
from tinyslm.recipes.linear_layers import require_dense
from tinyslm.recipes.pruning.masked_layers import pattern_of
from tinyslm.recipes.statistics import gram
from tinyslm.recipes.step import Progress, ignore_progress
from tinyslm.tree import Module


@dataclass(frozen=True)
class PruneSparseGPT:
    """Remove weights of each linear layer by SparseGPT; the kept weights change to compensate.

    The blocks are pruned in order, as in `PruneWanda`. An expert that receives no calibration token is pruned by
    magnitude. Later training keeps the removed weights at 0.

    Parameters
    ----------
    sparsity : float
        Fraction of the weights removed from each layer, from 0 to 1.
    pattern : str
        N:M pattern such as "2:4", with the sparsity of the pattern. Default "": no pattern.
    damping : float
        Fraction of the mean diagonal that is added to the diagonal of the Hessian, at least 0, default 0.01.

    Raises
    ------
    ConfigError
        When applied: for an invalid setting, or if a layer is already compressed.
    DataError
        When applied: if the damped Hessian is not positive definite, or m of the pattern does not divide the number of
        inputs of a layer.

    References
    ----------
    Frantar & Alistarh 2023, "SparseGPT" (arXiv 2301.00774), algorithm 1.

    Examples
    --------
    >>> PruneSparseGPT(sparsity=0.5)
    PruneSparseGPT(sparsity=0.5, pattern='', damping=0.01)
    """

    reads_mapped = True  # see `Step`

    sparsity: float
    pattern: str = ""
    damping: float = 0.01

    def __call__(
        self, model: Module, calibration: Calibration | None = None, progress: Progress = ignore_progress
    ) -> Module:
        pattern = pattern_of(self)
        require_dense(model, allowed=MappedLayer)

        def prune(linear, products, tokens):
            hessian = products if tokens else np.eye(linear.in_features)
            weight = sparsegpt(linear.weight, hessian, self.sparsity, pattern=pattern, damping=self.damping)
            return MaskedLinear.from_linear(linear.replace(weight=weight), weight != 0)

        def show(block):
            progress(f"PruneSparseGPT, {block}")

        return compress_block_by_block(model, calibration.sample(), gram, prune, show)
