"""Matrices with ranks, and Fisher information, for the properties of low-rank factorizations."""

import numpy as np
from hypothesis import strategies as st


def product(factors):
    """The matrix of two factors: left @ right."""
    return factors[0] @ factors[1]


@st.composite
def matrices_and_ranks(draw, source):
    """A matrix of `source` and a rank that it can have."""
    weight = draw(source)
    return weight, draw(st.integers(1, min(weight.shape)))


def draw_fisher(rng, shape):
    """Squared gradients with input features, and outputs, of very different importance."""
    return rng.random(shape) * np.exp(rng.standard_normal(shape[1]) * 2) * np.exp(rng.standard_normal((shape[0], 1)))
