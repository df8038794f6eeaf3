"""What the machine can do at best, whatever the code: so many multiply-adds and so many bytes per second."""

import time

import numpy as np

from tinyslm.parallel import map_shares

SIDE = 2048  # of the square matrices
ARRAY = 2**28  # float32 numbers: a GiB, far more than any cache


def product_limit(multiply_adds):
    """A runner: the seconds that so many multiply-adds take in the product of two large matrices, all cores at work."""
    left, right = np.random.default_rng(0).standard_normal((2, SIDE, SIDE), np.float32)
    out = np.empty((SIDE, SIDE), np.float32)

    def run():
        began = time.perf_counter()
        for _ in range(4):
            np.matmul(left, right, out=out)
        return (time.perf_counter() - began) / 4 / SIDE**3 * multiply_adds

    return run


def memory_limit(size):
    """A runner: the seconds that reading so many bytes from memory takes, all cores at work."""
    array = np.ones(ARRAY, np.float32)

    def run():
        began = time.perf_counter()
        map_shares(lambda share: np.max(array[share]), ARRAY)
        return (time.perf_counter() - began) / array.nbytes * size

    return run
