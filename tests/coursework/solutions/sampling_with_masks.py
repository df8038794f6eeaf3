"""Ranks instead of sorted copies: a token's rank says whether it stays."""

import numpy as np


def next_token_probabilities(logits, temperature=1.0, top_k=None, top_p=None):
    order = np.argsort(-np.asarray(logits), axis=-1, kind="stable")
    rank = np.argsort(order, axis=-1, kind="stable")
    shifted = (logits - np.max(logits, axis=-1, keepdims=True)).astype(np.float64) / temperature
    probabilities = np.exp(shifted)
    if top_k is not None:
        probabilities = np.where(rank < top_k, probabilities, 0)
    probabilities /= probabilities.sum(axis=-1, keepdims=True)
    if top_p is not None:
        ranked = np.take_along_axis(probabilities, order, axis=-1)
        above = np.cumsum(ranked, axis=-1) - ranked
        above[..., 1:] = np.cumsum(ranked, axis=-1)[..., :-1]
        stays = np.take_along_axis((above < top_p) | (np.arange(ranked.shape[-1]) == 0), rank, axis=-1)
        probabilities = np.where(stays, probabilities, 0)
        probabilities /= probabilities.sum(axis=-1, keepdims=True)
    return probabilities
