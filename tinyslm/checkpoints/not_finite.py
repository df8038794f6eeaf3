"""The first array of a model that holds nan or infinity, as text for an error message."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import numpy as np

from tinyslm.checkpoints.mapped_layers import MappedLayer
from tinyslm.checkpoints.writing import checkpoint_tensors
from tinyslm.errors import DataError, Error, NumericOverflow
from tinyslm.tree import Module, named_arrays, named_modules

MOST_TOKENS = 512  # of a row that are read again: attention probabilities need memory quadratic in their number


def describe_not_finite(model: Module, token_ids: Any = None, **inputs: Any) -> str:
    """One line that names the first tensor with nan or infinity, or the first such output of a layer for these tokens.

    For a model that returned nan or infinity: it reads every weight, and may compute a forward pass.
    token_ids, inputs: as of the model, or None if they are unknown.
    """
    tensor = _first_tensor(model)
    if tensor is not None:
        return _describe_tensor(tensor)
    output = None if token_ids is None else _first_output(model, token_ids, **inputs)
    where = "the logits of the model hold" if output is None else f"the output {output} of the model holds"
    return f"{where} nan or infinity for this text, but its weights are finite: numbers are too large for their dtype"


@contextmanager
def overflow_names_tensor(model: Module) -> Iterator[None]:
    """Context manager: a NumericOverflow of a model with nan or infinity in a tensor is a DataError that names it."""
    try:
        yield
    except NumericOverflow:
        tensor = _first_tensor(model)
        if tensor is None:
            raise
        raise DataError(_describe_tensor(tensor)) from None


def _describe_tensor(tensor):
    return f"the tensor {tensor} holds nan or infinity, so the model cannot be used; use an undamaged checkpoint"


def _first_tensor(model):
    """The name of the first tensor that is not finite, or None. Without a name in a file, it is its path."""
    for path, module in named_modules(model, MappedLayer).items():
        if not all(np.isfinite(tile).all() for _, tile in module.tiles()):
            return f"{path}.{module.matrix}"
    try:
        tensors = checkpoint_tensors(model)
    except Error:  # mapped weights, or a model of no family
        tensors = named_arrays(model)
    return next((name for name, array in tensors.items() if not _is_finite(array)), None)


def _first_output(model, token_ids, **inputs):
    """The name of the first intermediate array that is not finite, as `tinyslm.trace` computes them, or None."""
    found = []

    def observe(name, value):
        if not found and not _is_finite(value):
            found.append(name)

    shortened = {name: np.asarray(value)[:, :MOST_TOKENS] for name, value in inputs.items() if value is not None}
    with suppress(NumericOverflow):  # after the output
        model(np.asarray(token_ids)[:, :MOST_TOKENS], observe=observe, **shortened)
    return found[0] if found else None


def _is_finite(array):
    return array.dtype.kind not in "fc" or bool(np.isfinite(array).all())
