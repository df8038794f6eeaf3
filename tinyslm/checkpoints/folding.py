"""Folding: the dense tensors of a model, where a compressed layer is written as the matrix that it multiplies by.

A low-rank layer becomes the product of its factors, a sparse layer a matrix with zeros, a quantized layer its
dequantized numbers. Each matrix is computed when it is written, so only one is in memory beside the model.
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np

from tinyslm.checkpoints.families import Family, find_family, written_config
from tinyslm.checkpoints.json_files import shown
from tinyslm.checkpoints.mapped_layers import MappedLayer
from tinyslm.checkpoints.own_section import SECTION
from tinyslm.checkpoints.safetensors import STORED_AS, PendingTensor, is_exact
from tinyslm.checkpoints.tensor_mapping import TensorMapping, compressed_modules, written_mappings
from tinyslm.errors import CheckpointError, ConfigError
from tinyslm.models import shape_model
from tinyslm.ops.tiles import row_slices
from tinyslm.tree import Array, Module, named_arrays, named_modules

TILE_BYTES = 2**24  # of numbers that are converted together


class Folded(NamedTuple):
    """Layers of one kind that are written as dense matrices, because the file has no form for them."""

    kind: str  # the class of the layers
    paths: tuple[str, ...]
    own_bytes: int  # in the form of this library
    written_bytes: int  # as dense matrices
    reason: str = ""  # why a quantized layer does not keep its codes


class Exported(NamedTuple):
    """Report of an export. forms: {form of codes: number of matrices};  notes: other differences from the model."""

    folded: list[Folded]
    forms: dict[str, int]
    notes: list[str]


@dataclass(frozen=True)
class Layout:
    """The dense form of a model: a model of the same configuration, and the tensors of its family's checkpoint."""

    model: Module
    outline: Module  # the dense model, with shapes only
    family: Family
    values: dict[str, Any]  # of config.json, without "dtype"
    shapes: dict[str, tuple[int, ...]]  # {path of an array: shape}
    mappings: dict[str, TensorMapping]  # {tensor name: its arrays}
    compressed: dict[str, Any]  # {path: layer} of the layers that are not dense
    modules: dict[str, Module]  # {path: module} of the model

    def shape(self, name: str) -> tuple[int, ...]:
        """Shape of a tensor in the file."""
        return self.mappings[name].stored_shape(self.shapes)

    def layers(self, name: str) -> list[Any]:
        """The modules whose arrays a tensor joins."""
        return [self.modules[path.rpartition(".")[0]] for path in self.mappings[name].paths]

    def pending(self, name: str, dtype: str | None) -> PendingTensor:
        """A tensor in its dense form. dtype: as of `stored_dtype`."""

        def parts():
            return _parts(self, self.mappings[name])

        return PendingTensor(stored_dtype(parts, dtype, self.model.config.source), self.shape(name), parts)


def dense_layout(model: Module, without_prefix: bool | None = None) -> Layout:
    """The dense form of a model, for other programs.

    without_prefix: whether tensor names lack the prefix of the family; None: as in the file of the model.
    Raises ConfigError for a model that transformers does not read, CheckpointError for one that its family cannot hold.
    """
    config = replace(model.config, tie_word_embeddings=model.head is None)
    if without_prefix is not None:
        config = replace(config, without_prefix=without_prefix)
    family = find_family(config.family, "the model's configuration").for_config(config)
    values = written_config(family, config)
    if refusal := family.refusal(config):
        raise ConfigError(
            f"transformers does not read this model: {refusal}; `tinyslm.save` writes it for this library"
        )
    values.pop(SECTION, None)
    outline = shape_model(config)
    shapes = {path: array.shape for path, array in named_arrays(outline).items()}
    compressed = {
        path: layer for path, layer in compressed_modules(model, outline).items() if not isinstance(layer, MappedLayer)
    }
    arrays = named_arrays(model)
    for path in shapes.keys() ^ arrays.keys():
        module, _, name = path.rpartition(".")
        if module not in compressed or name == "bias":
            found, wanted = ("an array", "none") if path in arrays else ("missing", shapes[path])
            raise CheckpointError(f"{path} is {found}, but the model's configuration requires {wanted}")
    mappings = written_mappings(family, shapes, config.without_prefix)
    return Layout(model, outline, family, values, shapes, mappings, compressed, named_modules(model))


