"""Mean over positions of a divergence between the distributions of teacher and student, with its gradient."""

import numpy as np

from tinyslm.compression.argument_checks import checked, positive, require_same_shape
from tinyslm.compression.distillation.masked_positions import restore_positions, select_positions

ROWS_AT_ONCE = 256  # positions per pass: their logits fit in the processor's cache


def softmax(logits):
    """Softmax over the last axis and its logarithm. logits: (n, V), overwritten."""
    logits -= np.max(logits, axis=-1, keepdims=True)
    probabilities = np.exp(logits)  # (n, V)
    total = np.sum(probabilities, axis=-1, keepdims=True)  # (n, 1)
    probabilities /= total
    logits -= np.log(total)
    return probabilities, logits


@checked(temperature=positive)
def mean_divergence(divergence, student_logits, teacher_logits, temperature, mask):
    """T^2 * mean over positions of a divergence of softmax(teacher / T) and softmax(student / T), and its vjp.

    divergence(student, log_student, teacher, log_teacher): four (n, V) -> values (n,), and the gradient (n, V) with
    respect to the student's logits / T. The vjp returns one gradient, with respect to the student's logits.
    """
    require_same_shape("teacher_logits", teacher_logits, student_logits.shape)
    T = student_logits.dtype.type(temperature)
    teacher_logits = teacher_logits.astype(T.dtype, copy=False)  # the same precision for both
    student_rows = select_positions(student_logits, mask)  # (n, V)
    teacher_rows = select_positions(teacher_logits, mask)  # (n, V)
    values = np.empty(len(student_rows), T.dtype)  # (n,)
    gradient = np.empty_like(student_rows)  # (n, V)
    for start in range(0, len(student_rows), ROWS_AT_ONCE):
        rows = slice(start, start + ROWS_AT_ONCE)
        values[rows], gradient[rows] = divergence(*softmax(student_rows[rows] / T), *softmax(teacher_rows[rows] / T))
    values = np.maximum(values, 0)  # rounding can violate Gibbs' inequality by one part in 10^7
    count = T.dtype.type(max(values.size, 1))

    def vjp(dloss):
        return restore_positions(gradient * (T / count * dloss), mask, student_logits.shape)

    return T * T * np.sum(values) / count, vjp
