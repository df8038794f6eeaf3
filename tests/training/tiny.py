"""A model and rows so small that a training step takes a few milliseconds."""

import numpy as np

from tests.strategies import generic_model
from tinyslm.models import DecoderConfig
from tinyslm.ops import Rope
from tinyslm.text import document_rows
from tinyslm.training import Settings

VOCABULARY = 23
CONFIG = DecoderConfig("llama", VOCABULARY, 16, 24, 2, 4, 2, 4, 32, ropes=(Rope(100.0, 4),) * 2)
SETTINGS = Settings(steps=12, batch_size=6, micro_batch_size=2, learning_rate=3e-3, warmup_steps=3, threads=2)


def tiny_model(seed=0, dtype=np.float32, config=CONFIG):
    return generic_model(config, seed, dtype)


def tiny_rows(count=40, length=16, seed=0):
    """Rows with padding of different amounts, of documents in which every token follows from the one before."""
    rng = np.random.default_rng(seed)
    documents = []
    for n in rng.integers(2, 2 * length, count):
        tokens = (rng.integers(1, VOCABULARY) * 3 ** np.arange(n)) % VOCABULARY
        documents.append(np.array([0, *tokens, 0], np.int32))
    return document_rows(documents, length)


def bits(state):
    """The bytes of all arrays of a training state: the parameters and their moments."""
    optimizer = state.optimizer
    stores = (optimizer.parameters, optimizer.first_moments, optimizer.second_moments)
    return [array.tobytes() for store in stores for array in store.values()]
