"""Exact products of integer matrices at the speed of floating-point ones.

NumPy multiplies integer matrices without BLAS, a hundred times slower, and int8 @ int8 wraps around silently. But a
float32 holds every integer up to 2^24 exactly, so a float32 product of codes is exact as long as no partial sum
can grow beyond 2^24, in whatever order BLAS adds.
"""

import numpy as np

from tinyslm.compression.quantization.affine import quantize
from tinyslm.errors import DataError
from tinyslm.parallel import map_shares

EXACT_IN_FLOAT32 = 2**24  # every integer of at most this magnitude is a float32
LARGEST_INT32 = 2**31 - 1
ROWS = 512  # of w at a time: 2 MB when they are as long as a block and wide


def block_length(x_dtype, w_dtype):
    """How many products of two codes are certain to add up to at most 2^24: 1,024 for int8, 258 for uint8.

    int8 codes have magnitude at most 128, and K * 128 * 128 <= 2^24 means K <= 1,024; 2^24 itself is still exact. (The
    codes from -127 to 127 of symmetric quantization alone would allow 1,040.)
    """
    return EXACT_IN_FLOAT32 // (_largest_magnitude(x_dtype) * _largest_magnitude(w_dtype))


def _largest_magnitude(dtype):
    info = np.iinfo(dtype)
    return max(-int(info.min), int(info.max))


def integer_matmul(x, w):
    """x w^T in exact integer arithmetic. x: (n, K), w: (m, K) integer codes, int8 usually;  returns (n, m) int32.

    The K axis is cut into blocks whose float32 product is exact; their sum is formed in int32, which has room for
    K <= 131,071 products of int8 codes. Raises DataError beyond that, and for other than 8-bit codes.
    """
    if x.ndim != 2 or w.ndim != 2 or x.shape[1] != w.shape[1]:
        raise DataError(f"integer_matmul needs codes of shapes (n, K) and (m, K), found {x.shape} and {w.shape}")
    if any(np.dtype(codes.dtype).kind not in "iu" or codes.dtype.itemsize != 1 for codes in (x, w)):
        raise DataError(f"integer_matmul needs 8-bit integer codes, found {x.dtype} and {w.dtype}")
    K = x.shape[1]
    if K * _largest_magnitude(x.dtype) * _largest_magnitude(w.dtype) > LARGEST_INT32:
        raise DataError(f"a sum of {K} products of {x.dtype} and {w.dtype} codes can overflow int32")
    block = block_length(x.dtype, w.dtype)
    product = np.empty((len(x), len(w)), np.int32)
    wide_x = x.astype(np.float32)

    def multiply(share):  # each thread has rows of w, a few at a time, so that they are in its cache when they are wide
        for first in range(share.start, share.stop, ROWS):
            rows = slice(first, min(first + ROWS, share.stop))
            for start in range(0, max(K, 1), block):  # once if K is 0: a sum of nothing is 0
                columns = slice(start, start + block)
                partial = wide_x[:, columns] @ w[rows, columns].astype(np.float32).T  # (n, rows), exact integers
                if start == 0:
                    product[:, rows] = partial
                else:
                    product[:, rows] += partial.astype(np.int32)

    map_shares(multiply, len(w), work=w.size)
    return product


def affine_matmul(x, w, x_zero_point=None, w_zero_point=None):
    """(x - Zx)(w - Zw)^T from the product of the codes and three corrections. All int32, exact.

    = x w^T - rowsum(x) Zw^T - Zx rowsum(w)^T + K Zx Zw^T.
    x: (n, K), w: (m, K) int8 codes;  x_zero_point: () or (n, 1);  w_zero_point: () or (m, 1);  None for zero, which
    saves the terms it is in;  returns (n, m). Distances from a zero point reach 255: int32 has room for K <= 33,025.
    Source: gemmlowp, doc/low-precision.md; Jacob et al. 2018, eq. 7.
    """
    K = x.shape[-1]
    if K * 255 * 255 > LARGEST_INT32:
        raise DataError(f"a sum of {K} products of distances up to 255 can overflow int32")
    product = integer_matmul(x, w)  # (n, m)
    if w_zero_point is not None:
        w_zero_point = w_zero_point.reshape(1, -1).astype(np.int32)  # (1, m) or (1, 1)
        product -= np.sum(x, axis=1, dtype=np.int32, keepdims=True) * w_zero_point
    if x_zero_point is not None:
        x_zero_point = x_zero_point.reshape(-1, 1).astype(np.int32)  # (n, 1) or (1, 1)
        product -= x_zero_point * np.sum(w, axis=1, dtype=np.int32)
    if x_zero_point is not None and w_zero_point is not None:
        product += np.int32(K) * x_zero_point * w_zero_point
    return product


def quantize_tokens(x, *, symmetric=True):
    """Activations in 8 bits with one scale per token, chosen from the token itself at run time ("dynamic").

    x: (N, in);  returns a `QuantizedArray` with scale (N, 1). One scale per input feature would be finer where it is
    needed, but could not be taken out of the sum over features.
    Source: Yao et al. 2022 (ZeroQuant), token-wise quantization.
    """
    return quantize(x, axis=0, symmetric=symmetric)
