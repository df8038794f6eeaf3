"""Checks of a model's inputs: token ids, sequence length, attention mask."""

import numpy as np

from tinyslm.errors import DataError
from tinyslm.tree import Array


def _as_array(name, values):
    """np.asarray, or DataError for rows of different lengths."""
    try:
        return np.asarray(values)
    except ValueError:
        raise DataError(f"{name} have rows of different lengths: pad them, and give an attention_mask") from None


def check_token_ids(token_ids, vocab_size: int) -> Array:
    """Return token_ids as an array (B, T). Raises DataError unless they are integers from 0 to vocab_size - 1."""
    token_ids = _as_array("token ids", token_ids)
    if token_ids.ndim != 2 or not np.issubdtype(token_ids.dtype, np.integer):
        raise DataError(f"token ids must be (B, T) integers, found {token_ids.dtype}{token_ids.shape}")
    if token_ids.size == 0:
        raise DataError(f"token ids are empty, {token_ids.shape}: a model needs at least one row of one token")
    low, high = token_ids.min(), token_ids.max()
    if low < 0 or high >= vocab_size:
        wrong = low if low < 0 else high
        raise DataError(f"token id {wrong} is outside the vocabulary of {vocab_size} (0 to V - 1)")
    return token_ids


def check_length(length: int, max_position_embeddings: int):
    """Raise DataError if a sequence of `length` tokens is longer than the model's context."""
    if length > max_position_embeddings:
        raise DataError(
            f"a sequence of {length} tokens is longer than the model's context of {max_position_embeddings}; "
            "shorten the text"
        )


def check_mask(attention_mask, shape: tuple[int, int]) -> Array | None:
    """Return attention_mask as an array, or None for None.

    Raises DataError unless it has this shape (B, S) and holds only 0 and 1. Additive masks, which hold 0 for tokens and
    large negative numbers for padding, are refused.
    """
    if attention_mask is None:
        return None
    attention_mask = _as_array("the rows of attention_mask", attention_mask)
    if attention_mask.shape != shape:
        raise DataError(f"attention_mask is {attention_mask.shape}, expected {shape} (batch, tokens)")
    if attention_mask.dtype.kind not in "biuf" or not np.isin(attention_mask, (0, 1)).all():
        raise DataError("attention_mask must hold 1 for tokens and 0 for padding")
    return attention_mask
