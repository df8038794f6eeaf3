"""Recipe: a named list of compression steps, and the function `compress` that applies them to a model."""

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, is_dataclass
from typing import Any

from tinyslm.checkpoints.json_files import shown
from tinyslm.errors import ConfigError
from tinyslm.evaluation.footprint import footprint
from tinyslm.recipes.calibration import Calibration
from tinyslm.recipes.rehearsal import needs_rehearsal, rehearse
from tinyslm.recipes.step import Step, apply_step, ignore_progress
from tinyslm.tree import Module


@dataclass(frozen=True)
class Recipe:
    """Named list of compression steps.

    Parameters
    ----------
    name : str
    steps : tuple of Step
        Each is a dataclass, so that its settings can be recorded.
    description : str
        One sentence for reports.

    Examples
    --------
    >>> from tinyslm.recipes import Quantize
    >>> Recipe("INT8 weights", (Quantize(),)).directory
    'int8-weights'
    """

    name: str
    steps: tuple[Step, ...]
    description: str = ""

    @property
    def directory(self) -> str:
        """The name as a directory: "INT8 weights" becomes "int8-weights"."""
        letters = "".join(letter if letter.isalnum() else " " for letter in self.name.lower())
        return "-".join(letters.split())


def steps_of(recipe: Recipe | Step | Sequence[Step]) -> list[Any]:
    """The steps of a recipe. Raises ConfigError for anything that is not a step."""
    steps = recipe.steps if isinstance(recipe, Recipe) else [recipe] if is_dataclass(recipe) else recipe
    for step in steps:
        if isinstance(step, type) or not (is_dataclass(step) and callable(step)):
            raise ConfigError(f"recipe: {shown(step)} is not a step; expected an object such as Quantize(bits=8)")
    return list(steps)


def accept_any(model: Module) -> None:
    """A check that accepts every model."""


def compress(
    model: Module,
    recipe: Recipe | Step | Sequence[Step],
    calibration: Calibration | None = None,
    *,
    progress: Callable[[str], None] = ignore_progress,
    check: Callable[[Module], None] = accept_any,
) -> tuple[Module, list[dict]]:
    """Apply the steps of a recipe to a model, which itself is not changed.

    Several steps, or training, are first tried on some layers of the model with one training step each. So a step that
    cannot be applied after the others is refused before the long work begins (see `recipes/rehearsal.py`).

    Parameters
    ----------
    model : Decoder, Encoder or EncoderDecoder
    recipe : Recipe, Step or sequence of Step
    calibration : Calibration, optional
        Documents and teacher. Steps that read neither, such as `Quantize`, need none.
    progress : callable
        Called with a short description of the current work.
    check : callable
        Called with the model before the first step and after each step, on the layers of the trial too. What it raises
        ends the recipe there. For example, `checkpoints.check_savable` refuses a model that cannot be saved.

    Returns
    -------
    model
        The compressed model.
    records : list of dict
        For each step: its name and settings, its seconds, and the parameters, bits and multiply-adds per token of the
        model after it.

    Raises
    ------
    ConfigError
        If a step cannot be applied to the model, or needs a calibration and there is none.

    Examples
    --------
    Rounding to 8-bit integers needs no text:

    >>> from tinyslm.models import random_model
    >>> from tinyslm.models.tiny_shapes import llama_shape
    >>> from tinyslm.recipes import Calibration, Distill, Quantize, SliceNeurons
    >>> teacher = random_model(
    ...     llama_shape(
    ...         vocab_size=50,
    ...         hidden_size=16,
    ...         intermediate_size=48,
    ...         num_hidden_layers=1,
    ...         num_attention_heads=2,
    ...         num_key_value_heads=2,
    ...         max_position_embeddings=20,
    ...     )
    ... )
    >>> small, records = compress(teacher, [Quantize(bits=8)])
    >>> small(np.array([[1, 2, 3]])).shape  # logits
    (1, 3, 50)

    With text, a third of the feed-forward neurons is removed, the model is trained on its teacher's outputs, and its
    weights are rounded to 8-bit integers:

    >>> documents = [np.arange(1, 9), np.arange(11, 18)]  # token ids of training text
    >>> calibration = Calibration(documents, teacher)
    >>> small, records = compress(teacher, [SliceNeurons(2 / 3), Distill(steps=2), Quantize()], calibration)
    >>> small.layers[0].feed_forward.down.in_features
    32
    >>> [record["step"] for record in records]
    ['SliceNeurons', 'Distill', 'Quantize']
    >>> bool(records[-1]["bits"] < records[0]["bits"] / 2)
    True
    """
    steps, records = steps_of(recipe), []
    check(model)
    if needs_rehearsal(steps):
        progress("checking the steps")
        rehearse(model, steps, calibration, check)
    for step in steps:
        began = time.perf_counter()
        progress(type(step).__name__)
        model = apply_step(step, model, calibration, progress, check)
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
