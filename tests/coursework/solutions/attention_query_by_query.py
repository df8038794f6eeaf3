"""A loop over batch, heads and queries."""

import math

import numpy as np


def allowed_keys(query_slots, key_slots, causal=True, window=None, lookahead=None):
    def allowed(distance):
        before = window is None or distance < window
        return before and (not causal or distance >= 0) and (lookahead is None or -distance <= lookahead)

    return np.array([[allowed(q - k) for k in key_slots] for q in query_slots])


def attention_probabilities(
    query,
    key,
    position_bias=None,
    *,
    scale,
    causal=True,
    window=None,
    lookahead=None,
    softcap=None,
    attention_mask=None,
):
    (B, T, H, _), (S, G) = query.shape, key.shape[1:3]
    allowed = allowed_keys(range(S - T, S), range(S), causal, window, lookahead)
    result = np.zeros((B, H, T, S), query.dtype)
    for b, h, t in np.ndindex(B, H, T):
        scores = scale * (key[b, :, h * G // H] @ query[b, t, h])
        if position_bias is not None:
            scores = scores + position_bias[h, t]
        if softcap:
            scores = softcap * np.tanh(scores / softcap)
        open_keys = [s for s in range(S) if allowed[t, s] and (attention_mask is None or attention_mask[b, s])]
        largest = max(scores[s] for s in open_keys)
        terms = {s: math.exp(scores[s] - largest) for s in open_keys}
        for s, term in terms.items():
            result[b, h, t, s] = term / sum(terms.values())
    return result
