"""How large a model is. Five different numbers, each counted from its arrays, none estimated from another."""

from dataclasses import dataclass

import numpy as np

from tinyslm.compression.pruning import MaskedLinear
from tinyslm.compression.quantization import QuantizedLinear
from tinyslm.modules import MixtureOfExperts
from tinyslm.tree import named_arrays, named_modules

NOT_PARAMETERS = ("mask", "scale", "zero_point")  # arrays that say how to read the parameters


@dataclass(frozen=True)
class Footprint:
    """parameters: numbers that the model computes with;  non_zeros: those of them that are not 0;
    bits: what storing them takes, with scales, zero points and masks;  bytes: what the arrays take in memory;
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
    arrays = {id(array): (path, array) for path, array in named_arrays(model).items()}
    parameters = [(p, a) for p, a in arrays.values() if p.rsplit(".", 1)[-1] not in NOT_PARAMETERS]
    masked = named_modules(model, MaskedLinear)
    quantized = named_modules(model, QuantizedLinear)

    def non_zeros(path, array):
        layer, _, name = path.rpartition(".")
        if layer in quantized and name == "codes":
            return np.count_nonzero(quantized[layer].dense_weight())
        return np.count_nonzero(array)

    def bits(path, array):
        layer, _, name = path.rpartition(".")
        if layer in masked and name == "weight":  # only what the mask keeps is stored
            return np.count_nonzero(masked[layer].mask) * array.itemsize * 8
        return array.size if array.dtype == bool else array.nbytes * 8

    return Footprint(
        parameters=sum(array.size for _, array in parameters),
        non_zeros=int(sum(non_zeros(path, array) for path, array in parameters)),
        bits=int(sum(bits(path, array) for path, array in arrays.values())),
        bytes=sum(array.nbytes for _, array in arrays.values()),
        multiply_adds=multiply_adds(model),
    )


def multiply_adds(model) -> int:
    """Multiplications by weights for one token: of every linear layer it passes, and of the head."""
    layers = {path: module for path, module in named_modules(model).items() if hasattr(module, "multiply_adds")}
    total = sum(layer.multiply_adds() for layer in layers.values())
    for path, mixture in named_modules(model, MixtureOfExperts).items():
        below = f"{path}.experts."
        experts = sum(layer.multiply_adds() for name, layer in layers.items() if name.startswith(below))
        total -= experts * (len(mixture.experts) - mixture.experts_per_token) // len(mixture.experts)
    if model.head is None:  # tied: the embedding's table is the head's weight
        total += model.embedding.table.size
    return total
