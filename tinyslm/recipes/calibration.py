"""What a technique may look at: documents, and the model before compression."""

from dataclasses import dataclass

import numpy as np

from tinyslm.errors import DataError
from tinyslm.ops import IGNORED
from tinyslm.recipes.tasks import Task, task_of
from tinyslm.text.batches import document_rows, pad_documents, split_long

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

    def count_targets(self, token_ids, labels) -> int:
        """How many tokens of these rows are predicted."""
        return np.count_nonzero(self.task(token_ids, labels).targets != IGNORED)
