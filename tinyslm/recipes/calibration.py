"""What a technique may look at: documents, and statistics of the model on them."""

from dataclasses import dataclass

import numpy as np

from tinyslm.autodiff import value_and_grad, value_of
from tinyslm.errors import ConfigError, DataError
from tinyslm.models import next_token_loss
from tinyslm.modules import Linear
from tinyslm.parallel import default_threads, map_in_threads
from tinyslm.text.batches import document_rows, split_long
from tinyslm.tree import Module, map_modules, named_modules, named_parameters

LONGEST_ROW = 256  # tokens: memory and time of a step grow with it


@dataclass(frozen=True)
class Calibration:
    """documents: token ids of training text;  teacher: the model before compression, which recovery learns from;
    seed: for the order of the documents. The first `statistics_documents` serve for statistics, all for training."""

    documents: list[np.ndarray]
    teacher: object
    seed: int = 0
    statistics_documents: int = 64

    @property
    def row_length(self) -> int:
        """The longest row: the teacher's context, or LONGEST_ROW where that is less."""
        return min(self.teacher.config.max_position_embeddings, LONGEST_ROW)

    def rows(self):
        """token_ids and labels (N, T) of all documents, one document per row, longer ones cut."""
        return document_rows(self.documents, self.row_length)

    def sample(self) -> list[np.ndarray]:
        """The documents for statistics, longer ones cut; one at a time they need no padding."""
        pieces = [piece for piece in split_long(self.documents, self.row_length) if len(piece) > 1]
        if not pieces:
            raise DataError("calibration needs at least one document of two tokens")
        return pieces[: self.statistics_documents]


class RecordingLinear(Module):
    """A Linear that shows what passes through it: `record(path, inputs)` is called with every input."""

    linear: Linear
    path: str
    record: object

    def __call__(self, x):
        self.record(self.path, value_of(x))
        return self.linear(x)


def mean_input_magnitudes(model, documents) -> dict:
    """{path of a Linear: mean |input| per input feature (in,)} over all tokens of the documents."""

    def statistics_of(document):
        sums = {}

        def record(path, x):
            sums[path] = np.sum(np.abs(x.reshape(-1, x.shape[-1])), axis=0, dtype=np.float64)  # (in,)

        watched = map_modules(lambda path, linear: RecordingLinear(linear, path, record), model, Linear)
        watched(document[None])
        return sums

    each = map_in_threads(statistics_of, documents)
    tokens = sum(map(len, documents))
    return {path: sum(sums[path] for sums in each) / tokens for path in each[0]}


def fisher_information(model, documents) -> dict:
    """{path of a parameter: mean over documents of the squared gradient of the document's loss}.

    The diagonal of the empirical Fisher information (Hsu et al. 2022, section 3), every document with the same weight:
    gradients are squared one document at a time, since the square of their mean would be near 0 for a trained model.
    """

    differentiate = value_and_grad(next_token_loss)
    threads = default_threads()

    def sum_of_squares(shard):
        total = None
        for document in shard:
            gradients = named_parameters(differentiate(model, document[None])[1])
            squares = {path: np.square(gradient) for path, gradient in gradients.items()}
            total = squares if total is None else {path: total[path] + square for path, square in squares.items()}
        return total

    shards = [documents[i::threads] for i in range(min(threads, len(documents)))]
    sums = map_in_threads(sum_of_squares, shards, threads)
    return {path: sum(total[path] for total in sums) / len(documents) for path in sums[0]}


def is_compressible(path) -> bool:
    """The linear layers inside the blocks, without the router of a mixture: its few weights decide everything."""
    return path.startswith("layers.") and not path.endswith(".router")


def require_dense(model):
    """ConfigError if a linear layer in the blocks was replaced already: the next step would pass it by."""
    for path, layer in named_modules(model).items():
        if path.startswith("layers.") and hasattr(layer, "dense_weight") and not isinstance(layer, Linear):
            raise ConfigError(
                f"{path} is a {type(layer).__name__} already: put this step before the one that made it, "
                "or FoldMasks between them"
            )
