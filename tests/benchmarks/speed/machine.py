"""What cannot be faster: so many multiply-adds and so many bytes per second on this machine, whatever the code, and the
matrix products of a model in NumPy, without anything between them."""

import numpy as np

from tests.benchmarks.speed.case import timed
from tinyslm.modules import Linear
from tinyslm.parallel import map_shares
from tinyslm.tree import named_modules

SIDE = 2048  # of the square matrices
ARRAY = 2**28  # float32 numbers: a GiB, far more than any cache


def product_limit(multiply_adds):
    """A runner: the seconds that so many multiply-adds take in the product of two large matrices, all cores at work."""
    left, right = np.random.default_rng(0).standard_normal((2, SIDE, SIDE), np.float32)
    out = np.empty((SIDE, SIDE), np.float32)

    return timed(lambda: np.matmul(left, right, out=out), SIDE**3 / multiply_adds)


def memory_limit(size):
    """A runner: the seconds that reading so many bytes from memory takes, all cores at work."""
    array = np.ones(ARRAY, np.float32)
    return timed(lambda: map_shares(lambda share: np.max(array[share]), ARRAY), array.nbytes / size)


def products(model, rows, head_rows, backward=False):
    """A function that does the matrix products of a pass through a decoder's linear layers, on so many rows, and those
    of the head on head_rows; backward: also the two of each that its gradients need."""
    matrices = [(linear.weight, rows) for linear in named_modules(model.layers, Linear).values()]
    matrices.append((model.embedding.table, head_rows))
    activations = {size: np.ones((rows, size), np.float32) for weight, _ in matrices for size in weight.shape}

    def run():
        for weight, count in matrices:
            dy, x = (activations[size][:count] for size in weight.shape)  # (count, out), (count, in)
            x @ weight.T
            if backward:
                dy @ weight, dy.T @ x

    return run
