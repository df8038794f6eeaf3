"""Soft targets: the student matches the teacher's whole distribution, not only the correct token."""

import math

import numpy as np

from tinyslm.autodiff import differentiable
from tinyslm.compression.checks import require_same_shape
from tinyslm.compression.distillation.positions import restore_positions, select_positions
from tinyslm.errors import ConfigError

ROWS_AT_ONCE = 256  # positions per pass: their logits stay in the processor's cache


def _softmax(logits):
    """softmax over the last axis and its logarithm, from one exponential. logits: (n, V), overwritten."""
    logits -= np.max(logits, axis=-1, keepdims=True)
    probabilities = np.exp(logits)  # (n, V)
    total = np.sum(probabilities, axis=-1, keepdims=True)  # (n, 1)
    probabilities /= total
    logits -= np.log(total)
    return probabilities, logits


@differentiable
def soft_target_loss(student_logits, teacher_logits, temperature, *, mask=None):
    """T^2 * mean over positions of KL(softmax(teacher / T) || softmax(student / T)), in nats.

    student_logits, teacher_logits: (..., V), finite;  temperature: T > 0;  mask: (...), 0 where a position does not
    count;  returns a scalar, dtype of the student, 0 if no position counts. It is 0 exactly where the logits differ by
    a constant per position. The gradient with respect to the student is T (p_student - p_teacher) / positions; T^2
    keeps its size comparable to a cross entropy's as T grows. The teacher receives no gradient.
    Source: Hinton, Vinyals & Dean 2015, sections 2 and 2.1. The mean is per position (not per vocabulary entry, which
    is what reduction='mean' of PyTorch's KLDivLoss does).
    """
    if not 0 < temperature < math.inf:
        raise ConfigError(f"temperature must be a positive number, found {temperature!r}")
    require_same_shape("teacher_logits", teacher_logits, student_logits.shape)
    T = student_logits.dtype.type(temperature)
    teacher_logits = teacher_logits.astype(T.dtype, copy=False)  # both are normalized in the same precision
    student_rows = select_positions(student_logits, mask)  # (n, V)
    teacher_rows = select_positions(teacher_logits, mask)  # (n, V)
    divergence = np.empty(len(student_rows), T.dtype)  # (n,)
    difference = np.empty_like(student_rows)  # (n, V)
    for start in range(0, len(student_rows), ROWS_AT_ONCE):
        rows = slice(start, start + ROWS_AT_ONCE)
        student, log_student = _softmax(student_rows[rows] / T)
        teacher, log_teacher = _softmax(teacher_rows[rows] / T)
        divergence[rows] = np.vecdot(teacher, log_teacher - log_student)
        np.subtract(student, teacher, out=difference[rows])
    divergence = np.maximum(divergence, 0)  # Gibbs' inequality, which rounding can break by one part in 10^7
    count = T.dtype.type(max(divergence.size, 1))

    def vjp(dloss):
        dstudent = difference * (T / count * dloss)  # (n, V)
        return restore_positions(dstudent, mask, student_logits.shape), None, None

    return T * T * np.sum(divergence) / count, vjp
