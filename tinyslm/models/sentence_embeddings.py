"""Sentence embeddings: one vector of length 1 per text, by mean pooling."""

import numpy as np
from numpy.typing import ArrayLike

from tinyslm.errors import DataError
from tinyslm.models.input_checks import check_mask
from tinyslm.tree import Array


def sentence_embeddings(states: Array, attention_mask: ArrayLike | None = None) -> Array:
    """Mean of each text's hidden states over its real tokens, divided by the L2 norm of the mean.

    The dot product of two such vectors is the cosine similarity of their texts.

    Parameters
    ----------
    states : ndarray of float, shape (B, T, C)
        Final hidden states of an encoder.
    attention_mask : array_like, shape (B, T), optional
        1 for tokens, 0 for padding. All positions are tokens if None.

    Returns
    -------
    ndarray, shape (B, C)
        Vectors of L2 norm 1, dtype of `states`; zeros for a text without tokens.

    Raises
    ------
    DataError
        If `states` is not a (B, T, C) array of floating-point numbers, or the mask does not fit.

    References
    ----------
    Reimers & Gurevych 2019, "Sentence-BERT" (arXiv 1908.10084), section 3 (MEAN pooling).

    Examples
    --------
    >>> states = np.array([[[3.0, 4.0], [3.0, 4.0], [99.0, 0.0]]])
    >>> sentence_embeddings(states, [[1, 1, 0]])
    array([[0.6, 0.8]])
    """
    states = np.asarray(states)
    if states.ndim != 3 or not np.issubdtype(states.dtype, np.floating):
        raise DataError(f"states must be (B, T, C) floating-point numbers, found {states.dtype}{states.shape}")
    mask = check_mask(attention_mask, states.shape[:2])
    mask = np.ones(states.shape[:2]) if mask is None else mask
    weights = mask.astype(states.dtype)[:, None]  # (B, 1, T)
    means = (weights @ states)[:, 0] / np.maximum(weights.sum(axis=-1), 1)  # (B, C)
    norms = np.linalg.norm(means, axis=-1, keepdims=True)  # (B, 1)
    return means / np.maximum(norms, np.finfo(states.dtype).tiny)
