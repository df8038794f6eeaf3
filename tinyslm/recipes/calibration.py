"""What a technique may look at: documents, and statistics of the model on them."""

from dataclasses import dataclass

import numpy as np

from tinyslm import ops
from tinyslm.autodiff import value_and_grad, value_of
from tinyslm.errors import ConfigError, DataError
from tinyslm.modules import Linear, MixtureOfExperts
from tinyslm.parallel import default_threads, map_in_threads
from tinyslm.recipes.tasks import Task, task_loss, task_of
from tinyslm.text.batches import document_rows, pad_documents, split_long
from tinyslm.tree import Module, map_modules, named_modules, named_parameters

LONGEST_ROW = 256  # tokens: memory and time of a step grow with it


@dataclass(frozen=True)
class Calibration:
    """documents: token ids of training text;  teacher: the model before compression, which recovery learns from;
    seed: for the order of the documents. The first `statistics_documents` serve for statistics, all for training.
    mask_token_id: what hides a token, where the model is an encoder."""

    documents: list[np.ndarray]
    teacher: object
    seed: int = 0
    statistics_documents: int = 64
    mask_token_id: int | None = None

    @property
    def row_length(self) -> int:
        """The longest row: the teacher's context, or LONGEST_ROW where that is less."""
        return min(self.teacher.config.max_position_embeddings or LONGEST_ROW, LONGEST_ROW)

    def rows(self):
        """token_ids and labels (N, T) of all documents, one document per row, longer ones cut."""
        return document_rows(self.documents, self.row_length)

    def sample(self) -> list[Task]:
        """The documents for statistics as tasks, longer ones cut; one at a time they need no padding."""
        pieces = [piece for piece in split_long(self.documents, self.row_length) if len(piece) > 1]
        if not pieces:
            raise DataError("calibration needs at least one document of two tokens")
        return [self.task(*pad_documents([piece])) for piece in pieces[: self.statistics_documents]]

    def task(self, token_ids, labels) -> Task:
        """What the teacher, and every model made from it, predicts on these rows."""
        return task_of(self.teacher, token_ids, labels, self.mask_token_id)


class RecordingLinear(Module):
    """A Linear that shows what passes through it: `record(path, inputs)` is called with every input."""

    linear: Linear
    path: str
    record: object

    def __call__(self, x):
        self.record(self.path, value_of(x))
        return self.linear(x)


def mean_input_magnitudes(model, tasks) -> dict:
    """{path of a Linear in the blocks: mean |input| per input feature (in,)} over all tokens that reached it."""

    def statistics_of(task):
        seen = {}

        def record(path, x):
            rows = x.reshape(-1, x.shape[-1])  # (N, in)
            total, count = seen.get(path, (0.0, 0))
            seen[path] = total + np.sum(np.abs(rows), axis=0, dtype=np.float64), count + len(rows)

        watched = map_modules(lambda path, linear: RecordingLinear(linear, path, record), model, Linear)
        watched.states(**task.inputs)
        return seen

    each = map_in_threads(statistics_of, tasks)
    means = {}
    for path in each[0]:
        totals, counts = zip(*(seen[path] for seen in each), strict=True)
        means[path] = sum(totals) / max(sum(counts), 1)  # an expert that no token reached has 0
    return means


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

        model.states(**task.inputs, observe=observe)
        return found

    each = map_in_threads(weights_of, tasks)
    return {path: np.mean(np.concatenate([weights[path] for weights in each]), axis=0) for path in mixtures}


def fisher_information(model, tasks) -> dict:
    """{path of a parameter: mean over tasks of the squared gradient of the task's loss}.

    The diagonal of the empirical Fisher information (Hsu et al. 2022, section 3), every document with the same weight:
    gradients are squared one document at a time, since the square of their mean would be near 0 for a trained model.
    """

    differentiate = value_and_grad(task_loss)
    threads = default_threads()

    def sum_of_squares(shard):
        total = None
        for task in shard:
            gradients = named_parameters(differentiate(model, task)[1])
            squares = {path: np.square(gradient) for path, gradient in gradients.items()}
            total = squares if total is None else {path: total[path] + square for path, square in squares.items()}
        return total

    shards = [tasks[i::threads] for i in range(min(threads, len(tasks)))]
    sums = map_in_threads(sum_of_squares, shards, threads)
    return {path: sum(total[path] for total in sums) / len(tasks) for path in sums[0]}


def is_compressible(path) -> bool:
    """The linear layers inside the blocks, without the router of a mixture: its few weights decide everything."""
    return "layers" in path.split(".") and not path.endswith(".router")


def require_dense(model):
    """ConfigError if a linear layer in the blocks was replaced already: the next step would pass it by."""
    for path, layer in named_modules(model).items():
        if is_compressible(path) and hasattr(layer, "dense_weight") and not isinstance(layer, Linear):
            raise ConfigError(
                f"{path} is a {type(layer).__name__} already: put this step before the one that made it, "
                "FoldMasks between them, or load the model with weights='float32'"
            )
