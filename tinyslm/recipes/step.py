"""A step of a recipe: one technique with its settings, applied to a model."""

from typing import Protocol

from tinyslm.recipes.calibration import Calibration


def ignore_progress(text):
    """Progress callback that shows nothing."""


class Step(Protocol):
    """A frozen dataclass whose fields are the settings of a technique.

    Calling it returns a new model; the model itself stays as it is. calibration: documents and teacher, for techniques
    that read them;  progress(text): called with what is being done.
    """

    def __call__(self, model, calibration: Calibration | None = None, progress=ignore_progress):
        """The model after this step."""
