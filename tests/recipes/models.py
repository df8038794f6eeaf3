"""A tiny decoder and documents for it."""

from dataclasses import replace

import numpy as np

from tinyslm.models import random_model
from tinyslm.models.tiny_shapes import llama_shape
from tinyslm.recipes import Calibration


def tiny_model(experts=0, seed=3):
    """Three layers of width 16, with weights large enough that every part matters."""
    config = llama_shape(31, 16, 20, 3, 4, 2, max_position_embeddings=40)
    if experts:
        config = replace(config, family="mixtral", num_experts=experts, experts_per_token=2)
    return random_model(config, seed=seed, deviation=0.25)


def tiny_calibration(model, count=24):
    """Random documents of 5 to 30 tokens between end marks."""
    rng = np.random.default_rng(1)
    lengths = rng.integers(5, 31, count)
    documents = [np.array([0, *rng.integers(1, 31, length), 0], np.int32) for length in lengths]
    return Calibration(documents, model, seed=2, statistics_documents=6)
