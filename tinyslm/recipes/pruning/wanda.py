"""Wanda pruning of a model (Sun et al. 2024).

Mathematics: `tinyslm/compression/pruning/wanda.py`. Lesson: `lessons/07_pruning_weights.py`.
"""

from dataclasses import dataclass

import numpy as np

from tinyslm.compression.pruning import MaskedLinear, n_m_mask, wanda_mask, wanda_scores
from tinyslm.recipes.block_by_block import compress_block_by_block
from tinyslm.recipes.linear_layers import require_dense
from tinyslm.recipes.pruning.masked_layers import pattern_of
from tinyslm.recipes.statistics import input_statistics
from tinyslm.recipes.step import ignore_progress


@dataclass(frozen=True)
class PruneWanda:
    """Remove the fraction `sparsity` of the weights of every output row, those whose weight times input is smallest.

    pattern: such as "2:4", with sparsity 0.5. The blocks are pruned in their order: the inputs of a block are those
    that it gets from the pruned blocks before it. Source: Sun et al. 2024, section 3 and algorithm 1.
    """

    sparsity: float
    pattern: str = ""

    def __call__(self, model, calibration=None, progress=ignore_progress):
        pattern = pattern_of(self)
        require_dense(model)

        def squares(rows):
            return np.sum(np.square(rows, dtype=np.float64), axis=0)  # (in,)

        def prune(linear, squared_norms, tokens):
            norms = np.sqrt(squared_norms) if tokens else np.ones(linear.in_features)
            if pattern:
                mask = n_m_mask(wanda_scores(linear.weight, norms), *pattern)
            else:
                mask = wanda_mask(linear.weight, norms, self.sparsity)
            return MaskedLinear.from_linear(linear, mask)

        def gather(current, paths):
            return input_statistics(current, calibration.sample(), squares, paths=paths)

        return compress_block_by_block(model, gather, prune, lambda block: progress(f"PruneWanda, {block}"))
