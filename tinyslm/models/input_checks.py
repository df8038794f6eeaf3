"""What every model asks of its inputs before it computes with them."""

import numpy as np

from tinyslm.errors import DataError


def as_array(name, values):
    """np.asarray, or DataError for lists of different lengths."""
    try:
        return np.asarray(values)
    except ValueError:
        raise DataError(f"{name} have rows of different lengths: pad them, and give an attention_mask") from None


def check_token_ids(token_ids, vocab_size):
    """token_ids as an array (B, T), or DataError if they are no tokens of the vocabulary."""
    token_ids = as_array("token ids", token_ids)
    if token_ids.ndim != 2 or not np.issubdtype(token_ids.dtype, np.integer):
        raise DataError(f"token ids must be (B, T) integers, found {token_ids.dtype}{token_ids.shape}")
    if token_ids.size == 0:
        raise DataError(f"token ids are empty, {token_ids.shape}: a model needs at least one row of one token")
    low, high = token_ids.min(), token_ids.max()
    if low < 0 or high >= vocab_size:
        wrong = low if low < 0 else high
        raise DataError(f"token id {wrong} is outside the vocabulary of {vocab_size} (0 to V - 1)")
    return token_ids


def check_length(length, max_position_embeddings):
    """DataError if a sequence of `length` tokens has more of them than the model has positions."""
    if length > max_position_embeddings:
        raise DataError(
            f"a sequence of {length} tokens is longer than the model's context of {max_position_embeddings}; "
            "shorten the text"
        )


def check_mask(attention_mask, shape):
    """attention_mask as an array, or None as it is; DataError if it has not this shape (B, S), or other numbers than 0
    and 1 (masks that are added to scores mean the opposite)."""
    if attention_mask is None:
        return None
    attention_mask = as_array("the rows of attention_mask", attention_mask)
    if attention_mask.shape != shape:
        raise DataError(f"attention_mask is {attention_mask.shape}, expected {shape} (batch, tokens)")
    if attention_mask.dtype.kind not in "biuf" or not np.isin(attention_mask, (0, 1)).all():
        raise DataError("attention_mask must hold 1 for tokens and 0 for padding")
    return attention_mask
