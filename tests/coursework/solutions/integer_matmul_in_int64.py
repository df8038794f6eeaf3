"""64-bit integers."""

import numpy as np

from tinyslm.errors import DataError


def integer_matmul(x, w):
    if x.shape[1] * 2**14 >= 2**31:
        raise DataError("too many")
    return (x.astype(np.int64) @ w.astype(np.int64).T).astype(np.int32)
