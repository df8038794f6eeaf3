"""A recipe: a list of steps, each of which takes a model and returns another."""

import time
from dataclasses import asdict, dataclass

import numpy as np

from tinyslm.evaluation import footprint
from tinyslm.recipes.step import Step, ignore_progress
from tinyslm.tree import map_arrays, named_arrays


@dataclass(frozen=True)
class Recipe:
    """steps: callables (model, calibration, progress) -> model; dataclasses, so that they can be recorded."""

    name: str
    steps: tuple[Step, ...]
    description: str = ""

    @property
    def directory(self) -> str:
        """The name as a directory: "INT8 weights" becomes "int8-weights"."""
        letters = "".join(letter if letter.isalnum() else " " for letter in self.name.lower())
        return "-".join(letters.split())


def in_rows(model):
    """The model with every array row by row in memory, as it will be when it was saved and loaded: a product of arrays
    that lie in memory in another way can round differently."""
    if all(array.flags.c_contiguous for array in named_arrays(model).values()):
        return model
    return map_arrays(lambda path, array: np.asarray(array, order="C"), model)


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
        model = in_rows(step(model, calibration, progress))
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
