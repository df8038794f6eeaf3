"""A recipe: a list of steps, each of which takes a model and returns another."""

import time
from dataclasses import asdict, dataclass
from typing import Any

from tinyslm.evaluation import footprint


@dataclass(frozen=True)
class Recipe:
    """steps: callables (model, calibration, progress) -> model; dataclasses, so that they can be recorded."""

    name: str
    steps: tuple[Any, ...]
    description: str = ""

    @property
    def directory(self) -> str:
        """The name as a directory: "INT8 weights" becomes "int8-weights"."""
        letters = "".join(letter if letter.isalnum() else " " for letter in self.name.lower())
        return "-".join(letters.split())


def ignore_progress(text):
    """The progress callback that shows nothing."""


def compress(model, recipe, calibration, *, progress=ignore_progress):
    """Apply a recipe; returns (new model, record of each step). The model itself stays as it is.

    recipe: a `Recipe`, or a list of steps;  calibration: the `Calibration` with the documents to learn from;
    progress(text): told what is being done. A record holds the step's name and settings, its seconds, and the
    parameters, bits and multiply-adds per token after it.
    """
    records = []
    for step in getattr(recipe, "steps", recipe):
        began = time.perf_counter()
        progress(type(step).__name__)
        model = step(model, calibration, progress)
        size = footprint(model)
        records.append(
            {
                "step": type(step).__name__,
                "settings": asdict(step),
                "seconds": round(time.perf_counter() - began, 3),
                "parameters": size.parameters,
                "bits": size.bits,
                "multiply_adds": size.multiply_adds,
            }
        )
    return model, records
