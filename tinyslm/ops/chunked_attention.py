"""Chunked attention: the fast form of `tinyslm.ops.attention`, computed for one chunk of queries at a time.

A chunk reads only the keys that some of its queries may attend to. With a causal mask about half of the score matrix is
never computed, and no array of size T x T moves through memory at once. The chunks of the forward pass run on several
threads. For the vjp the probabilities of all chunks are kept. Without a vjp nothing is kept, and a chunk is limited to
SCORE_BYTES, so memory is proportional to the length of the sequence.

The division of the softmax by its row sums comes after the product with the values: a query then has D numbers to
divide in place of S. For the vjp the probabilities are divided too. As long as the scores of a chunk take at most
SCORE_BYTES, the output has the same bits with and without a vjp: a copy of a teacher has exactly its outputs. Above
that, a pass without a vjp has smaller chunks, and the last bits can differ.
Sources: Rabe & Staats 2021, "Self-attention Does Not Need O(n^2) Memory" (arXiv 2112.05682), section 2, for the chunks;
Dao 2023, "FlashAttention-2" (arXiv 2307.08691), section 3.1, for the late division.
"""

import functools

import numpy as np

from tinyslm.autodiff import differentiable
from tinyslm.ops.argument_checks import FLOATING, require_attention_arrays, require_maskable
from tinyslm.ops.attention import allowed_keys, mask_bias
from tinyslm.parallel import map_shares
from tinyslm.tree import Array

QUERY_CHUNK = 64  # queries per chunk: enough for fast matrix products, few enough to skip most masked keys
SMALLEST_CHUNK = 8  # queries per chunk of a very long sequence
LARGEST_UNSHIFTED = 30.0  # exp(-30) to exp(30), and products with them, are far from the limits of float32
SMALLEST_SUM = 1e-30  # less than any row sum but 0, that of a query without an allowed key
SCORE_BYTES = 2**23  # scores of a chunk that are in memory at once, per thread, without a vjp
WHOLE = [(slice(None), slice(None))]  # all sequences and groups at once


@functools.lru_cache(maxsize=16)
def _chunk_mask(query_start, query_stop, key_start, key_stop, causal, window, dtype, lookahead=None):
    """Additive mask of one chunk: (queries, keys), or None if every key is allowed."""
    queries, keys = np.arange(query_start, query_stop), np.arange(key_start, key_stop)
    allowed = allowed_keys(queries, keys, causal, window, lookahead)
    return None if allowed.all() else mask_bias(allowed, dtype)


def _exponentials_in_place(scores, masks, softcap):
    """Softmax over the keys without its division: exp(scores + masks), stored in `scores` (B, G, r, t, s).

    A factor of a row cancels in the division. So the shift exp(scores - largest of the row) is equivalent. It is needed
    only for large scores, whose exponentials could overflow or all be 0.
    masks: each is None or the additive mask of the last keys. Returns tanh(scores / softcap), None without a cap.
    """
    tanh = None
    if softcap is not None:
        tanh = np.tanh(scores / softcap)
        np.multiply(tanh, softcap, out=scores)
    shifted = not max(scores.max(), -scores.min()) <= LARGEST_UNSHIFTED  # also if a score is nan
    if shifted and (masks[0] is not None or masks[1] is not None):
        require_maskable(scores)
    for mask in masks:
        if mask is not None:
            scores[..., -mask.shape[-1] :] += mask
    if shifted:
        scores -= scores.max(axis=-1, keepdims=True)
    np.exp(scores, out=scores)
    return tanh


def _attend(q_block, k, v, bias, masks, softcap, for_vjp):
    """Attention of one chunk: (output, arrays that the vjp reads). Rows are the queries of all heads of a group.

    q_block: (b, g, r, t, D), scaled;  k, v: (b, g, s, D);  bias: (g, r, t, s) or None;  masks as for the exponentials.
    output: (b, g, r t, D).
    """
    b, g, r, t, D = q_block.shape
    s = k.shape[2]
    q_rows = q_block.reshape(b, g, r * t, D)
    scores = (q_rows @ k.swapaxes(-1, -2)).reshape(b, g, r, t, s)
    if bias is not None:
        scores += bias
    tanh = _exponentials_in_place(scores, masks, softcap)
    exponentials = scores.reshape(b, g, r * t, s)
    total = exponentials @ np.ones(s, k.dtype)  # (b, g, r t): faster than the sum over the last axis
    total = np.maximum(total, SMALLEST_SUM)[..., None]
    output = exponentials @ v  # (b, g, r t, D)
    output /= total
    if not for_vjp:
        return output, None
    exponentials /= total  # the probabilities
    return output, (q_rows, exponentials, tanh)


