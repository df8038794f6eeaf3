"""Compression of models: steps, recipes made of steps, and measurements of the compressed model."""

from tinyslm.recipes.calibration import Calibration
from tinyslm.recipes.default_recipes import default_recipes
from tinyslm.recipes.distillation import Distill, FreshStudent, KeepLayers
from tinyslm.recipes.factorization import Factorize, LearnRanks
from tinyslm.recipes.measure import measure
from tinyslm.recipes.pruning import (
    DropLayers,
    FoldMasks,
    PruneBySensitivity,
    PruneGradually,
    PruneIteratively,
    PruneMagnitude,
    PruneSparseGPT,
    PruneWanda,
    RefitWeights,
    SliceChannels,
    SliceExperts,
    SliceGroups,
    SliceHeads,
    SliceNeurons,
    StoreSparse,
)
from tinyslm.recipes.quantization import (
    Quantize,
    QuantizeFormat,
    QuantizeGPTQ,
    QuantizeOutlierAware,
    QuantizeStatic,
    Smooth,
    TrainQuantized,
)
from tinyslm.recipes.recipe import Recipe, compress

__all__ = [
    "Calibration",
    "Distill",
    "DropLayers",
    "Factorize",
    "FoldMasks",
    "FreshStudent",
    "KeepLayers",
    "LearnRanks",
    "PruneBySensitivity",
    "PruneGradually",
    "PruneIteratively",
    "PruneMagnitude",
    "PruneSparseGPT",
    "PruneWanda",
    "Quantize",
    "QuantizeFormat",
    "QuantizeGPTQ",
    "QuantizeOutlierAware",
    "QuantizeStatic",
    "Recipe",
    "RefitWeights",
    "SliceChannels",
    "SliceExperts",
    "SliceGroups",
    "SliceHeads",
    "SliceNeurons",
    "Smooth",
    "StoreSparse",
    "TrainQuantized",
    "compress",
    "default_recipes",
    "measure",
]

NOT_STEPS = {"Calibration", "Recipe"}
STEPS = {name: globals()[name] for name in __all__ if name[0].isupper() and name not in NOT_STEPS}  # by name, for files
