"""Techniques applied to models: steps, recipes made of steps, and what a recipe costs and saves, measured."""

from tinyslm.recipes.calibration import Calibration
from tinyslm.recipes.defaults import default_recipes
from tinyslm.recipes.distil import FreshStudent, KeepLayers
from tinyslm.recipes.factorize import Factorize
from tinyslm.recipes.learned_ranks import LearnRanks
from tinyslm.recipes.measure import measure
from tinyslm.recipes.prune_channels import SliceChannels
from tinyslm.recipes.prune_heads import SliceGroups, SliceHeads
from tinyslm.recipes.prune_layers import DropLayers
from tinyslm.recipes.prune_structure import SliceExperts, SliceNeurons
from tinyslm.recipes.prune_training import PruneGradually, PruneIteratively
from tinyslm.recipes.prune_weights import (
    FoldMasks,
    PruneMagnitude,
    PruneSparseGPT,
    PruneWanda,
    RepairWeights,
    StoreSparse,
)
from tinyslm.recipes.quantize import Quantize, QuantizeFormat
from tinyslm.recipes.quantize_calibrated import QuantizeGPTQ, QuantizeOutlierAware
from tinyslm.recipes.quantize_static import QuantizeStatic
from tinyslm.recipes.quantize_training import TrainQuantized
from tinyslm.recipes.recipe import Recipe, compress
from tinyslm.recipes.recover import Recover
from tinyslm.recipes.sensitivity import PruneBySensitivity
from tinyslm.recipes.smooth import Smooth

__all__ = [
    "Calibration",
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
    "Recover",
    "RepairWeights",
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
