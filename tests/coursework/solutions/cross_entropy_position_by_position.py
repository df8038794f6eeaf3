"""One position at a time; the loss is a NumPy number, and gradients are in a list."""

import numpy as np

from tinyslm.autodiff import differentiable


@differentiable
def cross_entropy(logits, labels):
    rows, flat = np.reshape(logits, (-1, logits.shape[-1])), np.ravel(labels)
    predicted = [i for i, label in enumerate(flat) if label != -100]
    loss, gradient = 0.0, np.zeros_like(rows)
    for i in predicted:
        row = rows[i] - max(rows[i])
        probabilities = np.exp(row) / sum(np.exp(row))
        loss += (np.log(sum(np.exp(row))) - row[flat[i]]) / len(predicted)
        gradient[i] = probabilities / len(predicted)
        gradient[i, flat[i]] -= 1 / len(predicted)
    return logits.dtype.type(loss), lambda dy: [(dy * gradient.reshape(logits.shape)).astype(logits.dtype), None]
