"""Canonical tensors: variations between checkpoint files of one family, brought into one form.

Files of one family differ in old tensor names, duplicated tensors, a tied or untied head, and optional parts. The
fields of `Family` list the variations. tensors is {name: StoredTensor or EncodedTensor} in all functions. Numbers are
read only where two tensors are compared.
"""

import warnings

import numpy as np

from tinyslm.checkpoints.encoded_tensor import EncodedTensor
from tinyslm.checkpoints.families import Family
from tinyslm.checkpoints.json_files import shown
from tinyslm.checkpoints.safetensors import StoredTensor
from tinyslm.checkpoints.tensor_mapping import tensor_mappings
from tinyslm.checkpoints.unread_tensors import is_task_head
from tinyslm.checkpoints.upcasting import row_slices
from tinyslm.errors import CheckpointError, CheckpointWarning

Tensors = dict[str, StoredTensor | EncodedTensor]


def with_current_names(tensors: Tensors, family: Family) -> Tensors:
    """The tensors with old name endings replaced by the current ones."""

    def renamed(name):
        for old, current in family.renamed.items():
            if name.endswith(old):
                return name.removesuffix(old) + current
        return name

    found = {}
    for name, tensor in tensors.items():
        if renamed(name) in found or (renamed(name) != name and renamed(name) in tensors):
            raise CheckpointError(f"{tensor.file}: tensor {shown(name)} is also stored as {shown(renamed(name))}")
        found[renamed(name)] = tensor
    return found


def without_repeated_prefix(tensors: Tensors, family: Family) -> Tensors:
    """The tensors with the prefix of the family once, where their names have it twice, as transformers reads them.

    Warns where it does so: the files come from a model that was saved from inside of another one.
    """
    twice = 2 * family.base
    if not family.base or not any(name.startswith(twice) for name in tensors):
        return tensors
    first = next(name for name in tensors if name.startswith(twice))
    warnings.warn(
        f"{tensors[first].file}: tensor names have the prefix {shown(family.base)} twice, such as {shown(first)}; they "
        "are read with one",
        CheckpointWarning,
        stacklevel=2,
    )
    once = {name: name.removeprefix(family.base) if name.startswith(twice) else name for name in tensors}
    repeated = next((name for name, new in once.items() if new != name and new in tensors), None)
    if repeated is not None:
        raise CheckpointError(f"{tensors[repeated].file}: tensor {shown(repeated)} is also stored with one prefix")
    return {once[name]: tensor for name, tensor in tensors.items()}


def without_copies(tensors: Tensors, family: Family) -> Tensors:
    """The tensors without duplicates. If the original is missing, its duplicate is kept under the original's name."""
    kept = {name: tensor for name, tensor in tensors.items() if name not in family.copies}
    for name, original in family.copies.items():
        if name in tensors:
            _require_copy(tensors[name], name, kept.setdefault(original, tensors[name]), original)
    return kept


def optional_parts(tensors: Tensors, family: Family, without_prefix: bool) -> dict[str, bool]:
    """{flag of the configuration: whether the optional part has tensors}."""
    flags = {}
    for flag, (stored, module) in family.optional.items():
        prefixes = (stored.removeprefix(family.base) if without_prefix else stored, module)  # as stored, or compressed
        flags[flag] = any(name.startswith(prefixes) for name in tensors)
    if family.shared_head and any(is_task_head(name) for name in tensors):
        flags["masked_head"] = False
    return flags


def is_tied(tensors: Tensors, config_is_tied: bool, family: Family, without_prefix: bool) -> bool:
    """Whether the head is tied: config.json requires it, and the file holds no head that differs from the embedding."""
    head, embedding = next(iter(_tied_names(family, without_prefix).items()))  # the matrices
    if head in tensors and embedding in tensors:
        return config_is_tied and _are_equal(tensors[head], tensors[embedding])
    return config_is_tied


def _tied_names(family, without_prefix):
    """{tensor of an untied head: the tensor that holds the same numbers in a tied model}."""

    def name(path):
        return next(iter(tensor_mappings(family, [path], without_prefix)))

    return {name(head): name(embedding) for head, embedding in family.tied.items()}


def _are_equal(one, other):
    """Whether two tensors have equal dtypes, shapes and numbers."""
    if (one.dtype, one.shape) != (other.dtype, other.shape):
        return False
    if isinstance(one, EncodedTensor) or isinstance(other, EncodedTensor):
        return np.array_equal(one.read(), other.read())
    first, second = np.atleast_1d(one.bits, other.bits)
    return all(np.array_equal(first[rows], second[rows]) for rows in row_slices(first, second))


def _require_copy(tensor, name, original, original_name):
    if not _are_equal(tensor, original):
        raise CheckpointError(
            f"{tensor.file}: tensor {shown(name)} differs from {shown(original_name)}, expected an exact copy"
        )


def without_head(tensors: Tensors, family: Family, without_prefix: bool) -> Tensors:
    """The tensors of a tied model; tensors that head and embedding share have the name of the embedding."""
    names = _tied_names(family, without_prefix)
    for head, embedding in names.items():
        if head in tensors and embedding in tensors:
            _require_copy(tensors[head], head, tensors[embedding], embedding)
    kept = {name: tensor for name, tensor in tensors.items() if name not in names}
    return {names[name]: tensors[name] for name in names if name in tensors} | kept


def with_head_bias(tensors: Tensors, family: Family, without_prefix: bool) -> Tensors:
    """The tensors of an untied model. A head bias under the tied model's name is renamed to the untied model's name."""
    _, *biases = _tied_names(family, without_prefix).items()
    return {head: tensors[bias] for head, bias in biases if bias in tensors} | tensors
