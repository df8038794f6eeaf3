"""Pruning applied to a model: masks on its linear layers, or smaller feed-forward layers."""

from dataclasses import dataclass, replace

from tinyslm.compression.pruning import (
    MaskedLinear,
    global_magnitude_masks,
    kept_neurons,
    magnitude_mask,
    neuron_importance,
    slice_neurons,
)
from tinyslm.errors import ConfigError
from tinyslm.modules import FeedForward, Linear
from tinyslm.recipes.calibration import is_compressible, mean_input_magnitudes, require_dense
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
            up, down, gate = slice_neurons(layer.up, layer.down, layer.gate, kept_neurons(importance, count))
            return layer.replace(up=up, down=down, gate=gate)

        sliced = map_modules(slice_layer, model, FeedForward)
        return sliced.replace(config=replace(model.config, intermediate_size=count))
