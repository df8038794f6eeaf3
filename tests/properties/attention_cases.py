"""Attention in its plainest form, and cases with every setting, for the properties of anything that computes it."""

import numpy as np
from hypothesis import strategies as st
from scipy import special

from tests.strategies import seeds


def plain_attention(
    query,
    key,
    value,
    position_bias=None,
    *,
    scale,
    causal=True,
    window=None,
    lookahead=None,
    softcap=None,
    attention_mask=None,
):
    """Equation 1 of Vaswani et al., head by head and query by query, with only the allowed keys in the softmax."""
    (B, T, H, _), (S, G) = query.shape, key.shape[1:3]
    key, value = np.repeat(key, H // G, axis=2), np.repeat(value, H // G, axis=2)  # (B, S, H, D)
    output, probabilities = np.zeros(query.shape), np.zeros((B, H, T, S))
    for b, t, h in np.ndindex(B, T, H):
        slot = S - T + t
        allowed = [
            s
            for s in range(S)
            if (not causal or s <= slot)
            and (window is None or s > slot - window)
            and (lookahead is None or s <= slot + lookahead)
            and (attention_mask is None or attention_mask[b, s])
        ]
        scores = scale * key[b, allowed, h] @ query[b, t, h]
        if position_bias is not None:
            scores = scores + position_bias[h, t, allowed]
        if softcap is not None:
            scores = softcap * np.tanh(scores / softcap)
        probabilities[b, h, t, allowed] = special.softmax(scores)
        output[b, t, h] = probabilities[b, h, t, allowed] @ value[b, allowed, h]
    return output, probabilities


@st.composite
def attention_cases(draw, max_tokens=7):
    """(inputs, settings): grouped heads, earlier keys, masks of every kind, perhaps a bias; a query may see itself."""
    G, r, D, B = draw(st.sampled_from([(1, 3, 4, 2), (2, 1, 4, 3), (2, 3, 5, 1), (3, 2, 4, 2)]))
    T, past = draw(st.integers(1, max_tokens)), draw(st.sampled_from([0, 0, 3]))
    S = T + past
    rng = np.random.default_rng(draw(seeds))
    options = {
        "scale": draw(st.sampled_from([D**-0.5, 0.7])),
        "causal": draw(st.booleans()),
        "window": draw(st.sampled_from([None, 1, 2, 4])),
        "lookahead": draw(st.sampled_from([None, None, 0, 1, 3])),
        "softcap": draw(st.sampled_from([None, 1.5])),
    }
    if draw(st.booleans()):
        options["attention_mask"] = (np.arange(S) >= rng.integers(0, past + 1, (B, 1))).astype(int)  # padded left
    inputs = [rng.standard_normal((B, n, heads, D)) for n, heads in ((T, G * r), (S, G), (S, G))]
    if draw(st.booleans()):
        inputs.append(rng.standard_normal((G * r, T, S)))
    return inputs, options
