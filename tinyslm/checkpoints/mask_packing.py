"""Storing a masked layer in fewer bytes: one bit per weight for the mask, and the kept weights only."""

from typing import Any, NamedTuple

import numpy as np

from tinyslm.errors import CheckpointError


class Packing(NamedTuple):
    """How one kind of module is stored, where its arrays as they are would be a waste."""

    pack: Any  # (entry, arrays) -> (entry, arrays)
    unpack: Any  # (entry, arrays, shape, where) -> (entry, arrays)


def pack_masked(entry, arrays):
    """weight and mask (out, in) -> kept_weights (n,) and packed_mask (ceil(out * in / 8),), eight weights per byte.

    Left as they are where a removed weight is not 0.0 bit for bit: it could not be read back.
    """
    arrays = dict(arrays)
    weight, mask = arrays["weight"], arrays["mask"]
    removed = weight[~mask]
    if np.any(removed) or np.any(np.signbit(removed)):
        return entry, arrays
    del arrays["weight"], arrays["mask"]
    return entry, arrays | {"kept_weights": weight[mask], "packed_mask": np.packbits(mask)}


def unpack_masked(entry, arrays, shape, where):
    """The reverse. shape: (out, in). Raises CheckpointError where the numbers do not fit."""
    arrays = dict(arrays)
    kept, packed = arrays.pop("kept_weights", None), arrays.pop("packed_mask", None)
    if kept is None and packed is None:
        return entry, arrays
    size = shape[0] * shape[1]
    if packed is None or packed.dtype != np.uint8 or packed.shape != (-(-size // 8),):
        found = "missing" if packed is None else f"{packed.dtype}{packed.shape}"
        raise CheckpointError(f"{where}: packed_mask is {found}, expected uint8({-(-size // 8)},)")
    mask = np.unpackbits(packed, count=size).astype(bool).reshape(shape)
    if kept is None or kept.shape != (np.count_nonzero(mask),):
        found = "missing" if kept is None else kept.shape
        raise CheckpointError(f"{where}: kept_weights is {found}, expected ({np.count_nonzero(mask)},)")
    weight = np.zeros(shape, kept.dtype)
    weight[mask] = kept
    return entry, arrays | {"weight": weight, "mask": mask}


def without_packing(arrays, shape):
    """Arrays in outline (zeros that take no memory) as they would be unpacked. shape: (out, in)."""
    if not {"kept_weights", "packed_mask"} <= arrays.keys():
        return arrays
    others = {name: array for name, array in arrays.items() if name not in ("kept_weights", "packed_mask")}
    weight = np.broadcast_to(arrays["kept_weights"].dtype.type(0), shape)
    return others | {"weight": weight, "mask": np.broadcast_to(np.False_, shape)}


PACKING = {"MaskedLinear": Packing(pack_masked, unpack_masked)}
