"""Exact products of integer matrices at the speed of float32 products.

NumPy multiplies integer matrices without BLAS, a hundred times slower than floating-point ones, and int8 @ int8
overflows silently. A float32 represents every integer up to 2^24 exactly. So a float32 product of codes is exact if no
partial sum can exceed 2^24, whatever the order of summation in BLAS. `integer_matmul_definition` is the plain form,
`integer_matmul` the fast one. Lesson: `lessons/09_quantization.py`.
"""

import numpy as np

from tinyslm.compression.quantization.affine import QuantizedArray, quantize
from tinyslm.errors import DataError
from tinyslm.parallel import map_shares

EXACT_IN_FLOAT32 = 2**24  # every integer of at most this magnitude is a float32
LARGEST_INT32 = 2**31 - 1
ROWS = 256  # rows of w that are converted at a time: 1 MB of float32 for a block of 1,024 columns


def integer_matmul_definition(x, w):
    """Definition of `integer_matmul`: x w^T in int64 arithmetic. Codes (n, K) and (m, K) -> (n, m) int32."""
    return (x.astype(np.int64) @ w.astype(np.int64).T).astype(np.int32)


def integer_matmul(x: np.ndarray, w: np.ndarray) -> np.ndarray:
    """Exact integer matrix product x w^T of two matrices of 8-bit codes.

    The K axis is cut into blocks whose float32 product is exact, see `block_length`. The blocks are added in int32,
    which can hold K = 131,071 products of int8 codes.

    Parameters
    ----------
    x : ndarray, shape (n, K)
        8-bit integer codes, signed or unsigned.
    w : ndarray, shape (m, K)
        8-bit integer codes.

    Returns
    -------
    ndarray of int32, shape (n, m)

    Raises
    ------
    DataError
        If the shapes do not match, the codes are not 8-bit integers, or a sum of K products could overflow int32.

    Examples
    --------
    >>> integer_matmul(np.array([[127, 127]], np.int8), np.array([[127, 127], [1, -1]], np.int8))
    array([[32258,     0]], dtype=int32)
    """
    K = _require_codes(x, w)
    block = block_length(x.dtype, w.dtype)
    product = np.empty((len(x), len(w)), np.int32)
    float_x = x.astype(np.float32)

    def multiply(share):  # each thread computes a share of w, ROWS at a time: their float32 copy stays in the cache
        buffer = np.empty(ROWS * min(block, K), np.float32)
        for first in range(share.start, share.stop, ROWS):
            rows = slice(first, min(first + ROWS, share.stop))
            for start in range(0, max(K, 1), block):  # once if K is 0: an empty sum is 0
                columns = slice(start, start + block)
                codes = w[rows, columns]
                tile = buffer[: codes.size].reshape(codes.shape)
                np.copyto(tile, codes)
                partial = float_x[:, columns] @ tile.T  # (n, rows), exact integers
                if start == 0:
                    product[:, rows] = partial
                else:
                    product[:, rows] += partial.astype(np.int32)

    map_shares(multiply, len(w), work=w.size)
    return product


def block_length(x_dtype, w_dtype) -> int:
    """Largest number of products of two codes whose sum is at most 2^24: 1,024 for int8, 258 for uint8.

    int8 codes have magnitude at most 128, and K * 128 * 128 <= 2^24 means K <= 1,024; 2^24 itself is still exact. (The
    codes from -127 to 127 of symmetric quantization alone would allow 1,040.)
    """
    return EXACT_IN_FLOAT32 // (_largest_magnitude(x_dtype) * _largest_magnitude(w_dtype))


def _largest_magnitude(dtype):
    info = np.iinfo(dtype)
    return max(-int(info.min), int(info.max))


def _require_codes(x, w):
    """K of codes (n, K) and (m, K); raises DataError if they are not 8-bit codes whose product fits in int32."""
    if x.ndim != 2 or w.ndim != 2 or x.shape[1] != w.shape[1]:
        raise DataError(f"integer_matmul needs codes of shapes (n, K) and (m, K), found {x.shape} and {w.shape}")
    if any(np.dtype(codes.dtype).kind not in "iu" or codes.dtype.itemsize != 1 for codes in (x, w)):
        raise DataError(f"integer_matmul needs 8-bit integer codes, found {x.dtype} and {w.dtype}")
    K = x.shape[1]
    if K * _largest_magnitude(x.dtype) * _largest_magnitude(w.dtype) > LARGEST_INT32:
        raise DataError(f"a sum of {K} products of {x.dtype} and {w.dtype} codes can overflow int32")
    return K


def affine_matmul(
    x: np.ndarray, w: np.ndarray, x_zero_point: np.ndarray | None = None, w_zero_point: np.ndarray | None = None
) -> np.ndarray:
    """Exact product (x - Zx)(w - Zw)^T of codes with zero points: the product of the codes and three corrections.

    It equals x w^T - rowsum(x) Zw^T - Zx rowsum(w)^T + K Zx Zw^T.

    Parameters
    ----------
    x : ndarray of int8, shape (n, K)
    w : ndarray of int8, shape (m, K)
    x_zero_point : ndarray, shape () or (n, 1), optional
        None means 0 and saves its terms.
    w_zero_point : ndarray, shape () or (m, 1), optional
        None means 0 and saves its terms.

    Returns
    -------
    ndarray of int32, shape (n, m)

    Raises
    ------
    DataError
        As `integer_matmul`, and if K > 33,025: distances from a zero point reach 255, so a sum could overflow int32.
        If zero points are not integers.

    References
    ----------
    gemmlowp, doc/low-precision.md; Jacob et al. 2018 (arXiv 1712.05877), eq. 7.

    Examples
    --------
    >>> affine_matmul(np.array([[5, 7]], np.int8), np.array([[1, 2]], np.int8), np.int32(4), np.int32(1))
    array([[3]], dtype=int32)
    """
    K = x.shape[-1]
    if K * 255 * 255 > LARGEST_INT32:
        raise DataError(f"a sum of {K} products of distances up to 255 can overflow int32")
    for name, zero_point in (("x_zero_point", x_zero_point), ("w_zero_point", w_zero_point)):
        if zero_point is not None and zero_point.dtype.kind not in "iu":
            raise DataError(f"{name} has dtype {zero_point.dtype}, expected integers")
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


def quantize_tokens(x: np.ndarray, *, symmetric: bool = True) -> QuantizedArray:
    """Activations in 8 bits with one scale per token, computed at run time from the token itself ("dynamic").

    One scale per input feature would fit outlier features better, but it cannot be taken out of the sum over features.

    Parameters
    ----------
    x : ndarray, shape (N, in)
        Activations, one row per token.
    symmetric : bool
        Whether the zero points are 0.

    Returns
    -------
    QuantizedArray
        scale has shape (N, 1).

    Raises
    ------
    DataError
        If x is not float32 or float64, or not finite.

    References
    ----------
    Yao et al. 2022, "ZeroQuant" (arXiv 2206.01861), token-wise quantization.

    Examples
    --------
    >>> quantize_tokens(np.array([[1.0, -2.0], [30.0, 0.0]])).codes
    array([[  64, -127],
           [ 127,    0]], dtype=int8)
    """
    return quantize(x, axis=0, symmetric=symmetric)
