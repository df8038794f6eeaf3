"""Random linear layers for the tests of quantized layers."""

import numpy as np

from tinyslm.modules import Linear


def draw_linear(rng, dtype=np.float64, biased=True, shape=(5, 7)):
    """A linear layer with weights of mean 0.3."""
    bias = rng.standard_normal(shape[0]).astype(dtype) if biased else None
    return Linear((rng.standard_normal(shape) + 0.3).astype(dtype), bias)