def query_chunks(T, S, causal, window, size, lookahead=None):
    """(query_start, query_stop, key_start, key_stop) of each chunk: the keys that any of its queries may attend to.

    size: queries per chunk.
    """
    past = S - T  # number of keys before the first query
    ahead = _keys_ahead(S, causal, lookahead)
    for start in range(0, T, size):
        stop = min(start + size, T)
        key_start = 0 if window is None else max(0, past + start - window + 1)
        yield start, stop, key_start, min(past + stop + ahead, S)


def _keys_ahead(S, causal, lookahead):
    """Number of keys after a query that it may attend to at most."""
    return 0 if causal else S if lookahead is None else lookahead


def _chunk_size(query_bytes):
    """Queries per chunk without a vjp. query_bytes: the scores of one query, for one group of one sequence."""
    return min(QUERY_CHUNK, max(SMALLEST_CHUNK, SCORE_BYTES // query_bytes))


def _score_blocks(B, G, chunk_bytes):
    """Slices (sequences, groups) computed at once without a vjp. chunk_bytes: scores of one group of one sequence."""
    sequences = min(B, max(1, SCORE_BYTES // (G * chunk_bytes)))
    groups = min(G, max(1, SCORE_BYTES // chunk_bytes))
    return [
        (slice(b, b + sequences), slice(g, g + groups)) for b in range(0, B, sequences) for g in range(0, G, groups)
    ]


def _balanced_order(count):
    """0, count - 1, 1, count - 2 ...: pairs short and long chunks to balance work across threads."""
    return sorted(range(count), key=lambda i: min(i, count - 1 - i))


@differentiable
def chunked_attention(
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
    for_vjp: bool = True,
) -> Array:
    """Fast form of `attention`: same arguments, same output, same gradients, up to rounding.

    The r = H / G query heads of a group are stacked into one matrix product with their key head.

    Parameters
    ----------
    query : ndarray, shape (B, T, H, D)
        Queries of the last T of S positions.
    key, value : ndarray, shape (B, S, G, D)
        Query head h uses key/value head h // (H / G).
    position_bias : ndarray, shape (H, T, S), optional
        Added to the scaled scores before the soft cap.
    scale, causal, window, lookahead, softcap, attention_mask
        As in `attention_probabilities`.
    for_vjp
        Keep the probabilities for the vjp. False in calls without a traced value (`differentiable` sets it).

    Returns
    -------
    ndarray, shape (B, T, H, D)
        dtype of `query`. Equal to `attention` for every query with at least one allowed key. For other queries
        (padding tokens) both are finite and have no meaning. Errors as in `attention_probabilities`.

    Examples
    --------
    >>> from tinyslm.ops import attention
    >>> x = np.linspace(-1, 1, 60).reshape(1, 5, 3, 4)
    >>> bool(np.allclose(chunked_attention(x, x, x, scale=0.5), attention(x, x, x, scale=0.5)))
    True
    """
    if (
        query.dtype not in FLOATING
        or key.dtype not in FLOATING
        or value.dtype not in FLOATING
        or not key.size
        or not query.size
        or position_bias is not None
        or softcap is not None
        or attention_mask is not None
    ):
        require_attention_arrays(query, key, value, position_bias, softcap, attention_mask)
    (B, T, H, D), (S, G) = query.shape, key.shape[1:3]
    r = H // G
    scale = query.dtype.type(scale)
    q = (query * scale).reshape(B, T, G, r, D).transpose(0, 2, 3, 1, 4)  # (B, G, r, T, D)
    k, v = key.transpose(0, 2, 1, 3), value.transpose(0, 2, 1, 3)  # (B, G, S, D)
    padding = None if attention_mask is None else mask_bias(attention_mask[:, None, None, None, :] != 0, query.dtype)
    head_bias = None if position_bias is None else position_bias.reshape(G, r, T, S)
    if T == 1 and not for_vjp:  # the last position: every key of its window is allowed
        first = 0 if window is None else max(0, S - window)
        masks = (None, None if padding is None else padding[..., first:])
        bias = None if head_bias is None else head_bias[..., first:]
        output, _ = _attend(q, k[:, :, first:], v[:, :, first:], bias, masks, softcap, for_vjp)
        return output.reshape(query.shape), None
    output = np.empty((B, T, G, r, D), query.dtype)
    output_by_head = output.transpose(0, 2, 3, 1, 4)  # (B, G, r, T, D), a view
    most_keys = S if window is None else min(S, window + QUERY_CHUNK + _keys_ahead(S, causal, lookahead))  # of a chunk
    query_bytes = r * most_keys * query.itemsize
    size, blocks = QUERY_CHUNK, WHOLE
    if not for_vjp and B * G * QUERY_CHUNK * query_bytes > SCORE_BYTES:
        size = _chunk_size(query_bytes)
        blocks = _score_blocks(B, G, min(T, size) * query_bytes)
    chunks = list(query_chunks(T, S, causal, window, size, lookahead))
    saved = [None] * len(chunks)  # per chunk: the arrays that the vjp uses

    def compute_chunks(share):
        for number in _balanced_order(len(chunks))[share]:
            for block in blocks:
                kept = compute_block(*chunks[number], *block)
                if for_vjp:
                    saved[number] = kept

    def compute_block(start, stop, key_start, key_stop, sequences, groups):
        t, s = stop - start, key_stop - key_start
        q_block = q[sequences, groups, :, start:stop]  # (b, g, r, t, D)
        k_block, v_block = k[sequences, groups, key_start:key_stop], v[sequences, groups, key_start:key_stop]
        bias = None if head_bias is None else head_bias[groups, :, start:stop, key_start:key_stop]
        only_causal = causal and (window is None or key_stop <= window)  # allows every key before the chunk
        masked = t if only_causal else s  # number of keys that the mask covers, the last ones
        offset = S - T + start - (key_stop - masked)  # of the first query from the first of these keys
        mask = _chunk_mask(offset, offset + t, 0, masked, causal, window, query.dtype, lookahead)
        block_padding = None if padding is None else padding[sequences, ..., key_start:key_stop]
        rows, kept = _attend(q_block, k_block, v_block, bias, (mask, block_padding), softcap, for_vjp)
        output_by_head[sequences, groups, :, start:stop] = rows.reshape(q_block.shape)
        return kept

    map_shares(compute_chunks, len(chunks), work=B * H * T * S)

    def vjp(dy):
        dy = dy.reshape(B, T, G, r, D).transpose(0, 2, 3, 1, 4)  # (B, G, r, T, D)
        dquery = np.empty((B, T, G, r, D), query.dtype)
        dquery_by_head = dquery.transpose(0, 2, 3, 1, 4)  # (B, G, r, T, D), a view
        dkey, dvalue = np.zeros((B, G, S, D), key.dtype), np.zeros((B, G, S, D), value.dtype)
        dbias = None if head_bias is None else np.zeros_like(head_bias)
        for (start, stop, key_start, key_stop), (q_rows, probabilities, tanh) in zip(chunks, saved, strict=True):
            t, s = stop - start, key_stop - key_start
            doutput = dy[:, :, :, start:stop].reshape(q_rows.shape)  # (B, G, r t, D)
            dvalue[:, :, key_start:key_stop] += probabilities.swapaxes(-1, -2) @ doutput
            dscores = doutput @ v[:, :, key_start:key_stop].swapaxes(-1, -2)  # (B, G, r t, s): of the probabilities
            dscores -= np.vecdot(dscores, probabilities)[..., None]
            dscores *= probabilities  # softmax: dS = P * (dP - sum(dP * P))
            if tanh is not None:
                dscores *= 1 - np.square(tanh).reshape(dscores.shape)
            if dbias is not None:  # all sequences of the batch share the bias
                dbias[:, :, start:stop, key_start:key_stop] += dscores.reshape(B, G, r, t, s).sum(axis=0)
            dkey[:, :, key_start:key_stop] += dscores.swapaxes(-1, -2) @ q_rows  # q_rows is already scaled
            dq_rows = dscores @ k[:, :, key_start:key_stop]  # (B, G, r t, D)
            np.multiply(dq_rows.reshape(B, G, r, t, D), scale, out=dquery_by_head[:, :, :, start:stop])
        gradients = dquery.reshape(query.shape), dkey.transpose(0, 2, 1, 3), dvalue.transpose(0, 2, 1, 3)
        return gradients if dbias is None else (*gradients, dbias.reshape(H, T, S))

    return output.reshape(query.shape), vjp
