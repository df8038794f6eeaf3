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
