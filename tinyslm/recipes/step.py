"""A step of a recipe: one technique with its settings, applied to a model."""

from typing import Protocol

from tinyslm.recipes.calibration import Calibration


def ignore_progress(text):
    """Progress callback without any output."""


class Step(Protocol):
    """A frozen dataclass whose fields are the settings of a technique.

    A call returns a new model and does not change the given one. calibration: documents and teacher, for steps that
    read them;  progress(text): called with a short description of the current work.
    """

    def __call__(self, model, calibration: Calibration | None = None, progress=ignore_progress):
        """Return the model after this step."""
