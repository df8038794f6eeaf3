"""Which tensor of a checkpoint holds which arrays of a model: the table of a family, applied to one model."""

from dataclasses import replace
from typing import NamedTuple

import numpy as np

from tinyslm.checkpoints.families import Family
from tinyslm.errors import CheckpointError
from tinyslm.modules import Embedding, Linear
from tinyslm.tree import named_modules

REPLACEABLE = Linear | Embedding  # what a compressed module may stand in for


class Place(NamedTuple):
    """One tensor of a checkpoint: the arrays at `paths`, joined along their outputs."""

    paths: tuple[str, ...]
    transposed: bool = False  # stored as (in, out)
    apart: bool = False  # not as the family has it, but under its own path

    def join(self, arrays):
        """The tensor as the file holds it, from the model's arrays."""
        tensor = arrays[0] if len(arrays) == 1 else np.concatenate(arrays)  # (sum of outputs, in)
        return tensor.T if self.transposed else tensor

    def split(self, tensor, rows):
        """The reverse, for a stored tensor: one for each number of rows. Nothing is read."""
        bits = tensor.bits.T if self.transposed else tensor.bits  # (sum of outputs, in)
        return [replace(tensor, shape=part.shape, bits=part) for part in np.split(bits, np.cumsum(rows)[:-1])]

    def stored_shape(self, shapes):
        """The shape of the tensor, from the shapes of the model's arrays."""
        shape = (sum(shape[0] for shape in shapes), *shapes[0][1:])
        return shape[::-1] if self.transposed else shape


def places(family: Family, paths, bare=False, own=()) -> dict[str, Place]:
    """{tensor name: place} for the arrays at `paths` of a model.

    own: modules that the family's layout cannot hold (compressed ones): their arrays keep their path as name. So do
    those that the file would join with one of them.
    Raises CheckpointError for an array that the family has no tensor for.
    """
    where = {module: (stored, modules) for modules, stored in family.tensors.items() for module in _several(modules)}
    own, paths = set(own), list(paths)
    plain = {path for path in paths if path.rpartition(".")[0] not in own}
    found = {}
    for path in paths:
        module, _, name = path.rpartition(".")
        pattern, numbers = _pattern(module)
        if path not in plain:
            found[path] = Place((path,), apart=True)
            continue
        if pattern not in where:
            raise CheckpointError(f"a {family.model_type} checkpoint has no tensor for {path}")
        stored, modules = where[pattern]
        group = tuple(f"{each.format(**numbers)}.{name}" for each in _several(modules))
        if not plain.issuperset(group):
            found[path] = Place((path,), apart=True)
        elif path == group[0]:
            stored_name = f"{stored.format(**numbers)}.{'weight' if name == 'table' else name}"
            for today, old in family.endings.items():
                if stored_name.endswith(today):
                    stored_name = stored_name.removesuffix(today) + old
            found[stored_name.removeprefix(family.base) if bare else stored_name] = Place(
                group, stored in family.transposed and name == "weight"
            )
    return found


def _several(modules):
    return (modules,) if isinstance(modules, str) else modules


def _pattern(module):
    """ "layers.3.feed_forward.experts.2.up" -> ("layers.{i}.feed_forward.experts.{e}.up", {"i": 3, "e": 2})."""
    parts, numbers = module.split("."), {}
    for position, part in enumerate(parts):
        if part.isdigit():
            letter = "ie"[len(numbers)]
            numbers[letter], parts[position] = int(part), f"{{{letter}}}"
    return ".".join(parts), numbers


def replaced_modules(model, skeleton) -> dict:
    """{path: module} where a model has another kind of module than the skeleton of its family: the compressed ones."""
    theirs = named_modules(model)
    ours = named_modules(skeleton, REPLACEABLE)
    return {path: theirs[path] for path, module in ours.items() if type(theirs.get(path)) is not type(module)}
