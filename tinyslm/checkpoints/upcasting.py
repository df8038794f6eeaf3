"""Stored numbers as float32, a few rows at a time, so that a matrix is never in memory twice.

Files hold float32, float16 or bfloat16; arithmetic is in float32. A tile of rows that fits in the cache is widened into
a buffer, used, and overwritten by the next one; and what was read of a mapped file does not stay in memory.
"""

import math
import mmap

import numpy as np

TILE_BYTES = 2**19  # of widened numbers: small enough for the cache of one core, large enough for BLAS
READ_AROUND = 2**21  # bytes: whoever touches a page of a mapped file may get as much of what is around it


def upcast(stored, out):
    """Write stored numbers into `out`, an array of the same shape, and return it.

    stored: floating-point numbers of any precision, or bfloat16 as its bits (uint16): these are the upper half of a
    float32, and `out` must be float32.
    """
    if stored.dtype == np.uint16:
        bits = out.view(np.uint32)
        np.copyto(bits, stored)
        bits <<= 16
    else:
        with np.errstate(over="ignore"):  # a float64 beyond float32 becomes infinite
            np.copyto(out, stored, casting="same_kind")
    return out


def row_slices(*arrays):
    """Yield slices of the first axis of arrays of one shape, of TILE_BYTES each when widened to float32.

    What was read of the arrays is given back now and then: after every tile would map the same pages again and again.
    """
    rows, *others = arrays[0].shape
    step = max(1, TILE_BYTES // (4 * max(1, math.prod(others))))
    kept = 0  # what is before this row has been given back
    for start in range(0, rows, step):
        stop = min(start + step, rows)
        yield slice(start, stop)
        if stop == rows or arrays[0][kept:stop].nbytes >= READ_AROUND:
            for array in arrays:
                release_pages(array[kept:stop])
            kept = stop


def upcast_tiles(stored):
    """Yield (rows, stored[rows] as float32). Each tile is overwritten by the next: use it before asking for more.

    stored: (n, ...), as in `widen`, mapped from a file or not. What is float32 already is not copied.
    """
    buffer = None
    for rows in row_slices(stored):
        tile = stored[rows]
        if stored.dtype != np.float32:
            if buffer is None:
                buffer = np.empty_like(tile, np.float32)  # transposed where `stored` is
            tile = upcast(tile, buffer[: len(tile)])
        yield rows, tile


def upcast_array(stored):
    """All of it as float32, in memory of its own."""
    wide = np.empty(stored.shape, np.float32)
    for rows, tile in upcast_tiles(stored):
        wide[rows] = tile
    return wide


def release_pages(array):
    """Say that the pages of a file behind a mapped array are not needed now; nothing happens to other arrays.

    Until then every page that was read counts as memory of this process. Reading the array again maps them again,
    from the system's own copy of the file if it still has one. Not every system can do it: then nothing is done.
    """
    whole, owner = array, array.base
    while isinstance(owner, np.ndarray):
        whole, owner = owner, owner.base
    if not isinstance(owner, mmap.mmap) or not hasattr(owner, "madvise") or not array.size:
        return
    origin = np.lib.array_utils.byte_bounds(whole)[0]  # the file is mapped from its beginning
    first, last = (address - origin for address in np.lib.array_utils.byte_bounds(array))
    start, stop = first // READ_AROUND * READ_AROUND, -(-last // READ_AROUND) * READ_AROUND
    owner.madvise(mmap.MADV_DONTNEED, start, min(stop, len(owner)) - start)
