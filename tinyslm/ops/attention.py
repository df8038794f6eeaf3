"""Scaled dot-product attention: the definition, with the whole score matrix.

Grouped key/value heads, causal and sliding-window masks, padding, position bias and soft-capping.
`tinyslm.ops.chunked_attention` is the fast form. A property test shows that both are equal, gradients included.

Sources: Vaswani et al. 2017, eq. 1; Ainslie et al. 2023 (grouped heads); Beltagy et al. 2020 (sliding window).
"""

import numpy as np

from tinyslm.autodiff import differentiable
from tinyslm.ops.argument_checks import require_attention_arrays, require_maskable
from tinyslm.tree import Array


def allowed_keys(
    query_slots: Array, key_slots: Array, causal: bool = True, window: int | None = None, lookahead: int | None = None
) -> Array:
    """Boolean mask of the keys that each query may attend to.

    Parameters
    ----------
    query_slots : ndarray, shape (T,)
        Position of each query in the sequence.
    key_slots : ndarray, shape (S,)
        Position of each key in the sequence.
    causal
        Allow a key only if its position is at most the query's.
    window
        Sliding window W: allow a key only if it is less than W positions before the query. The query's own position
        counts, so W = 1 is the token alone. None: no limit.
    lookahead
        Allow a key only if it is at most this many positions after the query. None: no limit but `causal`. A window of
        equal size on both sides has lookahead W - 1, without `causal`.

    Returns
    -------
    ndarray of bool, shape (T, S)

    Examples
    --------
    >>> allowed_keys(np.arange(3), np.arange(3), window=2).astype(int)
    array([[1, 0, 0],
           [1, 1, 0],
           [0, 1, 1]])
    >>> allowed_keys(np.arange(4), np.arange(4), causal=False, window=2, lookahead=1).astype(int)
    array([[1, 1, 0, 0],
           [1, 1, 1, 0],
           [0, 1, 1, 1],
           [0, 0, 1, 1]])
    """
    distance = query_slots[:, None] - key_slots[None, :]  # (T, S)
    allowed = np.ones(distance.shape, bool)
    if causal:
        allowed &= distance >= 0
    if window is not None:
        allowed &= distance < window
    if lookahead is not None:
        allowed &= distance >= -lookahead
    return allowed


def mask_bias(allowed: Array, dtype) -> Array:
    """Additive mask: 0 where `allowed`, elsewhere half the lowest finite number of the dtype, whose exponential is 0.

    It is finite, so that a query without an allowed key (a padding token) has finite probabilities. They have no
    meaning, and no other token depends on them.
    """
    return np.where(allowed, 0, np.finfo(dtype).min / 2).astype(dtype)


def capped_scores(q, k, position_bias, scale, softcap):
    """Soft-capped scale * q k^T + position_bias, before the mask. q: (B, H, T, D), k: (B, H, S, D) -> (B, H, T, S)."""
    scores = (q * q.dtype.type(scale)) @ k.swapaxes(-1, -2)  # (B, H, T, S)
    if position_bias is not None:
        scores = scores + position_bias
    return scores if softcap is None else np.tanh(scores / softcap) * softcap


def masked_softmax(scores, causal, window, lookahead, attention_mask):
    """Masked softmax over the keys, softmax(scores + mask): (B, H, T, S), dtype of the scores."""
    require_maskable(scores)
    T, S = scores.shape[-2:]
    allowed = allowed_keys(np.arange(S - T, S), np.arange(S), causal, window, lookahead)  # (T, S)
    scores = scores + mask_bias(allowed, scores.dtype)
    if attention_mask is not None:
        scores = scores + mask_bias(attention_mask[:, None, None, :] != 0, scores.dtype)
    exponential = np.exp(scores - scores.max(axis=-1, keepdims=True))  # the largest is exp(0): no overflow
    return exponential / exponential.sum(axis=-1, keepdims=True)


def attention_probabilities(
    query: Array,
    key: Array,
    position_bias: Array | None = None,
    *,
    scale: float,
    causal: bool = True,
    window: int | None = None,
    lookahead: int | None = None,
    softcap: float | None = None,
    attention_mask: Array | None = None,
) -> Array:
    """Attention probabilities, softmax(scale * q k^T + position_bias + mask).

    Parameters
    ----------
    query : ndarray, shape (B, T, H, D)
        Queries of the last T of S positions.
    key : ndarray, shape (B, S, G, D)
        Query head h uses key head h // (H / G).
    position_bias : ndarray, shape (H, T, S), optional
        Added to the scaled scores before the soft cap (T5's relative positions).
    scale
        Factor of the scores, usually 1 / sqrt(D).
    causal
        Mask the keys that come after the query.
    window
        Sliding window in tokens, the query's own position included; None is no limit.
    lookahead
        Number of positions after the query whose keys are allowed; None is no limit but `causal`.
    softcap
        Replace scores by ``softcap * tanh(scores / softcap)`` (Gemma 2); None does not.
    attention_mask : ndarray, shape (B, S), optional
        0 for padding, which gets probability 0.

    Returns
    -------
    ndarray, shape (B, H, T, S)
        Rows sum to 1, dtype of `query`.

    Raises
    ------
    DataError
        If an array is not float32 or float64, there is no key, or the scores are so large that masks have no effect.
    ConfigError
        If `softcap` is not positive and finite.

    References
    ----------
    Vaswani et al. 2017, "Attention Is All You Need" (arXiv 1706.03762), eq. 1; Ainslie et al. 2023, "GQA"
    (arXiv 2305.13245); Beltagy et al. 2020, "Longformer" (arXiv 2004.05150).

    Examples
    --------
    >>> attention_probabilities(np.zeros((1, 2, 1, 4)), np.zeros((1, 2, 1, 4)), scale=0.5)
    array([[[[1. , 0. ],
             [0.5, 0.5]]]])
    """
    require_attention_arrays(query, key, None, position_bias, softcap, attention_mask)
    q, k = split_heads(query, query.shape[2]), split_heads(key, query.shape[2])  # (B, H, T, D), (B, H, S, D)
    scores = capped_scores(q, k, position_bias, scale, softcap)  # (B, H, T, S)
    return masked_softmax(scores, causal, window, lookahead, attention_mask)


