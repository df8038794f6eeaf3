"""Pruning: removing single weights (a mask), or whole neurons and experts (smaller arrays)."""

from tinyslm.compression.pruning.experts import expert_importance, slice_experts
from tinyslm.compression.pruning.magnitude import global_magnitude_masks, magnitude_mask
from tinyslm.compression.pruning.masked_linear import MaskedLinear, masked_linear
from tinyslm.compression.pruning.selection import most_important
from tinyslm.compression.pruning.structured import neuron_importance, slice_neurons

__all__ = [
    "MaskedLinear",
    "expert_importance",
    "global_magnitude_masks",
    "magnitude_mask",
    "masked_linear",
    "most_important",
    "neuron_importance",
    "slice_experts",
    "slice_neurons",
]
