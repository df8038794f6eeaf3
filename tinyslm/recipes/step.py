"""A step of a recipe: one technique with its settings, applied to a model."""

from collections.abc import Callable
from typing import Any, Protocol

from tinyslm.recipes.calibration import Calibration

Progress = Callable[[str], Any]  # called with a text that says what is being done


def ignore_progress(text: str) -> None:
    """Progress callback without any output."""


class Step(Protocol):
    """A frozen dataclass whose fields are the settings of a technique.

    A call returns a new model and does not change the given one. calibration: documents and teacher, for steps that
    read them;  progress(text): called with a short description of the current work.
    """

    def __call__(self, model, calibration: Calibration | None = None, progress=ignore_progress):
        """Return the model after this step."""
