"""How large a model is. Five different numbers, each counted from its arrays, none estimated from another."""

from dataclasses import dataclass

import numpy as np

from tinyslm.checkpoints.mapped import MappedEmbedding, MappedLinear
from tinyslm.checkpoints.widening import widened_tiles
from tinyslm.compression.pruning import MaskedLinear
from tinyslm.compression.quantization import QuantizedLinear
from tinyslm.evaluation.parameters import count_parameters, parameter_arrays
from tinyslm.modules import MixtureOfExperts
from tinyslm.tree import named_arrays, named_modules


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
    arrays = {id(array): (path, array) for path, array in named_arrays(model).items()}
    masked = named_modules(model, MaskedLinear)
    quantized = named_modules(model, QuantizedLinear)
    in_files = named_modules(model, MappedLinear | MappedEmbedding)

    def is_in_file(path):
        layer, _, name = path.rpartition(".")
        return layer in in_files and name != "bias"

    def non_zeros(path, array):
        layer, _, name = path.rpartition(".")
        if layer in quantized and name == "codes":
            return np.count_nonzero(quantized[layer].dense_weight())
        if is_in_file(path):
            return sum(np.count_nonzero(tile) for _, tile in widened_tiles(array))
        return np.count_nonzero(array)

    def bits(path, array):
        layer, _, name = path.rpartition(".")
        if layer in masked and name == "weight":  # only what the mask keeps is stored
            return np.count_nonzero(masked[layer].mask) * array.itemsize * 8
        return array.size if array.dtype == bool else array.nbytes * 8

    return Footprint(
        parameters=count_parameters(model),
        non_zeros=int(sum(non_zeros(path, array) for path, array in parameter_arrays(model).items())),
        bits=int(sum(bits(path, array) for path, array in arrays.values())),
        bytes=sum(array.nbytes for path, array in arrays.values() if not is_in_file(path)),
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
