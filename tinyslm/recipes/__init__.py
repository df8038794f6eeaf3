"""Techniques applied to models: steps, recipes made of steps, and what a recipe costs and saves, measured."""

from tinyslm.recipes.calibration import Calibration
from tinyslm.recipes.defaults import default_recipes
from tinyslm.recipes.distil import KeepLayers
from tinyslm.recipes.factorize import Factorize
from tinyslm.recipes.measure import measure
from tinyslm.recipes.prune import FoldMasks, PruneMagnitude, SliceExperts, SliceNeurons
from tinyslm.recipes.quantize import Quantize
from tinyslm.recipes.recipe import Recipe, compress
from tinyslm.recipes.recover import Recover

__all__ = [
    "Calibration",
    "Factorize",
    "FoldMasks",
    "KeepLayers",
    "PruneMagnitude",
    "Quantize",
    "Recipe",
    "Recover",
    "SliceExperts",
    "SliceNeurons",
    "compress",
    "default_recipes",
    "measure",
]

NOT_STEPS = {"Calibration", "Recipe"}
STEPS = {name: globals()[name] for name in __all__ if name[0].isupper() and name not in NOT_STEPS}  # by name, for files
