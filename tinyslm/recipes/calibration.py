"""Calibration: the documents and the teacher that compression steps read."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from tinyslm.errors import ConfigError, DataError
from tinyslm.ops import IGNORED
from tinyslm.recipes.tasks import Task, task_of
from tinyslm.text.batches import document_rows, pad_documents, split_long
from tinyslm.tree import Module

LONGEST_ROW = 256  # tokens; longer documents are cut


@dataclass(frozen=True)
class Calibration:
    """Documents and teacher for compression steps.

    Parameters
    ----------
    documents : list of ndarray of int, shape (T,)
        Token ids of training text, one array per document.
    teacher : model
        The model before compression.
    seed : int
        Of the order of the documents, and of all other random choices of steps.
    statistics_documents : int
        Number of first documents that statistics are computed on. Training uses all documents.
    mask_token_id : int, optional
        The mask token, required for encoders.

    Examples
    --------
    >>> from tinyslm.models import random_model
    >>> from tinyslm.models.tiny_shapes import llama_shape
    >>> calibration = Calibration([np.arange(9), np.arange(5)], random_model(llama_shape(50, 16, 32, 1, 2, 2, 20)))
    >>> [task.inputs["token_ids"].shape for task in calibration.sample()]
    [(1, 9), (1, 5)]
    """

    documents: list[np.ndarray]
    teacher: Module
    seed: int = 0
    statistics_documents: int = 64
    mask_token_id: int | None = None

    @property
    def row_length(self) -> int:
        """Number of tokens of the longest row: the teacher's context, at most LONGEST_ROW."""
        return min(self.teacher.config.max_position_embeddings or LONGEST_ROW, LONGEST_ROW)

    def rows(self) -> tuple[np.ndarray, np.ndarray]:
        """Rows token_ids and labels (N, T) of all documents, one document per row, longer documents cut."""
        return document_rows(self.documents, self.row_length)

    def sample(self) -> list[Task]:
        """The documents for statistics as tasks, one document each, without padding; longer ones cut."""
        pieces = [piece for piece in split_long(self.documents, self.row_length) if len(piece) > 1]
        if not pieces:
            raise DataError("calibration needs at least one document of two tokens")
        return [self.task(*pad_documents([piece])) for piece in pieces[: self.statistics_documents]]

    def task(self, token_ids: ArrayLike, labels: ArrayLike) -> Task:
        """The task of the teacher, and of every model made from it, on these rows."""
        return task_of(self.teacher, token_ids, labels, self.mask_token_id)

    def count_targets(self, token_ids: ArrayLike, labels: ArrayLike) -> int:
        """Number of predicted tokens of these rows."""
        return int(np.count_nonzero(self.task(token_ids, labels).targets != IGNORED))


class MissingCalibration(Calibration):
    """In place of a calibration that is None: reading documents or teacher raises ConfigError naming the step."""

    def __init__(self, step: str):
        object.__setattr__(self, "step", step)

    def __getattr__(self, name):
        calibration = "Calibration(documents, teacher)"
        raise ConfigError(f"{self.step} needs calibration documents: compress(model, recipe, {calibration})")
