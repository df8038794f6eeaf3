"""Pruning steps: masks for single weights, and smaller arrays without whole units. One file per method.

Mathematics: `tinyslm/compression/pruning/`. Lessons: `lessons/07_pruning_weights.py` and
`lessons/08_pruning_structure.py`.
"""

from tinyslm.recipes.pruning.allocation import PruneBySensitivity
from tinyslm.recipes.pruning.channels import SliceChannels
from tinyslm.recipes.pruning.experts import SliceExperts
from tinyslm.recipes.pruning.heads import SliceGroups, SliceHeads
from tinyslm.recipes.pruning.layers import DropLayers
from tinyslm.recipes.pruning.magnitude import PruneMagnitude
from tinyslm.recipes.pruning.masked_layers import FoldMasks, StoreSparse
from tinyslm.recipes.pruning.neurons import SliceNeurons
from tinyslm.recipes.pruning.refit import RefitWeights
from tinyslm.recipes.pruning.schedule import PruneGradually, PruneIteratively
from tinyslm.recipes.pruning.sparsegpt import PruneSparseGPT
from tinyslm.recipes.pruning.wanda import PruneWanda

__all__ = [
    "DropLayers",
    "FoldMasks",
    "PruneBySensitivity",
    "PruneGradually",
    "PruneIteratively",
    "PruneMagnitude",
    "PruneSparseGPT",
    "PruneWanda",
    "RefitWeights",
    "SliceChannels",
    "SliceExperts",
    "SliceGroups",
    "SliceHeads",
    "SliceNeurons",
    "StoreSparse",
]
