"""Model size: parameters, non-zeros, bits, bytes and multiply-adds, counted from the arrays of the model."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from tinyslm.checkpoints.upcasting import release_pages
from tinyslm.evaluation.parameters import count_parameters, other_arrays, replaced_layers, sum_per_token
from tinyslm.tree import named_arrays, named_modules


@dataclass(frozen=True)
class Footprint:
    """The size of a model.

    Parameters
    ----------
    parameters : int
        Number of weights, zeros included. Scales, zero points and masks are not parameters.
    non_zeros : int
        Number of parameters that are not zero.
    bits : int
        Size of the stored model: parameters, scales, zero points and masks.
    bytes : int
        Size of the arrays in memory. Arrays that are mapped from their file (`load(path, weights="mapped")`) count 0.
    multiply_adds : int
        Multiplications by weights for one token, each with an addition. Products of queries with keys, and of
        probabilities with values, are not included; they grow with the context.

    Examples
    --------
    >>> Footprint(parameters=8, non_zeros=6, bits=256, bytes=32, multiply_adds=8).bits // 8
    32
    """

    parameters: int
    non_zeros: int
    bits: int
    bytes: int
    multiply_adds: int


def footprint(model: Any) -> Footprint:
    """Count parameters, non-zeros, bits, bytes and multiply-adds per token of a model.

    Parameters
    ----------
    model : Module
        A decoder, encoder or encoder-decoder, dense or compressed. An array that two modules share counts once.

    Returns
    -------
    Footprint
        Five integers; each is counted, none is estimated from another.

    Examples
    --------
    >>> from tinyslm.models import random_model
    >>> from tinyslm.models.tiny_shapes import llama_shape
    >>> size = footprint(random_model(llama_shape(31, 16, 20, 3, 4, 2)))
    >>> size.parameters, size.bits // 32, size.bytes // 4
    (5792, 5792, 5792)
    """
    others, layers = other_arrays(model).values(), replaced_layers(model).values()
    stored = sum(array.nbytes for array in others)
    sizes = [_sizes(layer) for layer in layers]
    return Footprint(
        parameters=count_parameters(model),
        non_zeros=int(sum(map(np.count_nonzero, others))) + sum(non_zeros for non_zeros, _, _ in sizes),
        bits=stored * 8 + sum(bits for _, bits, _ in sizes),
        bytes=stored + sum(in_memory for _, _, in_memory in sizes),
        multiply_adds=multiply_adds(model),
    )


def _sizes(layer):
    """(non-zeros, bits, bytes) of a layer. Pages that were read from a file are released."""
    sizes = layer.num_non_zeros(), layer.num_bits(), layer.num_bytes()
    for array in named_arrays(layer).values():
        release_pages(array)
    return sizes


def multiply_adds(model) -> int:
    """Multiplications by weights for one token: in the linear layers that process the token, and in the output head.

    The pooler of an encoder is not included: it runs once per text, not per token. For an encoder-decoder: the sum for
    one token of the encoder and one token of the decoder.
    """
    layers = {path: module for path, module in named_modules(model).items() if hasattr(module, "multiply_adds")}
    layers.pop("pooler", None)
    total = sum_per_token(model, {path: layer.multiply_adds() for path, layer in layers.items()})
    if model.tied_head:  # the embedding table is the weight of the head
        total += model.config.vocab_size * model.config.hidden_size
    return total
