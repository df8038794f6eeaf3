"""Compressible linear layers of a model: the linear layers inside the blocks."""

from collections.abc import Iterator
from contextlib import contextmanager

from tinyslm.checkpoints.mapped_layers import MappedLayer
from tinyslm.checkpoints.temporary_arrays import moved_to_file
from tinyslm.compression.pruning import MaskedLinear
from tinyslm.errors import ConfigError, DataError
from tinyslm.modules import Linear, LinearLayer
from tinyslm.tree import map_modules, named_modules


def is_compressible(path: str) -> bool:
    """Whether the linear layer at a path is inside a block and is not a router.

    Routers are not compressed: they have few weights, which select the experts of each token.
    """
    return "layers" in path.split(".") and not path.endswith(".router")


def compressible_layers(model) -> dict[str, LinearLayer]:
    """{path: layer} of the linear layers inside the blocks, dense or compressed."""
    return {path: layer for path, layer in named_modules(model, LinearLayer).items() if is_compressible(path)}


def paths_by_block(model) -> dict[str, list[str]]:
    """{path of a block: paths of its compressible layers}, in the order of computation."""
    found = {}
    for path in compressible_layers(model):
        parts = path.split(".")
        block = ".".join(parts[: parts.index("layers") + 2])
        found.setdefault(block, []).append(path)
    return found


def replace_layers(model, layers):
    """The model with other linear layers at some paths. layers: {path: layer}."""
    return map_modules(lambda path, layer: layers.get(path, layer), model, LinearLayer)


def dense_in_memory(layer: LinearLayer) -> LinearLayer:
    """The layer with its weight in memory as float32, if it is mapped from a file; otherwise the layer itself."""
    return Linear(layer.dense_weight(), layer.bias) if isinstance(layer, MappedLayer) else layer


def stored_like(original, compressed):
    """The compressed module, with its arrays in a temporary file if the original has weights mapped from a file.

    The result of a model that stays in its file then needs no memory either.
    """
    return moved_to_file(compressed) if named_modules(original, MappedLayer) else compressed


@contextmanager
def naming_layer(path: str) -> Iterator[None]:
    """Put the path of a layer before the message of a DataError in the block, such as of groups that do not fit."""
    try:
        yield
    except DataError as error:
        raise type(error)(f"{path}: {error}") from error


def require_dense(model, allowed=Linear):
    """Raise ConfigError if a linear layer inside a block is already compressed, because a step would skip it.

    allowed: another class of layers that the step can handle.
    """
    for path, layer in compressible_layers(model).items():
        if not isinstance(layer, Linear | allowed):
            fold = "FoldMasks between them, " if isinstance(layer, MaskedLinear) else ""
            raise ConfigError(
                f"{path} is a {type(layer).__name__} already: put this step before the one that made it, {fold}"
                "or load the model with weights='float32'"
            )
