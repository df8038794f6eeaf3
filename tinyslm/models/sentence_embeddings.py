"""One vector per text, so that texts of similar meaning point in similar directions."""

import numpy as np

from tinyslm.errors import DataError
from tinyslm.models.input_checks import check_mask


def sentence_embeddings(states, attention_mask=None):
    """The mean of each text's states over its real tokens, divided by its length: a vector of length 1 (zeros where a
    text has no token).

    states: (B, T, C), what an encoder leaves;  attention_mask: (B, T), 0 for padding;  returns (B, C), dtype of states.
    The product of two such vectors is the cosine of their angle. Source: Reimers & Gurevych 2019, section 3 (MEAN).
    """
    states = np.asarray(states)
    if states.ndim != 3 or not np.issubdtype(states.dtype, np.floating):
        raise DataError(f"states must be (B, T, C) floating-point numbers, found {states.dtype}{states.shape}")
    mask = check_mask(attention_mask, states.shape[:2])
    mask = np.ones(states.shape[:2]) if mask is None else mask
    weights = mask.astype(states.dtype)[:, None]  # (B, 1, T)
    means = (weights @ states)[:, 0] / np.maximum(weights.sum(axis=-1), 1)  # (B, C)
    length = np.linalg.norm(means, axis=-1, keepdims=True)  # (B, 1)
    return means / np.maximum(length, np.finfo(states.dtype).tiny)
