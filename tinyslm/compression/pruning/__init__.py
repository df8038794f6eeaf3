"""Pruning: removing single weights (a mask) or whole neurons (smaller arrays)."""

from tinyslm.compression.pruning.magnitude import global_magnitude_masks, magnitude_mask
from tinyslm.compression.pruning.masked_linear import MaskedLinear, masked_linear
from tinyslm.compression.pruning.structured import kept_neurons, neuron_importance, slice_neurons

__all__ = [
    "MaskedLinear",
    "global_magnitude_masks",
    "kept_neurons",
    "magnitude_mask",
    "masked_linear",
    "neuron_importance",
    "slice_neurons",
]
