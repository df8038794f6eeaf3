"""Product of one token with 4-bit weights whose scales belong to groups of inputs.

The scales multiply the sums over the groups instead of the weights. This is the fast form of
`four_bit_product_definition` for batch size 1; with more tokens, dequantizing the weights costs less than the sums.
Lesson: `lessons/09_quantization.py`.
"""

import numpy as np

from tinyslm.compression.quantization.affine import QuantizedArray
from tinyslm.compression.quantization.bit_packing import unpack_codes
from tinyslm.ops.tiles import row_slices
from tinyslm.parallel import map_shares

TILE_BYTES = 2**20  # of codes in floating point: small enough for the cache of a core
MASKS = np.array([[0x0F], [0xF0]], np.uint8)  # of the first code of a byte, and of 16 times the second one
OFFSET = 8  # a packed code is the distance from code -8


def four_bit_product_definition(x, packed, scale, zero_point):
    """Definition of `four_bit_product`: x W^T with W = scale * (codes - zero_point)."""
    group_size = len(x) // scale.shape[1]
    return QuantizedArray(unpack_codes(packed, 4, len(x)), scale, zero_point, 4, group_size).dequantize() @ x


def four_bit_product(x, packed, scale, zero_point):
    """Product x W^T of one token, where row o of W is s_g (u_i - z_g) for the inputs i of group g.

    x: (in,);  packed: (out, in / 2) uint8, from `pack_codes`;  scale: (out, groups), groups of an even number of
    inputs;  zero_point: (out, groups) int32, or None for 0;  returns (out,), dtype of x. Output o is

        y_o = sum_g s_g (sum_{i in g} u_i x_i - z_g sum_{i in g} x_i).

    Packed codes are the distances u + 8 from the smallest code, so 8 is added to the zero points.
    """
    (out, half_row), groups = packed.shape, scale.shape[1]
    inputs = np.concatenate([x[::2], x[1::2] / 16])  # (in,), the inputs of the first codes, then of the second ones
    columns = inputs.reshape(1, -1, 1) if groups == 1 else _columns_of_groups(inputs.reshape(2 * groups, -1))
    group_sums = np.sum(x.reshape(groups, -1), axis=1)  # (groups,)
    y = np.empty(out, x.dtype)

    def multiply(share):
        codes, scales = packed[share, None], scale[share]  # (n, 1, in / 2), (n, groups)
        tiles = list(row_slices(len(codes), x.nbytes, TILE_BYTES))
        nibbles = np.empty((tiles[0].stop, 2, half_row), np.uint8)
        tile = np.empty(nibbles.shape, x.dtype)
        factors = tile.reshape(len(tile), *columns.shape[:2]).swapaxes(0, 1)  # (products, tile, inputs of a product)
        sums = np.empty((len(codes), len(columns), columns.shape[2]), x.dtype)
        for rows in tiles:
            count = rows.stop - rows.start
            np.bitwise_and(codes[rows], MASKS, out=nibbles[:count])
            np.copyto(tile[:count], nibbles[:count])
            np.matmul(factors[:, :count], columns, out=sums[rows].swapaxes(0, 1))
        group_products = np.sum(sums.reshape(len(codes), -1, groups), axis=1)  # (n, groups)
        zeros = scales * OFFSET if zero_point is None else scales * (zero_point[share] + OFFSET).astype(scale.dtype)
        y[share] = np.vecdot(group_products, scales) - zeros @ group_sums

    if out:
        map_shares(multiply, out, work=2 * packed.size)
    return y


def _columns_of_groups(groups):
    """Matrices whose products are sums over two groups: the inputs of each group are in a column of their own.

    groups: (n, inputs of a group), n even;  returns (n / 2, inputs of two groups, 2).
    """
    pairs = groups.reshape(-1, 2, groups.shape[1])  # (n / 2, 2, inputs of a group)
    columns = np.zeros((*pairs.shape, 2), groups.dtype)
    columns[:, 0, :, 0], columns[:, 1, :, 1] = pairs[:, 0], pairs[:, 1]
    return columns.reshape(len(pairs), -1, 2)
