"""Attention losses: scores (TinyBERT; Jiao et al. 2020) and probabilities (MiniLM; Wang et al. 2020).

On models: `tinyslm/recipes/distillation/feature_losses.py`. Lesson: `lessons/06_distillation.py`.
"""

import numpy as np

from tinyslm.autodiff import differentiable
from tinyslm.compression.argument_checks import array, checked, require_finite, require_same_shape
from tinyslm.compression.distillation.soft_targets import soft_target_loss
from tinyslm.errors import DataError


@differentiable
@checked(query=array("B", "T", "H", "D"), key=array("B", "S", "G", "D"))
def attention_scores(query: np.ndarray, key: np.ndarray, *, scale: float) -> np.ndarray:
    """Scaled dot products of queries and keys, before cap, mask and softmax.

    Parameters
    ----------
    query : ndarray, shape (B, T, H, D)
    key : ndarray, shape (B, S, G, D)
        Query head h uses key head h // (H / G).
    scale : float

    Returns
    -------
    ndarray, shape (B, H, T, S)
        ``scale * q k^T``, dtype of `query`.

    Raises
    ------
    DataError
        If shapes do not match, or values are not finite.

    References
    ----------
    Vaswani et al. 2017, eq. 1.

    Examples
    --------
    >>> attention_scores(np.ones((1, 1, 2, 4)), np.ones((1, 3, 1, 4)), scale=0.5)[0, 0]
    array([[2., 2., 2.]])
    """
    (B, T, H, D), (S, G) = query.shape, key.shape[1:3]
    if G == 0 or H % G:
        raise DataError(f"the number of query heads, {H}, is not a multiple of the number of key heads, {G}")
    scale = query.dtype.type(scale)
    q = query.reshape(B, T, G, H // G, D).transpose(0, 2, 3, 1, 4)  # (B, G, r, T, D)
    k = key.transpose(0, 2, 1, 3)[:, :, None]  # (B, G, 1, S, D)

    def vjp(dscores):
        dscores = dscores.reshape(B, G, H // G, T, S) * scale
        dquery = (dscores @ k).transpose(0, 3, 1, 2, 4).reshape(query.shape)
        dkey = np.sum(dscores.swapaxes(-1, -2) @ q, axis=2).transpose(0, 2, 1, 3)  # over the heads of a group
        return dquery, dkey

    return (q @ k.swapaxes(-1, -2) * scale).reshape(B, H, T, S), vjp


def _pairs(student_scores, teacher_scores, mask):
    """The mask as booleans (..., T, S), all True for None. Raises DataError if shapes do not match."""
    require_same_shape("teacher_scores", teacher_scores, student_scores.shape)
    if mask is None:
        return np.ones(student_scores.shape, bool)
    mask = np.asarray(mask)
    require_finite("mask", mask)
    try:
        return np.broadcast_to(mask != 0, student_scores.shape)
    except ValueError:
        raise DataError(f"mask {np.shape(mask)} does not broadcast to the scores' {student_scores.shape}") from None


@differentiable
@checked(student_scores=array(..., "T", "S", finite=False), teacher_scores=array(..., "T", "S", finite=False))
def attention_transfer_loss(
    student_scores: np.ndarray, teacher_scores: np.ndarray, *, mask: np.ndarray | None = None
) -> float:
    """Mean squared error between attention scores, over all heads and the (query, key) pairs in `mask`.

    The teacher receives no gradient.

    Parameters
    ----------
    student_scores, teacher_scores : ndarray, shape (..., T, S)
        Such as (B, H, T, S) of `attention_scores`. Both have the same number of heads.
    mask : ndarray, optional
        Broadcast to the scores; 0 for a pair (query, key) that does not count: a padding key, a key that is not visible
        to the query, and every key of a padding query. By default all count.

    Returns
    -------
    float
        dtype of the student; 0 if no pair counts.

    Raises
    ------
    DataError
        If shapes do not match, or a score that counts is not finite.

    References
    ----------
    Jiao et al. 2020, "TinyBERT" (arXiv 1909.10351), eq. 7: scores before the softmax train faster than probabilities.

    Examples
    --------
    >>> float(attention_transfer_loss(np.array([[1.0, 2.0]]), np.array([[1.0, 5.0]]), mask=np.array([[1, 0]])))
    0.0
    """
    pairs = _pairs(student_scores, teacher_scores, mask)
    teacher_scores = teacher_scores.astype(student_scores.dtype, copy=False)
    difference = np.zeros_like(student_scores)
    np.subtract(student_scores, teacher_scores, out=difference, where=pairs)
    count = student_scores.dtype.type(max(np.count_nonzero(pairs), 1))
    return np.sum(np.square(difference)) / count, lambda dloss: (difference * (2 / count * dloss), None)


@differentiable
@checked(student_scores=array(..., "T", "S", finite=False), teacher_scores=array(..., "T", "S", finite=False))
def attention_relation_loss(
    student_scores: np.ndarray, teacher_scores: np.ndarray, *, mask: np.ndarray | None = None
) -> float:
    """Mean over heads and queries of KL(softmax(teacher's scores) || softmax(student's scores)), in nats.

    The softmax is over the keys in `mask`. A query without any key in `mask` is ignored. The teacher receives no
    gradient.

    Parameters
    ----------
    student_scores, teacher_scores : ndarray, shape (..., T, S)
        Such as (B, H, T, S) of `attention_scores`. Both have the same number of heads.
    mask : ndarray, optional
        Broadcast to the scores; 0 for a pair (query, key) that does not count: a padding key, a key that is not visible
        to the query, and every key of a padding query. By default all count.

    Returns
    -------
    float
        dtype of the student; 0 if no pair counts.

    Raises
    ------
    DataError
        If shapes do not match, or a score that counts is not finite.

    References
    ----------
    Wang et al. 2020, "MiniLM" (arXiv 2002.10957), eq. 6: for the last layer.

    Examples
    --------
    >>> round(float(attention_relation_loss(np.array([[0.0, 0.0]]), np.array([[2.0, 0.0]]))), 4)
    0.3278
    """
    pairs = _pairs(student_scores, teacher_scores, mask)
    lowest = np.finfo(student_scores.dtype).min  # its exponential is 0
    student, teacher = (
        np.where(pairs, scores.astype(student_scores.dtype, copy=False), lowest)
        for scores in (student_scores, teacher_scores)
    )
    loss, rows_vjp = soft_target_loss.with_vjp(student, teacher, 1.0, mask=pairs.any(axis=-1))
    return loss, lambda dloss: rows_vjp(dloss)[:2]
