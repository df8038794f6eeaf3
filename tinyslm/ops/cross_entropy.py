"""Cross-entropy, the loss of a language model, in nats per predicted token."""

import numpy as np

from tinyslm.autodiff import differentiable
from tinyslm.errors import DataError
from tinyslm.ops.argument_checks import require_floating
from tinyslm.tree import Array

IGNORED = -100  # the label of a position that is not predicted


def log_softmax(logits: Array) -> Array:
    """Logarithm of the softmax over the last axis, computed without overflow.

    Parameters
    ----------
    logits : ndarray, shape (..., V)

    Returns
    -------
    ndarray, shape (..., V)
        Log-probabilities in nats, dtype of `logits`.

    Raises
    ------
    DataError
        If `logits` is not float32 or float64, or has no entry per position.

    Examples
    --------
    >>> log_softmax(np.log([1.0, 3.0])).round(4)
    array([-1.3863, -0.2877])
    """
    _require_vocabulary(logits)
    shifted = logits - np.max(logits, axis=-1, keepdims=True)
    return shifted - np.log(np.sum(np.exp(shifted), axis=-1, keepdims=True))


@differentiable
def cross_entropy(logits: Array, labels: Array) -> np.floating:
    """Mean over the predicted positions of -log softmax(logits)[label].

    Parameters
    ----------
    logits : ndarray, shape (..., V)
    labels : ndarray of integers, shape (...)
        The correct token of each position, or `IGNORED` (-100) for a position that is not predicted.

    Returns
    -------
    scalar
        Nats per predicted position, dtype of `logits`; 0 if no position is predicted.

    Raises
    ------
    DataError
        If the labels are not integers of that shape, or not token ids, or `logits` is not float32 or float64.

    Examples
    --------
    >>> float(cross_entropy(np.log([[1.0, 3.0], [1.0, 1.0]]), np.array([1, -100])).round(4))
    0.2877
    """
    _require_vocabulary(logits)
    if labels.shape != logits.shape[:-1] or not np.issubdtype(labels.dtype, np.integer):
        found = f"{labels.dtype}{labels.shape}"
        raise DataError(f"labels are {found}, expected integers of {logits.shape[:-1]}, one per position")
    predicted = np.flatnonzero(labels.reshape(-1) != IGNORED)  # (n,)
    label = labels.reshape(-1)[predicted]  # (n,)
    if label.size and not (label.min() >= 0 and label.max() < logits.shape[-1]):
        raise DataError(
            f"labels {label.min()} to {label.max()} are not all in 0 to {logits.shape[-1] - 1} or {IGNORED} (ignored)"
        )
    rows = logits.reshape(-1, logits.shape[-1])[predicted]  # (n, V), a copy
    count = max(label.size, 1)
    rows -= np.max(rows, axis=-1, keepdims=True)
    label_logit = rows[np.arange(label.size), label]  # (n,)
    exponential = np.exp(rows, out=rows)  # (n, V)
    total = exponential @ np.ones(rows.shape[-1], rows.dtype)  # (n,): faster than the sum over the last axis
    loss = np.sum(np.log(total) - label_logit) / logits.dtype.type(count)

    def vjp(dloss):
        share = dloss / logits.dtype.type(count)  # of each predicted position in the mean
        drows = exponential * (share / total)[:, None]  # (n, V) softmax
        drows[np.arange(label.size), label] -= share  # minus one-hot
        dlogits = np.zeros((labels.size, logits.shape[-1]), logits.dtype)
        dlogits[predicted] = drows
        return dlogits.reshape(logits.shape), None

    return loss, vjp


def _require_vocabulary(logits):
    """Raise DataError unless the logits are floating-point, with at least one per position."""
    require_floating(logits=logits)
    if logits.ndim == 0 or logits.shape[-1] == 0:
        raise DataError(f"logits must have shape (..., V) with V at least 1, found {logits.shape}")
