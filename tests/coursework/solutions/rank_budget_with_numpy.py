"""NumPy integers."""

import numpy as np


def rank_for_ratio(shape, ratio):
    m, n = shape
    return np.maximum(np.int64(ratio * m * n / (m + n)), 1)


def break_even_rank(shape):
    return np.prod(shape) // np.sum(shape)


def factorized_parameters(shape, rank):
    return np.minimum(rank * np.sum(shape), np.prod(shape))
