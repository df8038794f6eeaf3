"""Steps of knowledge distillation. Mathematics: `tinyslm/compression/distillation`."""

from tinyslm.recipes.distillation.distill import Distill
from tinyslm.recipes.distillation.student import FreshStudent, KeepLayers

__all__ = ["Distill", "FreshStudent", "KeepLayers"]
