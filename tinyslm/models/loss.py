"""What a language model is trained to make small."""

import numpy as np

from tinyslm import ops


def next_token_loss(model, token_ids, labels=None, **inputs):
    """Mean cross entropy, in nats per predicted token, of predicting token t + 1 from tokens 0 .. t.

    token_ids: (B, T) integers;  labels: (B, T) integers, token_ids if None, IGNORED (-100) where nothing is predicted;
    further inputs (attention_mask ...) go to the model. Padding must be ignored by its labels.
    """
    labels = np.asarray(token_ids if labels is None else labels)
    return ops.cross_entropy(model(token_ids, **inputs), following_labels(labels))


def following_labels(labels):
    """What position t predicts: the label of t + 1. The last position has nothing to predict. (B, T) -> (B, T)."""
    following = np.full_like(labels, ops.IGNORED)
    following[:, :-1] = labels[:, 1:]
    return following
