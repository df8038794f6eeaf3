"""Depth pruning applied to a model: whole layers go, those that change the least."""

from dataclasses import dataclass

import numpy as np

from tinyslm.compression.argument_checks import require_integer
from tinyslm.compression.pruning import layer_importance, most_important
from tinyslm.models import layer_stacks
from tinyslm.modules import Block
from tinyslm.parallel import map_in_threads
from tinyslm.recipes.distillation.student import KeepLayers
from tinyslm.recipes.linear_layers import require_dense
from tinyslm.recipes.pruning.importance import FOR_ALL_UNITS, gather_statistics, require_method
from tinyslm.recipes.step import ignore_progress
from tinyslm.tree import named_arrays

LAYER_METHODS = ("influence", *FOR_ALL_UNITS)
BRANCHES = ("attention.output", "cross_attention.output", "feed_forward.output")  # what a block adds


@dataclass(frozen=True)
class DropLayers:
    """Drop the `count` least important layers; of an encoder-decoder so many of each stack.

    importance: "influence", how much a layer turns the residual stream (`layer_importance`), "magnitude",
    "taylor_vector", "taylor_element", "taylor_second" or "random". `KeepLayers` keeps those that one names.
    """

    count: int
    importance: str = "influence"

    def __call__(self, model, calibration=None, progress=ignore_progress):
        require_method(self.importance, LAYER_METHODS)
        if self.importance != "influence":
            require_dense(model)
        scores = layer_scores(model, calibration, self.importance)
        for each in scores.values():
            require_integer("count of layers to drop", self.count, 0, each.size - 1)
        kept = [tuple(most_important(each, each.size - self.count).tolist()) for each in scores.values()]
        return KeepLayers(*kept)(model)


def layer_scores(model, calibration, method) -> dict:
    """{path of a stack: (L,) importance of its layers}."""
    if method == "influence":
        return influences(model, calibration.sample())
    evidence = gather_statistics(model, calibration, method)

    def score(path, block):
        return evidence.importance(path, block, layer_parts)[0]

    return {
        path: np.array([score(f"{path}.layers.{i}".lstrip("."), block) for i, block in enumerate(stack.layers)])
        for path, stack in layer_stacks(model).items()
    }


def layer_parts(block):
    """The arrays of a layer, as those of one unit."""
    return [array[None] for array in named_arrays(block).values()]  # (1, ...)


def influences(model, tasks) -> dict:
    """{path of a stack: (L,) `layer_importance` over all tokens of all tasks}."""

    def of_task(task):
        seen = {}
        model.hidden_states(**task.inputs, observe=seen.__setitem__)
        found = {}
        for path, stack in layer_stacks(model).items():
            states = layer_states(seen, f"{path}." if path else "", stack.layers)
            found[path] = layer_importance(states), len(states[0])
        return found

    each = map_in_threads(of_task, tasks)
    means = {}
    for path in layer_stacks(model):
        values, tokens = zip(*(found[path] for found in each), strict=True)
        means[path] = np.average(values, axis=0, weights=tokens)
    return means


def layer_states(seen, below, layers) -> list:
    """What enters every layer, and what the last one leaves before the final norm: L + 1 times (N, C).

    seen: {name: value} that a pass showed;  below: the path of the stack with a dot.
    """
    states = [seen[f"{below}hidden_states.{i}"] for i in range(len(layers))]
    last = len(layers) - 1
    if isinstance(layers[last], Block):
        added = [seen[name] for branch in BRANCHES if (name := f"{below}layers.{last}.{branch}") in seen]
        states.append(sum(added, states[last]))
    else:  # normalized already, as all layers of this kind leave it
        states.append(seen[f"{below}hidden_states.{last + 1}"])
    return [state.reshape(-1, state.shape[-1]) for state in states]
