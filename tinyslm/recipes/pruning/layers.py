"""Depth pruning: removal of whole layers.

Mathematics: `tinyslm/compression/pruning/layers.py`. Lesson: `lessons/08_pruning_structure.py`.
"""

from dataclasses import dataclass

import numpy as np

from tinyslm.compression.argument_checks import require_choice, require_integer
from tinyslm.compression.pruning import layer_importance, most_important
from tinyslm.models import layer_stacks
from tinyslm.modules import PostNormBlock, SelectiveObserver
from tinyslm.parallel import map_in_threads
from tinyslm.recipes.calibration import Calibration
from tinyslm.recipes.distillation.student import KeepLayers, first_layer_differs
from tinyslm.recipes.linear_layers import require_dense
from tinyslm.recipes.pruning.importance import LAYER_METHODS, unit_importance
from tinyslm.recipes.step import Progress, ignore_progress
from tinyslm.tree import Module, named_arrays

SUBLAYER_OUTPUTS = ("attention.output", "cross_attention.output", "feed_forward.output")  # added to the residual stream


@dataclass(frozen=True)
class DropLayers:
    """Remove the least important layers. `KeepLayers` instead keeps the layers with the given indices.

    Layer 0 of a ModernBERT, which alone has no attention norm, is always kept.

    Parameters
    ----------
    count : int
        Number of layers to remove, from 0 to L - 1; of an encoder-decoder, from each stack.
    importance : str
        Method, default "influence" (angular change of the hidden state, `layer_importance`): "influence", "magnitude",
        "taylor_vector", "taylor_element", "taylor_second" or "random" (see `tinyslm.recipes.pruning.importance`).

    Raises
    ------
    ConfigError
        When applied: for an invalid count or method, or if a layer is already compressed (methods other than
        "influence").

    References
    ----------
    Men et al. 2024, "ShortGPT" (arXiv 2403.03853).

    Examples
    --------
    >>> DropLayers(count=1)
    DropLayers(count=1, importance='influence')
    """

    count: int
    importance: str = "influence"

    def __call__(
        self, model: Module, calibration: Calibration | None = None, progress: Progress = ignore_progress
    ) -> Module:
        require_choice("importance", self.importance, LAYER_METHODS)
        if self.importance != "influence":
            require_dense(model)
        scores = layer_scores(model, calibration, self.importance)
        for each in scores.values():
            require_integer("count of layers to drop", self.count, 0, each.size - 1)
        for path, stack in layer_stacks(model).items():
            if first_layer_differs(stack):
                scores[path] = np.concatenate([[scores[path].max() + 1], scores[path][1:]])
        kept = [tuple(most_important(each, each.size - self.count).tolist()) for each in scores.values()]
        return KeepLayers(*kept)(model)


def layer_scores(model, calibration, method) -> dict:
    """{path of a stack: (L,) importance of its layers}."""
    if method == "influence":
        return influences(model, calibration.sample())
    stacks = {
        path: {f"{path}.layers.{i}".lstrip("."): block for i, block in enumerate(stack.layers)}
        for path, stack in layer_stacks(model).items()
    }
    blocks = {path: block for layers in stacks.values() for path, block in layers.items()}
    found = unit_importance(model, calibration, method, blocks, layer_parts)
    return {path: np.concatenate([found[layer] for layer in layers]) for path, layers in stacks.items()}


def layer_parts(block):
    """All arrays of a layer with a first axis of length 1, (1, ...): the layer is one unit."""
    return [array[None] for array in named_arrays(block).values()]


def influences(model, tasks) -> dict:
    """{path of a stack: (L,) `layer_importance` over all tokens of all tasks}."""

    stacks = {f"{path}." if path else "": stack.layers for path, stack in layer_stacks(model).items()}
    names = {name for prefix, layers in stacks.items() for name in state_names(prefix, layers)}

    def of_task(task):
        observed = {}
        model.hidden_states(**task.inputs, observe=SelectiveObserver(names, observed.__setitem__))
        found = {}
        for prefix, layers in stacks.items():
            states = layer_states(observed, prefix, layers)
            found[prefix.rstrip(".")] = layer_importance(states), len(states[0])
        return found

    def mean(each):
        values, tokens = zip(*each, strict=True)
        return np.average(values, axis=0, weights=tokens)

    found = map_in_threads(of_task, tasks)
    return {path: mean(each[path] for each in found) for path in layer_stacks(model)}


def state_names(prefix, layers) -> set:
    """Names of the intermediates that `layer_states` reads."""
    last = len(layers) - 1
    states = {f"{prefix}hidden_states.{i}" for i in range(last + 2)}
    return states | {f"{prefix}layers.{last}.{sublayer}" for sublayer in SUBLAYER_OUTPUTS}


def layer_states(observed, prefix, layers) -> list:
    """L + 1 hidden states (N, C): the input of each layer, and the output of the last layer before the final norm.

    observed: {name: value} of a forward pass;  prefix: path of the stack with a dot, or "".
    """
    states = [observed[f"{prefix}hidden_states.{i}"] for i in range(len(layers))]
    last = len(layers) - 1
    if isinstance(layers[last], PostNormBlock):  # its output is normalized, and there is no final norm
        states.append(observed[f"{prefix}hidden_states.{last + 1}"])
    else:
        names = [f"{prefix}layers.{last}.{sublayer}" for sublayer in SUBLAYER_OUTPUTS]
        states.append(sum((observed[name] for name in names if name in observed), states[last]))
    return [state.reshape(-1, state.shape[-1]) for state in states]
