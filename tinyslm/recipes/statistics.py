"""Statistics of a model on calibration documents: inputs of its linear layers, routing weights, gradients of its loss.

Every statistic is a sum over documents (or a maximum). The documents are divided into shards independently of the
number of threads: the same documents give the same bits on every machine with the same arithmetic.
"""

import numpy as np

from tinyslm import ops
from tinyslm.autodiff import value_and_grad
from tinyslm.errors import DataError
from tinyslm.modules import LinearLayer, MixtureOfExperts, SelectiveObserver
from tinyslm.parallel import map_in_threads
from tinyslm.recipes.linear_layers import is_compressible
from tinyslm.recipes.tasks import task_loss
from tinyslm.tree import named_modules, named_parameters

ROWS = 1024  # of inputs for which a statistic is computed together
SHARDS = 4  # of the documents; the sums of all shards are in memory at the same time
OBSERVED_INPUTS = {"output": "mixed", "down": "neurons"}  # all other linear layers of a block read "input" or "source"


def observed_input(path) -> str:
    """Name under which the forward pass observes the input of the linear layer at `path`, a layer inside a block."""
    module, _, layer = path.rpartition(".")
    if module.endswith("cross_attention") and layer in ("key", "value"):
        return f"{module}.source"
    return f"{module}.{OBSERVED_INPUTS.get(layer, 'input')}"


def input_statistics(model, tasks, statistic, *, combine=np.add, paths=None, rows_together=ROWS) -> dict:
    """{path of a linear layer: (statistic of all its inputs, number of its input tokens)}.

    statistic(rows (N, in)) -> array;  combine(array, array) merges the statistics of two groups of rows. An expert of a
    mixture receives only the tokens that are routed to it: N may be 0.  paths: of the layers, by default all that
    `is_compressible` names, compressed ones too.
    rows_together: the inputs of short documents are put together until there are so many; 1 means each document alone,
    for a statistic that is not a sum over tokens.
    Each distinct input is evaluated once: layers with the same input (query, key and value) get the same array.
    """
    if paths is None:
        paths = filter(is_compressible, named_modules(model, LinearLayer))

    def run(task, observe):
        model.hidden_states(**task.inputs, observe=observe)

    return sum_over_documents(tasks, run, statistic, paths, combine, rows_together)


def sum_over_documents(documents, run, statistic, paths, combine=np.add, rows_together=ROWS) -> dict:
    """`input_statistics` of the layers at `paths`, where run(document, observe) computes one document."""
    inputs = {path: observed_input(path) for path in paths}
    names = set(inputs.values())

    def statistics_of(shard):
        totals = {name: RunningStatistic(statistic, combine, rows_together) for name in names}
        for document in shard:
            run(document, SelectiveObserver(names, lambda name, value: totals[name].add(value)))
        for total in totals.values():
            total.finish()
        return totals

    totals, *others = map_in_threads(statistics_of, _shards(documents))
    for other in others:
        for name in names:
            totals[name].merge(other.pop(name))
    return {path: (totals[name].total, totals[name].tokens) for path, name in inputs.items()}


class RunningStatistic:
    """Statistic of all inputs of a layer, computed for `rows_together` of them or more at a time.

    Adding a product X^T X to the total takes longer than computing it from a few rows.
    """

    def __init__(self, statistic, combine, rows_together):
        self.statistic, self.combine, self.rows_together = statistic, combine, rows_together
        self.total, self.tokens = None, 0
        self.waiting = []  # arrays of rows (n, in), fewer than rows_together

    def add(self, inputs):
        """Add inputs (..., in)."""
        rows = inputs.reshape(-1, inputs.shape[-1])  # (n, in)
        self.tokens += len(rows)
        if len(rows) >= self.rows_together:
            self._combine(self.statistic(rows))
            return
        self.waiting.append(rows.copy())
        if sum(map(len, self.waiting)) >= self.rows_together:
            self.finish()

    def finish(self):
        """Add the rows that are waiting to the total."""
        if self.waiting:
            rows, self.waiting = np.concatenate(self.waiting), []
            self._combine(self.statistic(rows))

    def merge(self, other):
        """Add the total of other documents."""
        self.tokens += other.tokens
        self._combine(other.total)

    def _combine(self, value):
        self.total = value if self.total is None else self.combine(self.total, value)


def _shards(documents):
    if not documents:
        raise DataError("statistics need at least one document")
    return [documents[i::SHARDS] for i in range(min(SHARDS, len(documents)))]


def mean_input_magnitudes(model, tasks, paths=None) -> dict:
    """{path of a linear layer: mean |input| per input feature (in,)}; 0 for an expert without tokens."""
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

    The diagonal of X^T X contains the squared feature norms |X_j|^2. 2 X^T X is the Hessian of the layer's squared
    output error.
    """

    return input_statistics(model, tasks, gram_float64, paths=paths)


def gram(rows):
    """X^T X of the rows X: (N, in) -> (in, in), in the dtype of X.

    float32 takes half the memory and half the time of float64. With damping, as in GPTQ and SparseGPT, it is as good:
    for GPTQ at 4 bits with damping 0.01, on SmolLM2-135M and 13,568 tokens, at most 0.08 % of the codes of a layer
    differ, and its squared output error is between 0.04 % smaller and 0.02 % larger. A factorization without damping
    needs float64.
    """
    return rows.T @ rows


def gram_float64(rows):
    """X^T X of the rows X: (N, in) -> (in, in), float64."""
    return gram(rows.astype(np.float64))


def mean_routing_weights(model, tasks) -> dict:
    """{path of a MixtureOfExperts: (E,) mean weight that its router gives each expert, 0 where it is not chosen}."""
    mixtures = {f"{path}.router_logits": (path, each) for path, each in named_modules(model, MixtureOfExperts).items()}

    def weights_of(task):
        found = {}

        def receive(name, logits):
            path, mixture = mixtures[name]
            chosen = ops.choose_experts(logits, mixture.experts_per_token)  # (N, k)
            found[path] = np.zeros(logits.shape)  # (N, E)
            np.put_along_axis(found[path], chosen, mixture.weights(logits, chosen), axis=-1)

        model.hidden_states(**task.inputs, observe=SelectiveObserver(mixtures, receive))
        return found

    each = map_in_threads(weights_of, tasks)
    return {path: np.mean(np.concatenate([found[path] for found in each]), axis=0) for path, _ in mixtures.values()}


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

    The diagonal of the empirical Fisher information (Hsu et al. 2022, section 2), with equal weight for every document.
    Gradients are squared before the mean over documents: the square of the mean gradient is near 0 for a trained model.
    """
    return gradient_statistics(model, tasks, lambda path, gradient: np.square(gradient))
