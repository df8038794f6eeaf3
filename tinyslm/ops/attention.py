"""Scaled dot-product attention with grouped key/value heads, causal and sliding-window masks, padding, soft-capping.

The plain form is `attention_probabilities(...) @ value`. `attention` computes the same in chunks of queries, so that
the half of the score matrix that a causal mask would throw away is never computed, and nothing of size T x T is moved
through memory at once (for the vjp all chunks of probabilities are kept).

Sources: Vaswani et al. 2017, eq. 1; Ainslie et al. 2023 (grouped heads); Beltagy et al. 2020 (sliding window).
"""

import functools

import numpy as np

from tinyslm.autodiff import differentiable
from tinyslm.parallel import map_shares

QUERY_CHUNK = 64  # queries per chunk: large enough for fast matrix products, small enough to skip most masked keys


def allowed_keys(query_slots, key_slots, causal=True, window=None):
    """Which keys a query may see: causal means key <= query, a window of W means key > query - W (W with itself).

    query_slots: (T,);  key_slots: (S,);  returns (T, S) booleans.
    """
    distance = query_slots[:, None] - key_slots[None, :]  # (T, S)
    allowed = np.ones(distance.shape, bool)
    if causal:
        allowed &= distance >= 0
    if window is not None:
        allowed &= distance < window
    return allowed


def blocked(dtype):
    """What is added to a score that must not count: so low that its exponential is 0, and finite, so that a row with
    nothing allowed (a padding query) gives finite numbers, which nobody reads."""
    return np.finfo(dtype).min / 2


@functools.lru_cache(maxsize=256)
def _mask_bias(query_start, query_stop, key_start, key_stop, causal, window, dtype):
    """0 where allowed, `blocked` elsewhere: (queries, keys), or None if all is allowed."""
    allowed = allowed_keys(np.arange(query_start, query_stop), np.arange(key_start, key_stop), causal, window)
    return None if allowed.all() else np.where(allowed, 0, blocked(dtype)).astype(dtype)


def _padding_bias(attention_mask, dtype):
    """0 for real keys, `blocked` for padding: (B, 1, 1, 1, S)."""
    return np.where(attention_mask[:, None, None, None, :] != 0, 0, blocked(dtype)).astype(dtype)


def masked_softmax(scores, bias, padding, softcap):
    """Softmax over the keys, in place of the scores (B, G, r, t, s); also tanh(scores / cap) if there is a cap."""
    capped = None
    if softcap is not None:
        capped = np.tanh(scores / softcap)
        np.multiply(capped, softcap, out=scores)
    if bias is not None:
        scores += bias
    if padding is not None:
        scores += padding
    scores -= scores.max(axis=-1, keepdims=True)
    np.exp(scores, out=scores)
    scores /= scores.sum(axis=-1, keepdims=True)
    return scores, capped


