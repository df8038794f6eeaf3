"""Truncated SVD of the linear layers of a model.

Mathematics: `tinyslm/compression/factorization/svd.py`. Lesson: `lessons/10_low_rank.py`.
"""

from tinyslm.compression.factorization import svd_components
from tinyslm.parallel import map_in_threads
from tinyslm.recipes.linear_layers import compressible_layers


def model_svd_components(model, calibration=None) -> dict:
    """{path of a linear layer in the blocks: its `svd_components`}."""
    return decompose_layers(model, lambda path, weight: svd_components(weight))


def decompose_layers(model, decompose, paths=None) -> dict:
    """{path of a linear layer: decompose(path, weight)}, computed in threads.

    paths: of the layers, by default all in the blocks.
    """
    layers = compressible_layers(model)
    paths = list(layers if paths is None else paths)
    return dict(zip(paths, map_in_threads(lambda path: decompose(path, layers[path].weight), paths), strict=True))