def _parts(layout, mapping) -> Iterator[Array]:
    """The numbers of a tensor in tiles of rows. A tile can overwrite the one before it."""
    if mapping.block or mapping.transposed:
        yield mapping.join({path: np.concatenate(list(_tiles(layout, path))) for path in mapping.paths})
        return
    for path in mapping.paths:
        yield from _tiles(layout, path)


def _tiles(layout, path):
    """The numbers of an array of the dense form in tiles of rows. Mapped tiles are copied: the next overwrites them."""
    module, _, name = path.rpartition(".")
    layer = layout.modules[module]
    if name in ("weight", "table") and isinstance(layer, MappedLayer):
        yield from (tile.copy() for _, tile in layer.tiles())
        return
    is_matrix = name in ("weight", "table") and module in layout.compressed
    array = layer.dense_weight() if is_matrix else getattr(layer, name)
    if array.shape != layout.shapes[path]:
        raise CheckpointError(f"{path} is {array.shape}, but the model's configuration requires {layout.shapes[path]}")
    array = np.atleast_1d(array)
    for rows in row_slices(len(array), array[:1].nbytes, TILE_BYTES):
        yield array[rows]


def stored_dtype(parts, dtype: str | None, source) -> str:
    """The dtype of the format for the arrays that `parts` returns.

    dtype: "float32", "float16", "bfloat16", or None: that of the file of a loaded model (`source`) if it holds every
    number exactly, otherwise float32.
    """
    if dtype is not None or source is None:
        return STORED_AS[dtype or "float32"]
    kept = STORED_AS[source.dtype]
    return kept if all(is_exact(part, kept) for part in parts()) else "F32"


def require_dtype(dtype: str | None) -> None:
    """Raise ConfigError unless the dtype is one of STORED_AS, or None."""
    if dtype is not None and dtype not in STORED_AS:
        raise ConfigError(f"dtype is {shown(dtype)}, expected one of {', '.join(STORED_AS)}, or None")


def config_dtype(tensors: dict[str, PendingTensor]) -> str:
    """The "dtype" of config.json: the widest floating dtype of the tensors, in which other programs then compute."""
    found = {tensor.dtype for tensor in tensors.values()}
    return next((name for name in STORED_AS if STORED_AS[name] in found), "float32")


def folded_layers(
    layout: Layout, tensors: dict[str, PendingTensor], reasons: dict[str, str] | None = None
) -> list[Folded]:
    """Layers that are written in dense form, by kind and reason. reasons: {path of a layer: why}, or None."""
    groups: dict[tuple[str, str], list[str]] = {}
    for path, layer in layout.compressed.items():
        if reasons is None or path in reasons:
            groups.setdefault((type(layer).__name__, (reasons or {}).get(path, "")), []).append(path)
    sizes: Counter[str] = Counter()  # {path of a layer: bytes of its arrays in the file}
    for name, mapping in layout.mappings.items():
        rows = [layout.shapes[path][0] for path in mapping.paths]
        for path, count in zip(mapping.paths, rows, strict=True) if name in tensors else ():
            sizes[path.rpartition(".")[0]] += tensors[name].nbytes * count // sum(rows)
    return [
        Folded(
            kind,
            tuple(paths),
            sum(-(-layout.compressed[path].num_bits() // 8) for path in paths),
            sum(sizes[path] for path in paths),
            reason,
        )
        for (kind, reason), paths in groups.items()
    ]
