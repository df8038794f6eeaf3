"""Wanda pruning of a model (Sun et al. 2024).

Mathematics: `tinyslm/compression/pruning/wanda.py`. Lesson: `lessons/07_pruning_weights.py`.
"""

from dataclasses import dataclass

import numpy as np

from tinyslm.checkpoints.mapped_layers import MappedLayer
from tinyslm.compression.pruning import MaskedLinear, n_m_mask, wanda_mask, wanda_scores
from tinyslm.recipes.block_by_block import compress_block_by_block
from tinyslm.recipes.calibration import Calibration
from tinyslm.recipes.linear_layers import require_dense
from tinyslm.recipes.pruning.masked_layers import pattern_of
from tinyslm.recipes.step import Progress, ignore_progress
from tinyslm.tree import Module


@dataclass(frozen=True)
class PruneWanda:
    """Remove the weights with the lowest Wanda scores (magnitude times input norm) from each output row.

    The blocks are pruned in order: the input norms of a block are measured with the pruned blocks before it. An expert
    that receives no calibration token is pruned by magnitude. Later training keeps the removed weights at 0.

    Parameters
    ----------
    sparsity : float
        Fraction of the weights removed from each row, from 0 to 1.
    pattern : str
        N:M pattern such as "2:4", with the sparsity of the pattern. Default "": no pattern.

    Raises
    ------
    ConfigError
        When applied: for an invalid setting, or if a layer is already compressed.
    DataError
        When applied: if m of the pattern does not divide the number of inputs of a layer.

    References
    ----------
    Sun et al. 2024, "A Simple and Effective Pruning Approach for Large Language Models" (arXiv 2306.11695), section 3
    and algorithm 1.

    Examples
    --------
    >>> PruneWanda(sparsity=0.5)
    PruneWanda(sparsity=0.5, pattern='')
    """

    reads_mapped = True  # see `Step`

    sparsity: float
    pattern: str = ""

    def __call__(
        self, model: Module, calibration: Calibration | None = None, progress: Progress = ignore_progress
    ) -> Module:
        pattern = pattern_of(self)
        require_dense(model, allowed=MappedLayer)

        def prune(linear, squares, tokens):
            norms = np.sqrt(squares) if tokens else np.ones(linear.in_features)
            if pattern:
                mask = n_m_mask(wanda_scores(linear.weight, norms), *pattern)
            else:
                mask = wanda_mask(linear.weight, norms, self.sparsity)
            return MaskedLinear.from_linear(linear, mask)

        def show(block):
            progress(f"PruneWanda, {block}")

        return compress_block_by_block(model, calibration.sample(), squared_norms, prune, show)


def squared_norms(rows):
    """Squared L2 norm of each input feature: (N, in) -> (in,), float64. Squares of documents are added."""
    return np.sum(np.square(rows, dtype=np.float64), axis=0)
