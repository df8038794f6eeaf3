"""Packed storage of a masked layer: one bit per weight for the mask, and only the kept weights."""

from dataclasses import replace

import numpy as np

from tinyslm.checkpoints.safetensors import PendingTensor
from tinyslm.checkpoints.upcasting import release_pages
from tinyslm.errors import CheckpointError
from tinyslm.tree import Array

PACKED = ("kept_weights", "packed_mask")


def pack_mask(tensors: dict[str, PendingTensor], weight: Array, mask: Array) -> dict[str, PendingTensor]:
    """Replace weight and mask (out, in) by kept_weights (n,) and packed_mask (ceil(out * in / 8),), 8 weights per byte.

    Tensors of a layer with a removed weight that is not exactly +0.0 are returned as they are: packing would lose it.
    """
    released = (weight, mask)
    count, is_exact = _reading(released, lambda: (int(np.count_nonzero(mask)), _removed_are_zero(weight, mask)))
    if not is_exact:
        return tensors
    others = {name: tensor for name, tensor in tensors.items() if name not in ("weight", "mask")}
    kept = replace(tensors["weight"], shape=(count,), parts=lambda: [_reading(released, lambda: weight[mask])])
    length = -(-mask.size // 8)
    packed = PendingTensor("U8", (length,), lambda: [_reading(released, lambda: np.packbits(mask))])
    return others | {"kept_weights": kept, "packed_mask": packed}


def _removed_are_zero(weight, mask):
    """Whether each weight where the mask is False is +0.0."""
    removed = weight[~mask]
    return not (np.any(removed) or np.any(np.signbit(removed)))


def _reading(arrays, compute):
    """compute(), after which the pages of `arrays` that are mapped from a file are released."""
    result = compute()
    for array in arrays:
        release_pages(array)
    return result


def unpack_mask(arrays: dict[str, Array], shape: tuple[int, int], where: str) -> dict[str, Array]:
    """The reverse of `pack_mask`. shape: (out, in). Raises CheckpointError where the arrays do not fit the shape."""
    kept, packed = (arrays.get(name) for name in PACKED)
    if kept is None and packed is None:
        return arrays
    packed = _checked_mask(packed, shape, where)
    mask = np.unpackbits(packed, count=shape[0] * shape[1]).astype(bool).reshape(shape)
    if kept is None or kept.shape != (np.count_nonzero(mask),):
        found = "missing" if kept is None else f"{kept.shape}"
        raise CheckpointError(f"{where}: kept_weights is {found}, expected ({np.count_nonzero(mask)},)")
    weight = np.zeros(shape, kept.dtype)
    weight[mask] = kept
    return _without_packed(arrays) | {"weight": weight, "mask": mask}


def unpack_outline(arrays: dict[str, Array], shape: tuple[int, int], where: str) -> dict[str, Array]:
    """`unpack_mask` for an outline, whose arrays are zeros that need no memory. The number of ones is not known."""
    if not arrays.keys() >= set(PACKED):
        return arrays
    kept = arrays["kept_weights"]
    _checked_mask(arrays["packed_mask"], shape, where)
    if kept.ndim != 1 or kept.size > shape[0] * shape[1]:
        raise CheckpointError(f"{where}: kept_weights is {kept.shape}, expected at most ({shape[0] * shape[1]},)")
    weight = np.broadcast_to(kept.dtype.type(0), shape)
    return _without_packed(arrays) | {"weight": weight, "mask": np.broadcast_to(np.False_, shape)}


def _checked_mask(packed, shape, where) -> np.ndarray:
    """The packed mask. Raises CheckpointError unless it has a bit for every weight of a matrix (out, in)."""
    num_bytes = -(-shape[0] * shape[1] // 8)
    if packed is None or packed.dtype != np.uint8 or packed.shape != (num_bytes,):
        found = "missing" if packed is None else f"{packed.dtype}{packed.shape}"
        raise CheckpointError(f"{where}: packed_mask is {found}, expected uint8({num_bytes},)")
    return packed


def _without_packed(arrays):
    return {name: array for name, array in arrays.items() if name not in PACKED}
