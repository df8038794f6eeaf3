"""SVD with data whitening (SVD-LLM) of the linear layers of a model.

Mathematics: `tinyslm/compression/factorization/svd_llm.py`. Lesson: `lessons/10_low_rank.py`.
"""

from tinyslm.compression.factorization import whitened_components
from tinyslm.recipes.block_by_block import grams_by_block
from tinyslm.recipes.factorization.svd import decompose_layers
from tinyslm.recipes.linear_layers import compressible_layers


def model_whitened_components(model, calibration) -> dict:
    """{path of a linear layer in the blocks: `whitened_components` of its weight and of X^T X of its inputs X}.

    calibration: the `Calibration` whose sample gives the inputs.
    """
    found, paths = {}, list(compressible_layers(model))
    for grams in grams_by_block(model, calibration.sample(), paths):

        def decompose(path, weight, grams=grams):
            return whitened_components(weight, grams[path])

        found |= decompose_layers(model, decompose, grams)
    return {path: found[path] for path in paths}
