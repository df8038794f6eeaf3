"""How large a model is. Five different numbers, each counted from its arrays, none estimated from another."""

from dataclasses import dataclass

import numpy as np

from tinyslm.evaluation.parameters import count_parameters, other_arrays, replaced_layers
from tinyslm.modules import MixtureOfExperts
from tinyslm.tree import named_modules


@dataclass(frozen=True)
class Footprint:
    """parameters: numbers that the model computes with;  non_zeros: those of them that are not 0;
    bits: what storing them takes, with scales, zero points and masks;  bytes: what the arrays take in memory, which is
    nothing for those that stay in their file (`load` with weights="mapped"), though they are parameters and stored;
    multiply_adds: multiplications (each with an addition) by weights for one token. The products of queries with keys
    and of probabilities with values, which grow with the context, are not among them.
    """

    parameters: int
    non_zeros: int
    bits: int
    bytes: int
    multiply_adds: int


def footprint(model) -> Footprint:
    """The footprint of a model as it is. An array that occurs twice counts once."""
    others, layers = other_arrays(model).values(), replaced_layers(model).values()
    stored = sum(array.nbytes for array in others)
    return Footprint(
        parameters=count_parameters(model),
        non_zeros=int(sum(map(np.count_nonzero, others)) + sum(layer.num_non_zeros() for layer in layers)),
        bits=int(stored * 8 + sum(layer.num_bits() for layer in layers)),
        bytes=stored + sum(layer.num_bytes() for layer in layers),
        multiply_adds=multiply_adds(model),
    )


def multiply_adds(model) -> int:
    """Multiplications by weights for one token: of every linear layer it passes, and of the head.

    An encoder's pooler is not among them: it reads one state of a whole text, when it is asked. Of an encoder-decoder
    it is one token read and one written.
    """
    layers = {path: module for path, module in named_modules(model).items() if hasattr(module, "multiply_adds")}
    layers.pop("pooler", None)
    total = sum(layer.multiply_adds() for layer in layers.values())
    for path, mixture in named_modules(model, MixtureOfExperts).items():
        below = f"{path}.experts."
        experts = sum(layer.multiply_adds() for name, layer in layers.items() if name.startswith(below))
        total -= experts * (len(mixture.experts) - mixture.experts_per_token) // len(mixture.experts)
    if model.tied_head:  # the embedding's table is the head's weight
        total += model.config.vocab_size * model.config.hidden_size
    return total
