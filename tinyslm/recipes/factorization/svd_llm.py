"""SVD with data whitening (SVD-LLM) of the linear layers of a model.

Mathematics: `tinyslm/compression/factorization/svd_llm.py`. Lesson: `lessons/10_low_rank.py`.
"""

from tinyslm.compression.factorization import whitened_components
from tinyslm.recipes.factorization.svd import decompose_layers
from tinyslm.recipes.statistics import input_grams


def model_whitened_components(model, calibration) -> dict:
    """{path of a linear layer in the blocks: `whitened_components` of its weight and of X^T X of its inputs X}.

    calibration: the `Calibration` whose sample gives the inputs.
    """
    grams = input_grams(model, calibration.sample())
    return decompose_layers(model, lambda path, weight: whitened_components(weight, grams[path][0]))
