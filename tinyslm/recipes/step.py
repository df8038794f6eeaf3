"""A step of a recipe: one technique with its settings, applied to a model."""

from collections.abc import Callable
from typing import Any, Protocol

import numpy as np

from tinyslm.recipes.calibration import Calibration, MissingCalibration
from tinyslm.tree import map_arrays, named_arrays

Progress = Callable[[str], Any]  # called with a text that says what is being done


def ignore_progress(text: str) -> None:
    """Progress callback without any output."""


class Step(Protocol):
    """A frozen dataclass whose fields are the settings of a technique.

    A call returns a new model and does not change the given one. calibration: documents and teacher, for steps that
    read them;  progress(text): called with a short description of the current work.

    A step with the class attribute `reads_mapped = True` accepts a model whose weights are mapped from its files. For
    other steps the weights must be in memory.
    """

    def __call__(self, model, calibration: Calibration | None = None, progress=ignore_progress):
        """Return the model after this step."""


def apply_step(step, model, calibration, progress, check):
    """The model after a step, in C order, checked. calibration can be None; check(model) raises for a refused model."""
    model = in_rows(step(model, calibration or MissingCalibration(type(step).__name__), progress))
    check(model)
    return model


def in_rows(model):
    """The model with all arrays in C order, as after saving and loading.

    A different memory layout can change the rounding of matrix products.
    """
    if all(array.flags.c_contiguous for array in named_arrays(model).values()):
        return model
    return map_arrays(lambda path, array: np.asarray(array, order="C"), model)
