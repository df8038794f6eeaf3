"""Structured pruning of feed-forward neurons.

Mathematics: `tinyslm/compression/pruning/neurons.py`. Lesson: `lessons/08_pruning_structure.py`.
"""

from dataclasses import dataclass, replace

from tinyslm.compression.argument_checks import require_choice
from tinyslm.compression.pruning import most_important, neuron_importance, refit_down, slice_neurons
from tinyslm.compression.pruning.importance import TAYLOR
from tinyslm.modules import FeedForward
from tinyslm.recipes.block_by_block import grams_by_block
from tinyslm.recipes.calibration import Calibration
from tinyslm.recipes.linear_layers import require_dense
from tinyslm.recipes.pruning.importance import NEURON_METHODS, count_to_keep, minitron_inputs, unit_importance
from tinyslm.recipes.statistics import mean_input_magnitudes
from tinyslm.recipes.step import Progress, ignore_progress
from tinyslm.tree import Module, map_modules, named_modules


@dataclass(frozen=True)
class SliceNeurons:
    """Remove the least important neurons of each feed-forward layer. The arrays and `intermediate_size` become smaller.

    Each expert of a mixture is a feed-forward layer.

    Parameters
    ----------
    ratio : float
        Fraction of the neurons kept in each layer, above 0 and up to 1; at least one neuron is kept.
    importance : str
        Method, default "activation": "peak_to_peak", "activation", "minitron", "magnitude", "taylor_vector",
        "taylor_element", "taylor_second" or "random" (see `tinyslm.recipes.pruning.importance`). All but
        "peak_to_peak", "magnitude" and "random" use the calibration documents.
    refit : bool
        Whether least squares chooses the kept columns of the down projection, for the smallest output error
        (`refit_down`). Default False: the columns do not change.

    Raises
    ------
    ConfigError
        When applied: for an invalid ratio or method, or if a layer is already compressed.

    References
    ----------
    Muralidharan et al. 2024 (Minitron, arXiv 2407.14679), and the sources of `neuron_importance`.

    Examples
    --------
    >>> SliceNeurons(ratio=0.75)
    SliceNeurons(ratio=0.75, importance='activation', refit=False)
    """

    ratio: float
    importance: str = "activation"
    refit: bool = False

    def __call__(
        self, model: Module, calibration: Calibration | None = None, progress: Progress = ignore_progress
    ) -> Module:
        names = ("intermediate_size", "expert_intermediate_size")
        sizes = {name: size for name in names if (size := getattr(model.config, name, None)) is not None}
        kept = {name: count_to_keep(self.ratio, size, "neurons") for name, size in sizes.items()}
        require_choice("importance", self.importance, NEURON_METHODS)
        require_dense(model)
        importance = neuron_scores(model, calibration, self.importance)
        layers = named_modules(model, FeedForward)
        keep = {
            path: most_important(scores, count_to_keep(self.ratio, scores.size, "neurons"))
            for path, scores in importance.items()
        }
        refitted = {}  # {path of the layer `down`: its refitted weight}
        if self.refit:
            for grams in grams_by_block(model, calibration.sample(), [f"{path}.down" for path in layers]):
                for down, gram in grams.items():
                    path = down.removesuffix(".down")
                    refitted[down] = refit_down(layers[path].down.weight, gram, keep[path])

        def slice_layer(path, layer):
            up, down, gate = slice_neurons(layer.up, layer.down, layer.gate, keep[path])
            down = down.replace(weight=refitted.get(f"{path}.down", down.weight))
            return layer.replace(up=up, down=down, gate=gate)

        sliced = map_modules(slice_layer, model, FeedForward)
        return sliced.replace(config=replace(model.config, **kept))


def neuron_scores(model, calibration, method) -> dict:
    """{path of a feed-forward layer: (F,) importance of its neurons}."""
    layers = named_modules(model, FeedForward)
    if method in TAYLOR or method == "random":
        return unit_importance(model, calibration, method, layers, neuron_parts)
    downs = {path: f"{path}.down" for path in layers}
    if method == "minitron":
        return minitron_inputs(model, calibration, downs)
    magnitudes = {}
    if method == "activation":
        magnitudes = mean_input_magnitudes(model, calibration.sample(), downs.values())
    return {
        path: neuron_importance(
            layer.up.weight,
            layer.down.weight,
            layer.gate and layer.gate.weight,
            method=method,
            mean_activation=magnitudes.get(downs[path]),
        )
        for path, layer in layers.items()
    }


def neuron_parts(layer):
    """The coupled arrays of the neurons of a feed-forward layer (weights and biases), neurons first."""
    readers = [layer.up] if layer.gate is None else [layer.gate, layer.up]
    biases = [reader.bias for reader in readers if reader.bias is not None]
    return [reader.weight for reader in readers] + biases + [layer.down.weight.T]
