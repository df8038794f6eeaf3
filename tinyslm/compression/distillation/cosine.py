"""Directions: the student's states point where the teacher's do, of whatever length."""

import numpy as np

from tinyslm.autodiff import differentiable
from tinyslm.compression.argument_checks import require_same_shape
from tinyslm.compression.distillation.masked_positions import restore_positions, select_positions


def _directions(rows):
    """rows (n, C) divided by their lengths, and the lengths (n, 1); a row of zeros stays zero, with length inf."""
    largest = np.max(np.abs(rows), axis=-1, keepdims=True, initial=0)  # (n, 1): squares must not overflow
    rows = rows / np.where(largest > 0, largest, 1)
    length = np.sqrt(np.sum(np.square(rows), axis=-1, keepdims=True))  # (n, 1)
    length = np.where(length > 0, length, np.inf)
    return rows / length, length * np.where(largest > 0, largest, 1)


@differentiable
def cosine_loss(student, teacher, *, mask=None):
    """Mean over positions of 1 - cos(student, teacher): 0 for the same direction, 2 for the opposite one.

    student, teacher: (..., C) of the same width;  mask: (...), 0 where a position does not count;  returns a scalar
    without unit, dtype of the student, 0 if no position counts. A state of zeros has no direction: its cosine counts
    as 0, and it receives no gradient. Neither does the teacher.
    Source: Sanh et al. 2019 (DistilBERT), section 2; in their code of the last states, at all tokens that are
    no padding.
    """
    require_same_shape("teacher", teacher, student.shape)
    student_rows, student_length = _directions(select_positions(student, mask))  # (n, C), (n, 1)
    teacher_rows, _ = _directions(select_positions(teacher.astype(student.dtype, copy=False), mask))
    cosine = np.vecdot(student_rows, teacher_rows)  # (n,)
    count = student.dtype.type(max(cosine.size, 1))

    def vjp(dloss):
        across = cosine[:, None] * student_rows - teacher_rows  # (n, C), at a right angle to the student
        return restore_positions(across / student_length * (dloss / count), mask, student.shape), None

    return np.sum(np.maximum(1 - cosine, 0)) / count, vjp
