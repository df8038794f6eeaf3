"""Pruning: masks for single weights, and smaller arrays without whole neurons, heads, channels, layers or experts.

Unstructured and N:M pruning: `magnitude`, `n_m`, `wanda`, `sparsegpt`, `optimal_brain_surgeon`; layers that hold the
result: `masked_linear`, `sparse_linear`. Structured pruning: `importance` and `neurons`, `heads`, `channels`, `layers`,
`experts`. Both: `refit`, `schedule`, `allocation`.
Steps: `tinyslm/recipes/pruning/`. Lessons: `lessons/07_pruning_weights.py` and `lessons/08_pruning_structure.py`.
"""

from tinyslm.compression.pruning.allocation import allocate_sparsity
from tinyslm.compression.pruning.channels import slice_channels, slice_rms_norm
from tinyslm.compression.pruning.experts import expert_importance, slice_experts
from tinyslm.compression.pruning.heads import (
    group_importance,
    head_importance,
    most_important_heads,
    slice_groups,
    slice_heads,
)
from tinyslm.compression.pruning.importance import (
    magnitude_importance,
    minitron_importance,
    random_importance,
    taylor_importance,
)
from tinyslm.compression.pruning.layers import layer_importance
from tinyslm.compression.pruning.magnitude import global_magnitude_masks, magnitude_mask
from tinyslm.compression.pruning.masked_linear import MaskedLinear, masked_linear
from tinyslm.compression.pruning.n_m import PackedNM, n_m_mask, pack_n_m, parse_pattern
from tinyslm.compression.pruning.neurons import neuron_importance, slice_neurons
from tinyslm.compression.pruning.optimal_brain_surgeon import downdate_inverse, obs_step
from tinyslm.compression.pruning.refit import least_squares_refit, refit_down
from tinyslm.compression.pruning.schedule import cubic_sparsity, iterative_sparsity
from tinyslm.compression.pruning.slicing import most_important
from tinyslm.compression.pruning.sparse_linear import BitmapLinear, CsrLinear, NMLinear
from tinyslm.compression.pruning.sparsegpt import sparsegpt
from tinyslm.compression.pruning.wanda import wanda_mask, wanda_scores

__all__ = [
    "BitmapLinear",
    "CsrLinear",
    "MaskedLinear",
    "NMLinear",
    "PackedNM",
    "allocate_sparsity",
    "cubic_sparsity",
    "downdate_inverse",
    "expert_importance",
    "global_magnitude_masks",
    "group_importance",
    "head_importance",
    "iterative_sparsity",
    "layer_importance",
    "least_squares_refit",
    "magnitude_importance",
    "magnitude_mask",
    "masked_linear",
    "minitron_importance",
    "most_important",
    "most_important_heads",
    "n_m_mask",
    "neuron_importance",
    "obs_step",
    "pack_n_m",
    "parse_pattern",
    "random_importance",
    "refit_down",
    "slice_channels",
    "slice_experts",
    "slice_groups",
    "slice_heads",
    "slice_neurons",
    "slice_rms_norm",
    "sparsegpt",
    "taylor_importance",
    "wanda_mask",
    "wanda_scores",
]
