"""Fisher-weighted SVD (FWSVD) of the linear layers of a model.

Mathematics: `tinyslm/compression/factorization/fwsvd.py`. Lesson: `lessons/10_low_rank.py`.
"""

from tinyslm.compression.factorization import fisher_weighted_components
from tinyslm.recipes.factorization.svd import decompose_layers
from tinyslm.recipes.statistics import fisher_information


def model_fisher_weighted_components(model, calibration) -> dict:
    """{path of a linear layer in the blocks: its `fisher_weighted_components`}."""
    fisher = fisher_information(model, calibration.sample())
    return decompose_layers(model, lambda path, weight: fisher_weighted_components(weight, fisher[f"{path}.weight"]))
