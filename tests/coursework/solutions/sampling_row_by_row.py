"""One row at a time, with a loop over the ranked tokens."""

import numpy as np

from tinyslm.errors import ConfigError


def next_token_probabilities(logits, temperature=1.0, top_k=None, top_p=None):
    if not temperature > 0:
        raise ConfigError("temperature must be positive")
    return np.apply_along_axis(lambda row: of_row(row, temperature, top_k, top_p), -1, logits)


def of_row(logits, temperature, top_k, top_p):
    ranked = sorted(range(len(logits)), key=lambda token: (-float(logits[token]), token))[:top_k]
    weights = [np.exp((float(logits[token]) - float(logits[ranked[0]])) / temperature) for token in ranked]
    total, above, kept = sum(weights), 0.0, {}
    for token, weight in zip(ranked, weights, strict=True):
        if top_p is not None and above >= top_p and kept:
            break
        kept[token] = weight / total
        above += weight / total
    probabilities = np.zeros(len(logits))
    for token, probability in kept.items():
        probabilities[token] = probability / sum(kept.values())
    return probabilities
