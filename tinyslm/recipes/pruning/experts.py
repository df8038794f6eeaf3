"""Structured pruning of mixtures of experts.

Mathematics: `tinyslm/compression/pruning/experts.py`. Lesson: `lessons/08_pruning_structure.py`.
"""

from dataclasses import dataclass, replace

from tinyslm.compression.pruning import expert_importance, most_important, slice_experts
from tinyslm.errors import ConfigError
from tinyslm.modules import Linear, MixtureOfExperts
from tinyslm.recipes.calibration import Calibration
from tinyslm.recipes.linear_layers import require_dense
from tinyslm.recipes.statistics import mean_routing_weights
from tinyslm.recipes.step import Progress, ignore_progress
from tinyslm.tree import Module, map_modules, named_modules


@dataclass(frozen=True)
class SliceExperts:
    """Remove the least important experts of each mixture.

    The number of experts per token stays the same, or becomes `count` if it was larger.

    Parameters
    ----------
    count : int
        Number of experts kept in each mixture, from 1 to E.
    importance : str
        Method of `expert_importance`. "routing" (default): mean routing weight on the calibration documents.
        "magnitude": from the weights, without documents.

    Raises
    ------
    ConfigError
        When the step is applied: if `count` or `importance` is invalid, if the model has no mixture of experts, or if a
        layer is already compressed.

    References
    ----------
    Muzio, Sun & He 2024 (SEER-MoE, arXiv 2404.05089).

    Examples
    --------
    >>> SliceExperts(count=4)
    SliceExperts(count=4, importance='routing')
    """

    count: int
    importance: str = "routing"

    def __call__(
        self, model: Module, calibration: Calibration | None = None, progress: Progress = ignore_progress
    ) -> Module:
        mixtures = named_modules(model, MixtureOfExperts)
        if not mixtures:
            raise ConfigError(f"a {model.config.family} model has no experts to slice")
        require_dense(model)
        used = mean_routing_weights(model, calibration.sample()) if self.importance == "routing" else {}
        per_token = min(self.count, model.config.experts_per_token)

        def slice_mixture(path, mixture):
            weights = [[linear.weight for linear in named_modules(each, Linear).values()] for each in mixture.experts]
            importance = expert_importance(weights, method=self.importance, mean_routing_weight=used.get(path))
            keep = most_important(importance, self.count)
            router, experts = slice_experts(mixture.router.weight, mixture.experts, keep)
            return mixture.replace(
                router=mixture.router.replace(weight=router), experts=experts, experts_per_token=per_token
            )

        sliced = map_modules(slice_mixture, model, MixtureOfExperts)
        config = replace(model.config, num_experts=self.count, experts_per_token=per_token)
        return sliced.replace(config=config)
