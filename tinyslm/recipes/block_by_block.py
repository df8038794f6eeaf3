"""Block-by-block calibration: each block is compressed with the inputs from the compressed blocks before it.

The hidden states of all calibration documents go through the model together, block by block. Each block is computed
twice per document: as it is, for the statistics of its inputs, and compressed, for the inputs of the next block. So the
cost is proportional to the number of blocks. Weights that are mapped from a file are read for one block at a time, and
the compressed block is moved to a temporary file.
Frantar et al. 2023 (GPTQ), section 5, "Setup", calibrate in this way.

Steps: `PruneWanda`, `PruneSparseGPT`, `QuantizeGPTQ`. The steps `RefitWeights`, `SliceNeurons` and `Factorize` read
X^T X of the uncompressed model, also one block at a time (`grams_by_block`). Lessons:
`lessons/07_pruning_weights.py`, `lessons/09_quantization.py`.
"""

from dataclasses import dataclass, replace

import numpy as np

from tinyslm.checkpoints.temporary_arrays import empty_in_file
from tinyslm.checkpoints.upcasting import release_pages
from tinyslm.models.layer_stacks import block_path, layer_stacks, with_layers
from tinyslm.modules import Context, LinearLayer
from tinyslm.parallel import map_in_threads
from tinyslm.recipes.linear_layers import dense_in_memory, is_compressible, naming_layer, replace_layers, stored_like
from tinyslm.recipes.statistics import gram_float64, sum_over_documents
from tinyslm.tree import map_modules, named_modules

STATES_IN_MEMORY = 2**28  # bytes of hidden states of all documents; larger ones are in a temporary file


@dataclass
class DocumentPass:
    """Forward pass of one document, stopped before a block. states: (B, T, C), the input of that block."""

    states: np.ndarray
    context: Context

    def run(self, block, index, observe=None):
        """Output of the block with this index: (B, T, C)."""
        output = block(self.states, replace(self.context, layer=index, observer=observe))
        release_pages(self.states)
        return output

    def advance(self, block, index, observe=None):
        """Replace the states by the output of the block."""
        self.states[...] = self.run(block, index, observe)
        release_pages(self.states)


def compress_block_by_block(model, tasks, statistic, compress_layer, progress):
    """The model with `compress_layer(layer, total, tokens)` in place of each compressible layer.

    tasks: calibration documents;  statistic(rows (N, in)) -> array of the inputs of a layer, whose sum over all tasks
    is `total`. The earlier blocks are compressed when it is gathered.
    tokens: number of calibration tokens in the inputs of the layer; can be 0 for an expert.
    progress(path): called with the path of each block before it is compressed.
    """
    compressed = {name: [] for name in layer_stacks(model)}  # {path of a stack: its compressed blocks}
    for name, index, block, passes in _walk(model, tasks):
        path = block_path(name, index)
        progress(path)
        in_memory = map_modules(lambda path, layer: dense_in_memory(layer), block, LinearLayer)
        result = _compress_block(path, index, in_memory, passes, statistic, compress_layer)
        map_in_threads(lambda document, result=result, index=index: document.advance(result, index), passes)
        compressed[name].append(stored_like(block, result))
    return with_layers(model, compressed)


def _compress_block(path, index, block, passes, statistic, compress_layer):
    """The block with all its compressible layers compressed. index: of the block in its stack."""
    layers = {f"{path}.{name}": layer for name, layer in named_modules(block, LinearLayer).items()}
    paths = [layer_path for layer_path in layers if is_compressible(layer_path)]
    found = sum_over_documents(passes, lambda document, see: document.run(block, index, see), statistic, paths)
    compressed = {}
    for layer_path in paths:
        with naming_layer(layer_path):
            compressed[layer_path.removeprefix(f"{path}.")] = compress_layer(layers[layer_path], *found[layer_path])
    return replace_layers(block, compressed)


def grams_by_block(model, tasks, paths):
    """Yield {path of a linear layer: X^T X (in, in) in float64 of all its inputs X}, for one block after another.

    The same as `statistics.input_grams`, but with the statistics of one block in memory.
    tasks: calibration documents;  paths: of the layers.
    """
    for name, index, block, passes in _walk(model, tasks):
        chosen = [path for path in paths if path.startswith(f"{block_path(name, index)}.")]
        found = sum_over_documents(
            passes,
            lambda document, see, block=block, index=index: document.advance(block, index, see),
            gram_float64,
            chosen,
        )
        yield {path: total for path, (total, _) in found.items()}


def _walk(model, tasks):
    """Yield (path of the stack, index, block, passes of all documents that are stopped before the block).

    The caller advances the passes.
    """
    finished = [{} for _ in tasks]  # of each document, {path of a stack: its hidden states after the last block}
    for name, stack in layer_stacks(model).items():
        passes = _passes(model, name, tasks, finished)
        for index, block in enumerate(stack.layers):
            yield name, index, block, passes
        for states, document in zip(finished, passes, strict=True):
            states[name] = document.states


def _passes(model, name, tasks, finished) -> list[DocumentPass]:
    """The passes of all documents, stopped before the first block of the stack `name`.

    finished: of each document, the final hidden states of the earlier stacks, which are not computed again.
    """

    def enter(task, finished):
        def stop(x, context):
            caught.append(DocumentPass(x, context))
            return x

        caught = []
        blocks = {stack: [] for stack in layer_stacks(model)}  # of later stacks: none
        blocks |= {stack: [lambda x, context, states=states: states] for stack, states in finished.items()}
        with_layers(model, blocks | {name: [stop]}).hidden_states(**task.inputs)
        return caught[0]

    passes = [enter(*pair) for pair in zip(tasks, finished, strict=True)]
    _store_together(passes)
    return passes


def _store_together(passes):
    """Move the hidden states of all documents into one array, which is in a temporary file if it is large."""
    ends = np.cumsum([document.states.size for document in passes])
    together = _empty(int(ends[-1]) if len(ends) else 0, passes[0].states.dtype if passes else np.float32)
    for document, end in zip(passes, ends, strict=True):
        states = together[end - document.states.size : end].reshape(document.states.shape)
        states[...] = document.states
        document.states = states


def _empty(size, dtype):
    """Array of `size` numbers, in memory or in a temporary file, which the system removes after use."""
    fits = size * np.dtype(dtype).itemsize <= STATES_IN_MEMORY
    return np.empty(size, dtype) if fits else empty_in_file((size,), dtype)
