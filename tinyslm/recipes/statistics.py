"""Statistics of a model on calibration documents: what enters its linear layers, and what its loss feels.

Every statistic is a sum over documents (or a maximum), in shards that do not depend on the number of threads: the same
documents give the same bits on every machine with the same arithmetic.
"""

from typing import Any

import numpy as np

from tinyslm import ops
from tinyslm.autodiff import value_and_grad, value_of
from tinyslm.errors import DataError
from tinyslm.modules import LinearLayer, MixtureOfExperts
from tinyslm.parallel import map_in_threads
from tinyslm.recipes.linear_layers import is_compressible
from tinyslm.recipes.tasks import task_loss
from tinyslm.tree import Module, map_modules, named_modules, named_parameters

SHARDS = 4  # of the documents; what each adds up is in memory at the same time


class RecordingLinear(Module):
    """A linear layer that shows what passes through it: `record(path, rows)` is called with its inputs (N, in)."""

    linear: Any
    path: str
    record: object

    def __call__(self, x):
        self.record(self.path, value_of(x).reshape(-1, x.shape[-1]))
        return self.linear(x)

    @property
    def out_features(self) -> int:
        return self.linear.out_features

    @property
    def in_features(self) -> int:
        return self.linear.in_features


def input_statistics(model, tasks, statistic, *, combine=np.add, paths=None) -> dict:
    """{path of a linear layer: (statistic of all its inputs, how many tokens reached it)}.

    statistic(rows (N, in)) -> array;  combine(array, array) puts those of two documents together. Of a mixture, each
    expert sees only the tokens that were sent to it: N may be 0.  paths: of the layers to watch, by default all that
    `is_compressible` names, compressed ones too.
    """

    def watch(path, layer, record):
        watched = is_compressible(path) if paths is None else path in paths
        return RecordingLinear(layer, path, record) if watched else layer

    def statistics_of(shard):
        seen = {}

        def record(path, rows):
            value, tokens = statistic(rows), len(rows)
            if path in seen:
                value, tokens = combine(seen[path][0], value), seen[path][1] + tokens
            seen[path] = value, tokens

        watched = map_modules(lambda path, layer: watch(path, layer, record), model, LinearLayer)
        for task in shard:
            watched.hidden_states(**task.inputs)
        return seen

    first, *others = map_in_threads(statistics_of, _shards(tasks))
    for other in others:
        first = {path: (combine(value, other[path][0]), n + other[path][1]) for path, (value, n) in first.items()}
    return first


def _shards(tasks):
    if not tasks:
        raise DataError("statistics need at least one document")
    return [tasks[i::SHARDS] for i in range(min(SHARDS, len(tasks)))]


def mean_input_magnitudes(model, tasks, paths=None) -> dict:
    """{path of a linear layer: mean |input| per input feature (in,)}; 0 for an expert that no token reached."""
    found = input_statistics(model, tasks, lambda rows: np.sum(np.abs(rows), axis=0, dtype=np.float64), paths=paths)
    return {path: total / max(tokens, 1) for path, (total, tokens) in found.items()}


def input_maxima(model, tasks, paths=None) -> dict:
    """{path of a linear layer: the largest |input| of each input feature (in,)}."""
    found = input_statistics(
        model, tasks, lambda rows: np.max(np.abs(rows), axis=0, initial=0), combine=np.maximum, paths=paths
    )
    return {path: largest for path, (largest, _) in found.items()}


def input_grams(model, tasks, paths=None) -> dict:
    """{path of a linear layer: (X^T X (in, in) in float64, tokens)}, where X (N, in) are all its inputs.

    Its diagonal holds the squared feature norms |X_j|^2; twice it is the Hessian of the layer's squared output error.
    """

    def gram(rows):
        rows = rows.astype(np.float64)
        return rows.T @ rows

    return input_statistics(model, tasks, gram, paths=paths)


def mean_routing_weights(model, tasks) -> dict:
    """{path of a MixtureOfExperts: (E,) mean weight that its router gives each expert, 0 where it is not chosen}."""
    mixtures = named_modules(model, MixtureOfExperts)

    def weights_of(task):
        found = {}

        def observe(name, value):
            path, _, last = name.rpartition(".")
            if last == "router_logits":
                chosen = ops.choose_experts(value, mixtures[path].experts_per_token)  # (N, k)
                weights = np.zeros(value.shape)  # (N, E)
                np.put_along_axis(weights, chosen, ops.routing_weights(value, chosen=chosen), axis=-1)
                found[path] = weights

        model.hidden_states(**task.inputs, observe=observe)
        return found

    each = map_in_threads(weights_of, tasks)
    return {path: np.mean(np.concatenate([weights[path] for weights in each]), axis=0) for path in mixtures}


def gradient_statistics(model, tasks, statistic) -> dict:
    """{path of a parameter: the mean over tasks of statistic(path, gradient of the task's loss)}."""
    differentiate = value_and_grad(task_loss)

    def sum_of_shard(shard):
        total = {}
        for task in shard:
            for path, gradient in named_parameters(differentiate(model, task)[1]).items():
                value = statistic(path, gradient)
                total[path] = total[path] + value if path in total else value
        return total

    sums = map_in_threads(sum_of_shard, _shards(tasks))
    return {path: sum(total[path] for total in sums) / len(tasks) for path in sums[0]}


def mean_gradients(model, tasks) -> dict:
    """{path of a parameter: mean over tasks of the gradient of the task's loss}."""
    return gradient_statistics(model, tasks, lambda path, gradient: gradient)


def fisher_information(model, tasks) -> dict:
    """{path of a parameter: mean over tasks of the squared gradient of the task's loss}.

    The diagonal of the empirical Fisher information (Hsu et al. 2022, section 2), every document with the same weight:
    gradients are squared one document at a time, since the square of their mean would be near 0 for a trained model.
    """
    return gradient_statistics(model, tasks, lambda path, gradient: np.square(gradient))
