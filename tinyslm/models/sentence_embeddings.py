"""Sentence embeddings: one vector per text, by mean pooling, max pooling or the first token's state (CLS pooling)."""

import numpy as np
from numpy.typing import ArrayLike

from tinyslm.errors import ConfigError, DataError
from tinyslm.models.input_checks import check_mask
from tinyslm.tree import Array

POOLINGS = ("mean", "cls", "max")


def sentence_embeddings(
    states: Array, attention_mask: ArrayLike | None = None, pooling: str = "mean", normalize: bool = True
) -> Array:
    """Mean or maximum of each text's hidden states over its real tokens, or its first state, divided by its L2 norm.

    The dot product of two such vectors is the cosine similarity of their texts.

    Parameters
    ----------
    states : ndarray of float, shape (B, T, C)
        Final hidden states of an encoder.
    attention_mask : array_like, shape (B, T), optional
        1 for tokens, 0 for padding. All positions are tokens if None.
    pooling : {"mean", "cls", "max"}
        Mean over all tokens, the state of the first token, or the maximum of each channel over all tokens.
    normalize : bool
        Whether vectors are divided by their L2 norm.

    Returns
    -------
    ndarray, shape (B, C)
        Vectors of L2 norm 1 if `normalize`, dtype of `states`; zeros for a text without tokens.

    Raises
    ------
    ConfigError
        If the pooling is unknown.
    DataError
        If `states` is not a (B, T, C) array of floating-point numbers, or the mask does not fit.

    References
    ----------
    Reimers & Gurevych 2019, "Sentence-BERT" (arXiv 1908.10084), section 3 (MEAN, CLS and MAX pooling).

    Examples
    --------
    >>> states = np.array([[[3.0, 4.0], [3.0, 4.0], [99.0, 0.0]]])
    >>> sentence_embeddings(states, [[1, 1, 0]])
    array([[0.6, 0.8]])
    """
    if pooling not in POOLINGS:
        raise ConfigError(f"pooling is {pooling!r}, expected one of {', '.join(POOLINGS)}")
    states = np.asarray(states)
    if states.ndim != 3 or not np.issubdtype(states.dtype, np.floating):
        raise DataError(f"states must be (B, T, C) floating-point numbers, found {states.dtype}{states.shape}")
    mask = check_mask(attention_mask, states.shape[:2])
    mask = np.ones(states.shape[:2]) if mask is None else mask
    vectors = _largest(states, mask) if pooling == "max" else _mean(states, mask, only_first=pooling == "cls")  # (B, C)
    if not normalize:
        return vectors
    norms = np.linalg.norm(vectors, axis=-1, keepdims=True)  # (B, 1)
    return vectors / np.maximum(norms, np.finfo(states.dtype).tiny)


def _mean(states, mask, only_first):
    """Mean of the hidden states (B, T, C) of the tokens of each text, or of its first token: (B, C)."""
    weights = mask.astype(states.dtype)  # (B, T)
    if only_first:
        first = np.argmax(weights != 0, axis=-1)  # (B,)
        weights = weights * (np.arange(states.shape[1]) == first[:, None])  # (B, T), one token each
    sums = (weights[:, None] @ states)[:, 0]  # (B, C)
    return sums / np.maximum(weights.sum(axis=-1, keepdims=True), 1)


def _largest(states, mask):
    """Maximum of each channel of the hidden states (B, T, C) over the tokens of each text: (B, C)."""
    is_token = mask[..., None] != 0  # (B, T, 1)
    largest = np.max(states, axis=1, where=is_token, initial=-np.inf)  # (B, C)
    return np.where(is_token.any(axis=1), largest, 0)