def attention_probabilities(
    query, key, position_bias=None, *, scale, causal=True, window=None, softcap=None, attention_mask=None
):
    """softmax(scale * q k^T + position_bias + mask), whole: what each query looks at.

    query: (B, T, H, D), the last T of S positions;  key: (B, S, G, D);  position_bias: (H, T, S) or None;
    returns (B, H, T, S), rows sum to 1. Query head h uses key/value head h // (H / G).
    """
    (B, T, H, D), (S, G) = query.shape, key.shape[1:3]
    q = query.reshape(B, T, G, H // G, D).transpose(0, 2, 3, 1, 4)  # (B, G, r, T, D)
    k = key.transpose(0, 2, 3, 1)[:, :, None]  # (B, G, 1, D, S)
    scores = (q * q.dtype.type(scale)) @ k  # (B, G, r, T, S)
    if position_bias is not None:
        scores += position_bias.reshape(G, H // G, T, S)
    bias = _mask_bias(S - T, S, 0, S, causal, window, scores.dtype)
    padding = None if attention_mask is None else _padding_bias(attention_mask, scores.dtype)
    return masked_softmax(scores, bias, padding, softcap)[0].reshape(B, H, T, S)


def query_chunks(T, S, causal, window):
    """(query_start, query_stop, key_start, key_stop) of each chunk: only keys that some query of the chunk may see."""
    past = S - T  # keys that were there before the first query
    for start in range(0, T, QUERY_CHUNK):
        stop = min(start + QUERY_CHUNK, T)
        key_start = 0 if window is None else max(0, past + start - window + 1)
        yield start, stop, key_start, past + stop if causal else S


def _first_with_last(count):
    """0, count - 1, 1, count - 2 ...: later queries see more keys, and so each share of this order is as much work."""
    return sorted(range(count), key=lambda i: min(i, count - 1 - i))


@differentiable
def attention(
    query, key, value, position_bias=None, *, scale, causal=True, window=None, softcap=None, attention_mask=None
):
    """softmax(scale * q k^T + position_bias + mask) v.

    query: (B, T, H, D), the last T of S positions;  key, value: (B, S, G, D);  position_bias: (H, T, S) or None, added
    to the scaled scores (T5), before the cap;  attention_mask: (B, S), 0 is padding;  returns (B, T, H, D).
    The r = H / G query heads of a group are stacked into one matrix product with their key head.
    """
    (B, T, H, D), (S, G) = query.shape, key.shape[1:3]
    r = H // G
    scale = query.dtype.type(scale)
    q = (query * scale).reshape(B, T, G, r, D).transpose(0, 2, 3, 1, 4)  # (B, G, r, T, D)
    k, v = key.transpose(0, 2, 1, 3), value.transpose(0, 2, 1, 3)  # (B, G, S, D)
    padding = None if attention_mask is None else _padding_bias(attention_mask, query.dtype)
    head_bias = None if position_bias is None else position_bias.reshape(G, r, T, S)
    output = np.empty((B, G, r, T, D), query.dtype)
    chunks = list(query_chunks(T, S, causal, window))
    kept = [None] * len(chunks)

    def attend(share):
        for number in _first_with_last(len(chunks))[share]:
            start, stop, first, last = chunks[number]
            t, s = stop - start, last - first
            q_rows = q[:, :, :, start:stop].reshape(B, G, r * t, D)  # the queries of a group's heads in one matrix
            scores = (q_rows @ k[:, :, first:last].swapaxes(-1, -2)).reshape(B, G, r, t, s)
            if head_bias is not None:
                scores += head_bias[:, :, start:stop, first:last]
            bias = _mask_bias(S - T + start, S - T + stop, first, last, causal, window, query.dtype)
            seen = None if padding is None else padding[..., first:last]
            probabilities, capped = masked_softmax(scores, bias, seen, softcap)
            probabilities = probabilities.reshape(B, G, r * t, s)
            output[:, :, :, start:stop] = (probabilities @ v[:, :, first:last]).reshape(B, G, r, t, D)
            kept[number] = (start, stop, first, last, q_rows, probabilities, capped)

    map_shares(attend, len(chunks), work=B * H * T * S)

    def vjp(dy):
        dy = dy.reshape(B, T, G, r, D).transpose(0, 2, 3, 1, 4)  # (B, G, r, T, D)
        dquery = np.empty_like(q)
        dkey, dvalue = np.zeros_like(k), np.zeros_like(v)
        dbias = None if head_bias is None else np.zeros_like(head_bias)
        for start, stop, first, last, q_rows, probabilities, capped in kept:
            do = dy[:, :, :, start:stop].reshape(q_rows.shape)  # (B, G, r t, D)
            dvalue[:, :, first:last] += probabilities.swapaxes(-1, -2) @ do
            dscores = do @ v[:, :, first:last].swapaxes(-1, -2)  # (B, G, r t, s): gradient of the probabilities
            dscores -= np.vecdot(dscores, probabilities)[..., None]
            dscores *= probabilities  # softmax: dS = P * (dP - sum(dP * P))
            if capped is not None:
                dscores *= 1 - np.square(capped).reshape(dscores.shape)
            if dbias is not None:  # every sequence of the batch saw the same bias
                dbias[:, :, start:stop, first:last] += dscores.reshape(B, G, r, stop - start, last - first).sum(axis=0)
            dkey[:, :, first:last] += dscores.swapaxes(-1, -2) @ q_rows  # q_rows carries the scale
            dq = dscores @ k[:, :, first:last]
            dquery[:, :, :, start:stop] = dq.reshape(B, G, r, stop - start, D)
        dquery *= scale
        dquery = dquery.transpose(0, 3, 1, 2, 4).reshape(query.shape)
        gradients = dquery, dkey.transpose(0, 2, 1, 3), dvalue.transpose(0, 2, 1, 3)
        return gradients if dbias is None else (*gradients, dbias.reshape(H, T, S))

    return output.transpose(0, 3, 1, 2, 4).reshape(query.shape), vjp
