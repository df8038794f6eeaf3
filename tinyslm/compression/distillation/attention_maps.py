"""Attention: the student's tokens look where the teacher's do."""

import numpy as np

from tinyslm.autodiff import differentiable
from tinyslm.compression.argument_checks import require_same_shape
from tinyslm.compression.distillation.soft_targets import soft_target_loss
from tinyslm.errors import DataError


@differentiable
def attention_scores(query, key, *, scale):
    """scale * q k^T, before cap, mask and softmax.

    query: (B, T, H, D);  key: (B, S, G, D), query head h uses key head h // (H / G);  returns (B, H, T, S).
    Source: Vaswani et al. 2017, eq. 1.
    """
    (B, T, H, D), (S, G) = query.shape, key.shape[1:3]
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
    """mask as booleans of the scores' shape (..., T, S), all of them if None, or DataError if shapes do not fit."""
    require_same_shape("teacher_scores", teacher_scores, student_scores.shape)
    if mask is None:
        return np.ones(student_scores.shape, bool)
    try:
        return np.broadcast_to(np.asarray(mask) != 0, student_scores.shape)
    except ValueError:
        raise DataError(f"mask {np.shape(mask)} does not broadcast to the scores' {student_scores.shape}") from None


@differentiable
def attention_transfer_loss(student_scores, teacher_scores, *, mask=None):
    """Mean squared difference of unnormalized scores, over all heads and all pairs of tokens that count.

    student_scores, teacher_scores: (..., T, S), such as (B, H, T, S) of `attention_scores`, with as many heads on both
    sides;  mask: broadcast to them, 0 for a pair (query, key) that does not count: a key that is padding or that the
    query may not see, and every key of a query that is padding;  returns a scalar, dtype of the student, 0 if no pair
    counts. The teacher receives no gradient.
    Source: Jiao et al. 2020 (TinyBERT), eq. 7: the scores before the softmax, since those taught faster.
    """
    pairs = _pairs(student_scores, teacher_scores, mask)
    teacher_scores = teacher_scores.astype(student_scores.dtype, copy=False)
    difference = np.zeros_like(student_scores)
    np.subtract(student_scores, teacher_scores, out=difference, where=pairs)
    count = student_scores.dtype.type(max(np.count_nonzero(pairs), 1))
    return np.sum(np.square(difference)) / count, lambda dloss: (difference * (2 / count * dloss), None)


@differentiable
def attention_relation_loss(student_scores, teacher_scores, *, mask=None):
    """Mean over heads and queries of KL(softmax(teacher's scores) || softmax(student's scores)), in nats.

    Arguments as `attention_transfer_loss`. The softmax is over the keys that count; a query without such a key does
    not count itself. Source: Wang et al. 2020 (MiniLM), eq. 6: of the last layer.
    """
    pairs = _pairs(student_scores, teacher_scores, mask)
    lowest = np.finfo(student_scores.dtype).min / 2  # its exponential is 0
    student, teacher = (
        np.where(pairs, scores.astype(student_scores.dtype, copy=False), student_scores.dtype.type(lowest))
        for scores in (student_scores, teacher_scores)
    )
    loss, rows_vjp = soft_target_loss.with_vjp(student, teacher, 1.0, mask=pairs.any(axis=-1))
    return loss, lambda dloss: rows_vjp(dloss)[:2]
