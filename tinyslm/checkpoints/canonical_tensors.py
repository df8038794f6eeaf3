"""In what the files of one family differ: old names, copies, a head that is tied or not, parts that may be missing.

tensors is {name: StoredTensor} everywhere; a family tells in its fields what may be. Only what is compared is read.
"""

import numpy as np

from tinyslm.checkpoints.json_files import shown
from tinyslm.checkpoints.tensor_mapping import places
from tinyslm.checkpoints.upcasting import row_slices
from tinyslm.errors import CheckpointError


def with_current_names(tensors, family):
    """The tensors by the endings that their names have today."""

    def renamed(name):
        for old, today in family.renamed.items():
            if name.endswith(old):
                return name.removesuffix(old) + today
        return name

    found = {}
    for name, tensor in tensors.items():
        if renamed(name) in found or (renamed(name) != name and renamed(name) in tensors):
            raise CheckpointError(f"{tensor.file}: tensor {shown(name)} is there under its name of today, too")
        found[renamed(name)] = tensor
    return found


def without_copies(tensors, family):
    """The tensors without those that are there a second time; a copy serves where the first is missing."""
    kept = {name: tensor for name, tensor in tensors.items() if name not in family.copies}
    for name, original in family.copies.items():
        if name not in tensors:
            continue
        first, second = kept.setdefault(original, tensors[name]), tensors[name]
        if not _are_equal(first, second):
            raise CheckpointError(f"{second.file}: tensor {shown(name)} is no copy of {shown(original)}, as expected")
    return kept


def optional_parts(tensors, family, bare):
    """The flags of the configuration that say which of its optional parts a model has: those with tensors."""
    flags = {}
    for flag, (stored, module) in family.optional.items():
        beginnings = (stored.removeprefix(family.base) if bare else stored, module)  # as stored, or compressed
        flags[flag] = any(name.startswith(beginnings) for name in tensors)
    return flags


def _name(path, family, bare):
    """What a family calls one array outside the layers."""
    return next(iter(places(family, [path], bare)))


def is_tied(tensors, says_tied, family, bare):
    """Whether the embedding serves as the head. Two different matrices do not, whatever config.json says."""
    head, embedding = next(iter(_tied_names(family, bare).items()))  # the matrices
    if head in tensors and embedding in tensors:
        return says_tied and _are_equal(tensors[head], tensors[embedding])
    return says_tied


def _tied_names(family, bare):
    """{tensor of an untied head: the one that it repeats where the head is tied}."""
    return {_name(head, family, bare): _name(embedding, family, bare) for head, embedding in family.tied.items()}


def _are_equal(one, other):
    """The same numbers in the same dtype."""
    if (one.dtype, one.shape) != (other.dtype, other.shape):
        return False
    first, second = np.atleast_1d(one.bits, other.bits)
    return all(np.array_equal(first[rows], second[rows]) for rows in row_slices(first, second))


def without_head(tensors, family, bare):
    """The tensors of a tied model, what head and embedding share under the name of the embedding."""
    names = _tied_names(family, bare)
    for head, embedding in names.items():
        if head in tensors and embedding in tensors and not _are_equal(tensors[head], tensors[embedding]):
            raise CheckpointError(f"{tensors[head].file}: tensor {shown(head)} is no copy of {shown(embedding)}")
    kept = {name: tensor for name, tensor in tensors.items() if name not in names}
    return {names[name]: tensors[name] for name in names if name in tensors} | kept


def with_bias_of_head(tensors, family, bare):
    """The tensors of a model with a head of its own, whose bias may be stored as that of a tied one."""
    _, *biases = _tied_names(family, bare).items()
    return {head: tensors[bias] for head, bias in biases if bias in tensors} | tensors
