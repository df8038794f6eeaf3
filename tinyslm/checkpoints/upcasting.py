"""Upcasting stored weights to float32, a tile of rows at a time.

Files hold float32, float16 or bfloat16; arithmetic is in float32. Each tile fits in the cache of one core and is
overwritten by the next, so a matrix is never in memory twice. Pages of a memory-mapped file are released after use.
"""

import math
import mmap
from collections.abc import Iterator

import numpy as np

from tinyslm.ops import tiles

TILE_BYTES = 2**19  # of float32 numbers: small enough for the cache of one core, large enough for BLAS
READ_AROUND = 2**21  # bytes: reading one page of a mapped file can load this much around it


def upcast(stored: np.ndarray, out: np.ndarray) -> np.ndarray:
    """Write stored numbers into `out`, an array of the same shape, and return it.

    stored: floating-point numbers of any precision, or bfloat16 as its bits (uint16). bfloat16 is the upper half of a
    float32, and `out` must then be float32.
    """
    if stored.dtype == np.uint16:
        bits = out.view(np.uint32)
        np.copyto(bits, stored)
        bits <<= 16
    else:
        with np.errstate(over="ignore", invalid="ignore"):  # beyond the range: infinite; a signalling NaN: NaN
            np.copyto(out, stored, casting="same_kind")
    return out


def row_slices(*arrays: np.ndarray, tile_bytes: int = TILE_BYTES) -> Iterator[slice]:
    """Yield slices of the first axis of arrays of one shape, of `tile_bytes` each when upcast to float32.

    Pages that were read are released once READ_AROUND bytes were used: releasing them after every tile would load the
    same pages several times.
    """
    rows, *others = arrays[0].shape
    if rows and not math.prod(others):  # rows without numbers are one tile, of any number of rows
        yield slice(0, rows)
        return
    released = 0  # all rows before this one are released
    for tile in tiles.row_slices(rows, 4 * math.prod(others), tile_bytes):
        yield tile
        if tile.stop == rows or arrays[0][released : tile.stop].nbytes >= READ_AROUND:
            for array in arrays:
                release_pages(array[released : tile.stop])
            released = tile.stop


def upcast_tiles(stored: np.ndarray, tile_bytes: int = TILE_BYTES) -> Iterator[tuple[slice, np.ndarray]]:
    """Yield (rows, stored[rows] as float32). The next tile overwrites the array: use each tile before the next step.

    stored: (n, ...), as in `upcast`, mapped from a file or not. float32 numbers are not copied.
    """
    if stored.dtype == np.float32:
        return ((rows, stored[rows]) for rows in row_slices(stored, tile_bytes=tile_bytes))
    return tiles.filled_tiles(
        row_slices(stored, tile_bytes=tile_bytes),
        lambda count: np.empty_like(stored[:count], np.float32),  # transposed where `stored` is
        lambda rows, tile: upcast(stored[rows], tile),
    )


def upcast_array(stored: np.ndarray) -> np.ndarray:
    """All numbers as a new float32 array."""
    array = np.empty(stored.shape, np.float32)
    for rows, tile in upcast_tiles(stored):
        array[rows] = tile
    return array


def release_pages(array: np.ndarray) -> None:
    """Release the pages of a memory-mapped array, so that they no longer count as memory of this process.

    A later read of the array maps the pages again, from the system's file cache if they are still in it. Has no effect
    on arrays that are not mapped, and on systems without `madvise`.
    """
    whole, owner = _whole_and_owner(array)
    if not isinstance(owner, mmap.mmap) or not hasattr(owner, "madvise") or not array.size:
        return
    origin = np.lib.array_utils.byte_bounds(whole)[0]  # the file is mapped from its beginning
    first, last = (address - origin for address in np.lib.array_utils.byte_bounds(array))
    start, stop = first // READ_AROUND * READ_AROUND, -(-last // READ_AROUND) * READ_AROUND
    owner.madvise(mmap.MADV_DONTNEED, start, min(stop, len(owner)) - start)


def is_mapped(array: np.ndarray) -> bool:
    """Whether an array is memory-mapped from a file."""
    return isinstance(_whole_and_owner(array)[1], mmap.mmap)


def _whole_and_owner(array):
    """The array of which `array` is a view, or itself, and the object that has its memory."""
    whole, owner = array, array.base
    while isinstance(owner, np.ndarray):
        whole, owner = owner, owner.base
    return whole, owner
