"""Block-by-block calibration: each block is compressed with the inputs from the compressed blocks before it.

Steps: `PruneWanda`, `PruneSparseGPT`, `QuantizeGPTQ`. Lessons: `lessons/07_pruning_weights.py`,
`lessons/09_quantization.py`.
"""

from tinyslm.recipes.linear_layers import paths_by_block, replace_layers
from tinyslm.tree import named_modules


def compress_block_by_block(model, gather, compress_layer, progress):
    """The model with `compress_layer(layer, statistic, tokens)` in place of each compressible layer.

    gather(model, paths) -> {path: (statistic, tokens)} is called once per block, with the earlier blocks compressed.
    tokens: number of calibration tokens that reached the layer; 0 for an expert that received none.
    """
    for block, paths in paths_by_block(model).items():
        progress(block)
        layers, found = named_modules(model), gather(model, set(paths))
        model = replace_layers(model, {path: compress_layer(layers[path], *found[path]) for path in paths})
    return model
