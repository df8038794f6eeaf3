"""Mapping between the tensors of a checkpoint and the arrays of a model."""

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

from tinyslm.checkpoints.alternating_rows import AlternatingRows
from tinyslm.checkpoints.families import Family
from tinyslm.errors import CheckpointError
from tinyslm.modules import Embedding, Linear
from tinyslm.tree import Array, Module, named_modules

REPLACEABLE = Linear | Embedding  # module types that compression can replace


class TensorMapping(NamedTuple):
    """One tensor of a checkpoint: the concatenation of the arrays at `paths` of a model along the output axis.

    block: 0, or the number of rows of each array that alternate with as many rows of the others.
    """

    paths: tuple[str, ...]
    transposed: bool = False  # stored as (in, out)
    compressed: bool = False  # stored under the array's path in the model; the family has no tensor for it
    block: int = 0

    def join(self, arrays: dict[str, Array]) -> Array:
        """The tensor in the file's layout, from {path: array} of the model."""
        parts = [arrays[path] for path in self.paths]
        if self.block:
            blocks = [part.reshape(-1, self.block, *part.shape[1:]) for part in parts]  # (H, D, in) or (H, D)
            return np.stack(blocks, axis=1).reshape(-1, *parts[0].shape[1:])
        tensor = parts[0] if len(parts) == 1 else np.concatenate(parts)  # (sum of outputs, in)
        return tensor.T if self.transposed else tensor

    def split(self, tensor, shapes: dict[str, tuple[int, ...]]) -> dict:
        """{path: tensor}, the reverse of `join`: parts of a tensor that is not read yet. Reads no data from the file.

        tensor: StoredTensor or EncodedTensor.
        """
        if self.block:
            n = len(self.paths)
            return {path: AlternatingRows(tensor, i, n, self.block) for i, path in enumerate(self.paths)}
        if self.transposed and not tensor.rows_are_outputs:
            tensor = tensor.transposed()  # (sum of outputs, in)
        stops = np.cumsum([shapes[path][0] for path in self.paths]).tolist()
        starts = [0, *stops[:-1]]
        return {
            path: tensor.part(slice(start, stop)) for path, start, stop in zip(self.paths, starts, stops, strict=True)
        }

    def stored_shape(self, shapes: dict[str, tuple[int, ...]], rows_are_outputs: bool = False) -> tuple[int, ...]:
        """The tensor's shape in the file, from {path: shape} of the model's arrays.

        rows_are_outputs: whether the tensor is (out, in) also where this family stores (in, out).
        """
        shape = (sum(shapes[path][0] for path in self.paths), *shapes[self.paths[0]][1:])
        return shape[::-1] if self.transposed and not rows_are_outputs else shape


def tensor_mappings(
    family: Family, paths: Iterable[str], without_prefix: bool = False, compressed: Iterable[str] = ()
) -> dict[str, TensorMapping]:
    """{tensor name: mapping} for the arrays at `paths` of a model.

    compressed: paths of compressed modules, for which the family has no tensors. Their arrays are stored under the
    paths that they have in the model. If one module of a fused tensor is compressed, this holds for all its modules.
    Raises CheckpointError for any other array without a tensor in the family.
    """
    layout = {module: (stored, modules) for modules, stored in family.tensors.items() for module in _as_tuple(modules)}
    compressed, paths = set(compressed), list(paths)
    dense = {path for path in paths if path.rpartition(".")[0] not in compressed}
    mappings = {}
    for path in paths:
        module, _, name = path.rpartition(".")
        pattern, numbers = _pattern(module)
        if path not in dense:
            mappings[path] = TensorMapping((path,), compressed=True)
            continue
        if pattern not in layout:
            raise CheckpointError(f"a {family.model_type} checkpoint has no tensor for {path}")
        stored, modules = layout[pattern]
        group = tuple(f"{each.format(**numbers)}.{name}" for each in _as_tuple(modules))
        if not dense.issuperset(group):
            mappings[path] = TensorMapping((path,), compressed=True)
        elif path == group[0]:
            stored_name = f"{stored.format(**numbers)}.{'weight' if name == 'table' else name}"
            for current, old in family.endings.items():
                if stored_name.endswith(current):
                    stored_name = stored_name.removesuffix(current) + old
            stored_name = stored_name.removeprefix(family.base) if without_prefix else stored_name
            transposed = stored in family.transposed and name == "weight"
            block = family.head_dim if stored in family.by_head else 0
            mappings[stored_name] = TensorMapping(group, transposed, block=block)
    return mappings


def written_mappings(
    family: Family, paths: Iterable[str], without_prefix: bool = False, compressed: Iterable[str] = ()
) -> dict[str, TensorMapping]:
    """As `tensor_mappings`, with the duplicates of tensors that transformers expects in a file."""
    mappings = tensor_mappings(family, paths, without_prefix, compressed)
    return mappings | {copy: mappings[name] for copy, name in family.written_copies.items() if name in mappings}


def _as_tuple(modules):
    return (modules,) if isinstance(modules, str) else modules


def _pattern(module):
    """ "layers.3.feed_forward.experts.2.up" -> ("layers.{i}.feed_forward.experts.{e}.up", {"i": 3, "e": 2})."""
    parts, numbers = module.split("."), {}
    for position, part in enumerate(parts):
        if part.isdigit():
            letter = "ie"[len(numbers)]
            numbers[letter], parts[position] = int(part), f"{{{letter}}}"
    return ".".join(parts), numbers


def compressed_modules(model: Module, outline: Module) -> dict[str, Module]:
    """{path: module} of the compressed modules: their type differs from the module at the same path of `outline`.

    outline: dense model of the same configuration.
    """
    modules = named_modules(model)
    dense = named_modules(outline, REPLACEABLE)
    return {path: modules[path] for path, module in dense.items() if type(modules.get(path)) is not type(module)}
