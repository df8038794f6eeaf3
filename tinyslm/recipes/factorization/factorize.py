"""The step `Factorize`: low-rank factors in place of the weight matrices of a model.

Mathematics: `tinyslm/compression/factorization`. Lesson: `lessons/10_low_rank.py`.
"""

from dataclasses import dataclass

from tinyslm.compression.argument_checks import require_choice, require_ratio
from tinyslm.recipes.calibration import Calibration
from tinyslm.recipes.factorization.components import model_components, with_ranks
from tinyslm.recipes.factorization.rank_allocation import RANKS, losses_alone, searched_ranks
from tinyslm.recipes.linear_layers import require_dense
from tinyslm.recipes.step import Progress, ignore_progress
from tinyslm.tree import Module


@dataclass(frozen=True)
class Factorize:
    """Replace the linear layers in the blocks by low-rank factors with the fraction `ratio` of their parameters.

    A layer stays dense if two factors would not be smaller.

    Parameters
    ----------
    ratio : float
        Fraction of parameters kept, above 0 and up to 1.
    weighting : str
        Norm of the error: "none" (SVD), "fisher" (FWSVD), "activation" (ASVD) or "whitened" (SVD-LLM).
    ranks : str
        How layers share the parameters: "uniform", the same ratio in every layer; "energy", the same fraction of the
        squared singular values; "greedy", the components with the largest gain per parameter, each layer's error
        relative to its norm; "search", by the loss with one layer factorized at a time. Except for "uniform", the
        ratio holds for all layers together.
    documents : int, optional
        Number of calibration documents for statistics, by default the calibration's `statistics_documents`.

    Raises
    ------
    ConfigError
        When called: for a setting out of range, a budget below rank 1 in every layer, or a model that is already
        compressed.

    Examples
    --------
    >>> from tinyslm.models import random_model
    >>> from tinyslm.models.tiny_shapes import llama_shape
    >>> model = random_model(llama_shape(50, 16, 32, 1, 2, 2, 20))
    >>> Factorize(ratio=0.5)(model).layers[0].feed_forward.down.rank
    5
    """

    ratio: float
    weighting: str = "none"
    ranks: str = "uniform"
    documents: int | None = None

    def __call__(
        self, model: Module, calibration: Calibration | None = None, progress: Progress = ignore_progress
    ) -> Module:
        require_choice("ranks", self.ranks, (*RANKS, "search"))
        require_ratio(self.ratio)
        require_dense(model)
        components = model_components(model, calibration, self.weighting, self.documents)
        if self.ranks == "search":
            losses = losses_alone(model, calibration, components, progress)
            ranks = searched_ranks(components, self.ratio, losses)
        else:
            ranks = RANKS[self.ranks](components, self.ratio)
        return with_ranks(model, components, ranks)
