"""Model sizes of the benchmark: names, configurations, and models with random weights."""

import functools
from dataclasses import replace

import numpy as np

from tinyslm.models import random_model
from tinyslm.models.catalogue import CATALOGUE
from tinyslm.models.tiny_shapes import llama_shape

VOCABULARY = 1536
SHAPES = {  # width, feed-forward width, layers, heads, key/value heads
    "1m": (128, 352, 4, 4, 2),
    "4m": (256, 512, 6, 8, 4),
    "10m": (384, 1024, 6, 6, 3),
}
CONTEXT = 4096


def config_of(name, **changes):
    """One of SHAPES, or "1b": the shape of Llama 3.2 1B."""
    config = CATALOGUE["llama-3.2-1b"] if name == "1b" else llama_shape(VOCABULARY, *SHAPES[name], CONTEXT)
    return replace(config, **changes)


@functools.lru_cache(maxsize=1)  # frees a large model before the next one is made
def random_weights(name):
    """A model of one of the sizes."""
    return random_model(config_of(name))


def random_tokens(config, rows, length, seed=0):
    """(rows, length) integers."""
    return np.random.default_rng(seed).integers(1, config.vocab_size, (rows, length))