@differentiable
def attention(
    query: Array,
    key: Array,
    value: Array,
    position_bias: Array | None = None,
    *,
    scale: float,
    causal: bool = True,
    window: int | None = None,
    lookahead: int | None = None,
    softcap: float | None = None,
    attention_mask: Array | None = None,
) -> Array:
    """Scaled dot-product attention, softmax(scale * q k^T + position_bias + mask) v.

    This is the definition. Modules call `chunked_attention`, which computes the same faster. The assignment
    ``ops.chunked_attention = ops.attention`` runs every model with the definition, for reading it in a debugger.

    Parameters
    ----------
    query : ndarray, shape (B, T, H, D)
        Queries of the last T of S positions.
    key, value : ndarray, shape (B, S, G, D)
        Query head h uses key/value head h // (H / G).
    position_bias, scale, causal, window, lookahead, softcap, attention_mask
        As in `attention_probabilities`, errors included.

    Returns
    -------
    ndarray, shape (B, T, H, D)
        dtype of `query`. Gradients: of `query`, `key`, `value` and `position_bias`.

    References
    ----------
    Vaswani et al. 2017, "Attention Is All You Need" (arXiv 1706.03762), eq. 1; Ainslie et al. 2023, "GQA"
    (arXiv 2305.13245); Gemma 2 report 2024 (arXiv 2408.00118), section 2, for the soft cap.

    Examples
    --------
    >>> x = np.zeros((1, 2, 1, 2))
    >>> attention(x, x, np.array([[[[2.0, 4.0]], [[4.0, 8.0]]]]), scale=1.0)
    array([[[[2., 4.]],
    <BLANKLINE>
            [[3., 6.]]]])
    """
    require_attention_arrays(query, key, value, position_bias, softcap, attention_mask)
    H, G = query.shape[2], key.shape[2]
    scale = query.dtype.type(scale)
    q, k, v = (split_heads(array, H) for array in (query, key, value))  # (B, H, T, D), twice (B, H, S, D)
    scores = capped_scores(q, k, position_bias, scale, softcap)  # (B, H, T, S)
    probabilities = masked_softmax(scores, causal, window, lookahead, attention_mask)  # (B, H, T, S)
    output = probabilities @ v  # (B, H, T, D)

    def vjp(dy):
        doutput = dy.transpose(0, 2, 1, 3)  # (B, H, T, D)
        dprobabilities = doutput @ v.swapaxes(-1, -2)  # (B, H, T, S)
        mean = np.sum(dprobabilities * probabilities, axis=-1, keepdims=True)  # (B, H, T, 1)
        dscores = probabilities * (dprobabilities - mean)  # (B, H, T, S)
        if softcap is not None:
            dscores = dscores * (1 - np.square(scores / softcap))  # tanh' = 1 - tanh^2
        dq = scale * dscores @ k  # (B, H, T, D)
        dk = scale * dscores.swapaxes(-1, -2) @ q  # (B, H, S, D)
        dv = probabilities.swapaxes(-1, -2) @ doutput  # (B, H, S, D)
        dbias = None if position_bias is None else dscores.sum(axis=0)  # (H, T, S)
        return merge_heads(dq, H), merge_heads(dk, G), merge_heads(dv, G), dbias

    return output.transpose(0, 2, 1, 3), vjp


def split_heads(array, num_heads):
    """Repeat each key/value head for the H / G query heads that share it: (B, S, G, D) -> (B, H, S, D)."""
    return np.repeat(array, num_heads // array.shape[2], axis=2).transpose(0, 2, 1, 3)


def merge_heads(gradient, num_groups):
    """Transpose of `split_heads`: (B, H, S, D) -> (B, S, G, D), the sum over the query heads that share a head."""
    B, H, S, D = gradient.shape
    return gradient.reshape(B, num_groups, H // num_groups, S, D).sum(axis=2).transpose(0, 2, 1, 3)
