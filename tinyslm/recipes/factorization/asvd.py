"""Activation-aware SVD (ASVD) of the linear layers of a model.

Mathematics: `tinyslm/compression/factorization/asvd.py`. Lesson: `lessons/10_low_rank.py`.
"""

from tinyslm.compression.factorization import activation_weighted_components
from tinyslm.recipes.factorization.svd import decompose_layers
from tinyslm.recipes.statistics import mean_input_magnitudes


def model_activation_weighted_components(model, calibration) -> dict:
    """{path of a linear layer in the blocks: its `activation_weighted_components`}."""
    magnitudes = mean_input_magnitudes(model, calibration.sample())
    return decompose_layers(model, lambda path, weight: activation_weighted_components(weight, magnitudes[path]))
