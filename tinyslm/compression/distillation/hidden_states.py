"""Inner states: the student's activations approach the teacher's."""

import numpy as np

from tinyslm.autodiff import differentiable
from tinyslm.compression.distillation.masked_positions import restore_positions, select_positions
from tinyslm.errors import DataError


@differentiable
def hidden_state_loss(student, teacher, *, mask=None):
    """Mean squared difference per element of the positions that count.

    student, teacher: (..., C) of the same width;  mask: (...), 0 where a position does not count;  returns a scalar in
    squared units of the states, dtype of the student, 0 if no position counts. The teacher receives no gradient.
    Source: Jiao et al. 2020 (TinyBERT), section 3.1: MSE(H_S W_h, H_T). W_h is an ordinary Linear from the student's
    width to the teacher's, applied by the caller, trained together with the student and dropped afterwards.
    """
    if student.shape != teacher.shape:
        raise DataError(
            f"hidden states must have the same shape, found student {student.shape} and teacher {teacher.shape}; "
            "bring the student to the teacher's width with a Linear"
        )
    difference = select_positions(student, mask) - select_positions(teacher.astype(student.dtype, copy=False), mask)
    count = student.dtype.type(max(difference.size, 1))  # elements

    def vjp(dloss):
        dstudent = difference * (2 / count * dloss)  # (n, C)
        return restore_positions(dstudent, mask, student.shape), None

    return np.sum(np.square(difference)) / count, vjp
