"""Structured pruning of feed-forward neurons.

Mathematics: `tinyslm/compression/pruning/neurons.py`. Lesson: `lessons/08_pruning_structure.py`.
"""

from dataclasses import dataclass, replace

from tinyslm.compression.argument_checks import require_ratio
from tinyslm.compression.pruning import most_important, neuron_importance, refit_down, slice_neurons
from tinyslm.compression.pruning.importance import TAYLOR
from tinyslm.modules import FeedForward
from tinyslm.recipes.linear_layers import require_dense
from tinyslm.recipes.pruning.importance import (
    FOR_ALL_UNITS,
    gather_statistics,
    minitron_inputs,
    require_method,
)
from tinyslm.recipes.statistics import input_grams, mean_input_magnitudes
from tinyslm.recipes.step import ignore_progress
from tinyslm.tree import map_modules, named_modules

NEURON_METHODS = ("peak_to_peak", "activation", "minitron", *FOR_ALL_UNITS)


@dataclass(frozen=True)
class SliceNeurons:
    """Keep the fraction `ratio` of the neurons of every feed-forward layer; the arrays really become smaller.

    importance: a method of `neuron_importance`, "minitron", "taylor_vector", "taylor_element", "taylor_second" or
    "random"; all but "magnitude", "peak_to_peak" and "random" look at the calibration documents.
    refit: choose the columns of down that are left anew, for the smallest error of the layer's outputs.
    """

    ratio: float
    importance: str = "activation"
    refit: bool = False

    def __call__(self, model, calibration=None, progress=ignore_progress):
        require_ratio(self.ratio, "neurons")
        require_method(self.importance, NEURON_METHODS)
        require_dense(model)
        count = max(1, round(self.ratio * model.config.intermediate_size))
        importance = neuron_scores(model, calibration, self.importance)
        downs = {f"{path}.down" for path in importance}
        grams = input_grams(model, calibration.sample(), paths=downs) if self.refit else {}

        def slice_layer(path, layer):
            keep = most_important(importance[path], count)
            up, down, gate = slice_neurons(layer.up, layer.down, layer.gate, keep)
            if self.refit:
                gram, _ = grams[f"{path}.down"]
                down = down.replace(weight=refit_down(layer.down.weight, gram, keep))
            return layer.replace(up=up, down=down, gate=gate)

        sliced = map_modules(slice_layer, model, FeedForward)
        return sliced.replace(config=replace(model.config, intermediate_size=count))


def neuron_scores(model, calibration, method) -> dict:
    """{path of a feed-forward layer: (F,) importance of its neurons}."""
    layers = named_modules(model, FeedForward)
    downs = {path: f"{path}.down" for path in layers}
    if method == "minitron":
        squares = minitron_inputs(model, calibration, downs.values())
        return {path: squares[down] for path, down in downs.items()}
    if method in TAYLOR or method == "random":
        evidence = gather_statistics(model, calibration, method)
        return {path: evidence.importance(path, layer, neuron_parts) for path, layer in layers.items()}
    magnitudes = {}
    if method == "activation":
        magnitudes = mean_input_magnitudes(model, calibration.sample(), set(downs.values()))
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
    """The arrays of a feed-forward layer that neurons share, biases among them, neurons first."""
    readers = [layer.up] if layer.gate is None else [layer.gate, layer.up]
    biases = [reader.bias for reader in readers if reader.bias is not None]
    return [reader.weight for reader in readers] + biases + [layer.down.weight.T]
