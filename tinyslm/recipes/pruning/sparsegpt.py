"""SparseGPT pruning of a model (Frantar & Alistarh 2023).

Mathematics: `tinyslm/compression/pruning/sparsegpt.py`. Lesson: `lessons/07_pruning_weights.py`.
"""

from dataclasses import dataclass

import numpy as np

from tinyslm.compression.pruning import MaskedLinear, sparsegpt
from tinyslm.recipes.block_by_block import compress_block_by_block
from tinyslm.recipes.linear_layers import require_dense
from tinyslm.recipes.pruning.masked_layers import pattern_of
from tinyslm.recipes.statistics import input_grams
from tinyslm.recipes.step import ignore_progress


@dataclass(frozen=True)
class PruneSparseGPT:
    """Remove the fraction `sparsity` of the weights of every linear layer, and move the others to make up for it.

    pattern: such as "2:4", with sparsity 0.5. The blocks are pruned in their order, as by `PruneWanda`.
    Source: Frantar & Alistarh 2023, algorithm 1.
    """

    sparsity: float
    pattern: str = ""
    damping: float = 0.01

    def __call__(self, model, calibration=None, progress=ignore_progress):
        pattern = pattern_of(self)
        require_dense(model)

        def prune(linear, gram, tokens):
            hessian = gram if tokens else np.eye(linear.in_features)
            weight = sparsegpt(linear.weight, hessian, self.sparsity, pattern=pattern, damping=self.damping)
            return MaskedLinear.from_linear(linear.replace(weight=weight), weight != 0)

        def gather(current, paths):
            return input_grams(current, calibration.sample(), paths=paths)

        return compress_block_by_block(model, gather, prune, lambda block: progress(f"PruneSparseGPT, {block}"))
