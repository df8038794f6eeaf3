"""Products in tiles are the product with the whole matrix, whatever the sizes of the tiles."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from tests.strategies import generators
from tinyslm.ops.tiles import filled_tiles, input_gradient_in_tiles, multiply_in_tiles, row_slices


@given(st.integers(0, 30), st.integers(0, 9), st.integers(1, 99))
def test_slices_cover_all_rows_in_order(num_rows, row_bytes, tile_bytes):
    slices = list(row_slices(num_rows, row_bytes, tile_bytes))
    assert [row for rows in slices for row in range(num_rows)[rows]] == list(range(num_rows))
    assert all(rows.stop - rows.start == 1 or (rows.stop - rows.start) * row_bytes <= tile_bytes for rows in slices)


@given(generators(), st.integers(1, 20), st.integers(1, 6), st.integers(1, 4), st.integers(1, 200))
def test_products_in_tiles(rng, outputs, inputs, tokens, tile_bytes):
    weight = rng.integers(-9, 10, (outputs, inputs))
    x, dy = rng.standard_normal((tokens, inputs)), rng.standard_normal((tokens, outputs))

    def tiles(share):
        part = weight[share]
        slices = row_slices(len(part), 8 * inputs, tile_bytes)
        return filled_tiles(
            slices, lambda count: np.empty((count, inputs)), lambda rows, tile: np.copyto(tile, part[rows])
        )

    np.testing.assert_allclose(multiply_in_tiles(x, tiles, outputs), x @ weight.T, rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(input_gradient_in_tiles(dy, tiles, inputs, float), dy @ weight, rtol=1e-12, atol=1e-12)


def test_tiles_are_as_large_as_possible():
    """All tiles but the last have the same number of rows; a row of more than `tile_bytes` is a tile of its own."""
    for row_bytes, tile_bytes, expected in ((1, 3, 3), (2, 7, 3), (7, 7, 1), (8, 7, 1), (0, 4, 4), (3, 0, 1)):
        sizes = [rows.stop - rows.start for rows in row_slices(10, row_bytes, tile_bytes)]
        assert sizes[:-1] == [expected] * (len(sizes) - 1) and 1 <= sizes[-1] <= expected and sum(sizes) == 10


def test_every_tile_is_written_to_the_same_memory():
    sizes, made = [], []
    slices = [slice(0, 3), slice(3, 6), slice(6, 7)]
    for rows, tile in filled_tiles(slices, lambda count: made.append(count) or np.empty((count, 2)), fill_rows):
        sizes.append(tile.shape)
        assert tile.base is not None and (tile == rows.start).all()
    assert sizes == [(3, 2), (3, 2), (1, 2)] and made == [3]


def fill_rows(rows, tile):
    tile[:] = rows.start


def test_products_have_the_dtype_of_the_activations():
    x, weight = np.ones((2, 3), np.float32), np.ones((4, 3), np.float32)

    def tiles(share):
        yield slice(0, len(weight[share])), weight[share]

    y = multiply_in_tiles(x, tiles, 4)
    assert y.dtype == np.float32 and (y == 3).all()
    for dtype in (np.float32, np.float64):
        dx = input_gradient_in_tiles(y, tiles, 3, dtype)
        assert dx.dtype == dtype and (dx == 12).all()
