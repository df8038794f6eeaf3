"""Pruning applied to a model: masks on its linear layers, smaller feed-forward layers, or fewer experts."""

from dataclasses import dataclass, replace

from tinyslm.compression.pruning import (
    MaskedLinear,
    expert_importance,
    global_magnitude_masks,
    magnitude_mask,
    most_important,
    neuron_importance,
    slice_experts,
    slice_neurons,
)
from tinyslm.errors import ConfigError
from tinyslm.modules import FeedForward, Linear, MixtureOfExperts
from tinyslm.recipes.calibration import is_compressible, require_dense
from tinyslm.recipes.statistics import mean_input_magnitudes, mean_routing_weights
from tinyslm.tree import map_modules, named_modules


@dataclass(frozen=True)
class PruneMagnitude:
    """Remove the fraction `sparsity` of the smallest weights, in each linear layer or by one threshold for all.

    Embeddings, head and norms are left alone. The masks hold through later training.
    """

    sparsity: float
    scope: str = "layer"  # or "global"

    def __call__(self, model, calibration, progress=None):
        if self.scope not in ("layer", "global"):
            raise ConfigError(f"scope is {self.scope!r}, expected 'layer' or 'global'")
        require_dense(model)
        linears = {path: linear for path, linear in named_modules(model, Linear).items() if is_compressible(path)}
        weights = {path: linear.weight for path, linear in linears.items()}
        if self.scope == "global":
            masks = global_magnitude_masks(weights, self.sparsity)
        else:
            masks = {path: magnitude_mask(weight, self.sparsity) for path, weight in weights.items()}

        def mask(path, linear):
            return MaskedLinear.from_linear(linear, masks[path]) if path in masks else linear

        return map_modules(mask, model, Linear)


@dataclass(frozen=True)
class FoldMasks:
    """Turn masked layers into dense ones with zeros, when training is over and the masks have done their work."""

    def __call__(self, model, calibration=None, progress=None):
        return map_modules(lambda path, masked: masked.to_linear(), model, MaskedLinear)


@dataclass(frozen=True)
class SliceNeurons:
    """Keep the fraction `ratio` of the neurons of every feed-forward layer; the arrays really become smaller.

    importance: a method of `neuron_importance`; "activation" looks at the calibration documents.
    """

    ratio: float
    importance: str = "activation"

    def __call__(self, model, calibration, progress=None):
        if not 0 < self.ratio <= 1:
            raise ConfigError(f"ratio is the fraction of neurons kept, above 0 and up to 1, found {self.ratio}")
        require_dense(model)
        count = max(1, round(self.ratio * model.config.intermediate_size))
        magnitudes = {}
        if self.importance == "activation":
            magnitudes = mean_input_magnitudes(model, calibration.sample())

        def slice_layer(path, layer):
            importance = neuron_importance(
                layer.up.weight,
                layer.down.weight,
                layer.gate and layer.gate.weight,
                method=self.importance,
                mean_activation=magnitudes.get(f"{path}.down"),
            )
            up, down, gate = slice_neurons(layer.up, layer.down, layer.gate, most_important(importance, count))
            return layer.replace(up=up, down=down, gate=gate)

        sliced = map_modules(slice_layer, model, FeedForward)
        return sliced.replace(config=replace(model.config, intermediate_size=count))


@dataclass(frozen=True)
class SliceExperts:
    """Keep `count` experts of every mixture. A token still goes to as many experts as before, if there are so many.

    importance: a method of `expert_importance`; "routing" looks at the calibration documents.
    """

    count: int
    importance: str = "routing"

    def __call__(self, model, calibration, progress=None):
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
