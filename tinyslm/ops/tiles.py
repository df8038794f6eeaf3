"""Tiled products with a matrix in 8-bit codes or half precision: each tile of rows is converted, used and overwritten.

Codes of 8 bits and half-precision numbers are converted to the dtype of the product a tile at a time. A tile fits in
the cache of one core, so the converted matrix is never written to main memory.
"""

import numpy as np

from tinyslm.ops.linear import rows_times_weight
from tinyslm.parallel import map_shares


def row_slices(num_rows, row_bytes, tile_bytes):
    """Yield slices of `num_rows` rows: tiles of at most `tile_bytes`, or of one row. row_bytes: the size of a row."""
    step = max(1, tile_bytes // max(1, row_bytes))
    for start in range(0, num_rows, step):
        yield slice(start, min(start + step, num_rows))


def filled_tiles(slices, empty_rows, fill):
    """Yield (rows, tile) for each slice of rows, after `fill(rows, tile)` has written the tile's numbers.

    empty_rows(n) allocates the memory of the first and largest tile. Every tile overwrites the one before it.
    """
    buffer = None
    for rows in slices:
        if buffer is None:
            buffer = empty_rows(rows.stop - rows.start)
        tile = buffer[: rows.stop - rows.start]
        fill(rows, tile)
        yield rows, tile


def multiply_in_tiles(x, tiles, num_outputs, **work):
    """Product x W^T, where threads share the rows of W.

    x: (N, in);  tiles: a function that yields (rows, tile) of W[share] for a slice `share`;  num_outputs: the number of
    rows of W;  work: as in `map_shares`;  returns (N, num_outputs), dtype of x.
    """
    y = np.empty((len(x), num_outputs), x.dtype)

    def multiply(share):
        part = y[:, share]  # (N, rows of the share)
        for rows, tile in tiles(share):
            rows_times_weight(x, tile, out=part[:, rows])

    map_shares(multiply, num_outputs, **work)
    return y


def input_gradient_in_tiles(dy, tiles, num_inputs, dtype):
    """Product dy W: the gradient of `multiply_in_tiles` with respect to x. dy: (N, out);  returns (N, num_inputs)."""
    dx = np.zeros((len(dy), num_inputs), dtype)
    for rows, tile in tiles(slice(None)):
        dx += dy[:, rows] @ tile
    return dx
