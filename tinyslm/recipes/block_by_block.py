"""Block-by-block calibration: each block is compressed with the inputs from the compressed blocks before it.

Steps: `PruneWanda`, `PruneSparseGPT`, `QuantizeGPTQ`. Lessons: `lessons/07_pruning_weights.py`,
`lessons/09_quantization.py`.
"""

from tinyslm.recipes.linear_layers import naming_layer, paths_by_block, replace_layers
from tinyslm.recipes.statistics import input_statistics
from tinyslm.tree import named_modules


def compress_block_by_block(model, tasks, statistic, compress_layer, progress):
    """The model with `compress_layer(layer, total, tokens)` in place of each compressible layer.

    tasks: calibration documents;  statistic(rows (N, in)) -> array of the inputs of a layer, whose sum over all tasks
    is `total`. It is gathered once per block, with the earlier blocks compressed.
    tokens: number of calibration tokens in the inputs of the layer; can be 0 for an expert.
    progress(path): called with the path of each block before it is compressed.
    """
    for block, paths in paths_by_block(model).items():
        progress(block)
        layers, found = named_modules(model), input_statistics(model, tasks, statistic, paths=paths)
        compressed = {}
        for path in paths:
            with naming_layer(path):
                compressed[path] = compress_layer(layers[path], *found[path])
        model = replace_layers(model, compressed)
    return model
