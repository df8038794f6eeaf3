"""Cosine loss: angle between hidden states (DistilBERT; Sanh et al. 2019, arXiv 1910.01108).

On models: `tinyslm/recipes/distillation/distill.py`. Lesson: `lessons/06_distillation.py`.
"""

import numpy as np

from tinyslm.autodiff import differentiable
from tinyslm.compression.argument_checks import array, checked, require_same_shape
from tinyslm.compression.distillation.masked_positions import restore_positions, select_positions


def _directions(rows):
    """Rows (n, C) divided by their norms, and the norms (n, 1). A row of zeros is unchanged and has norm inf."""
    largest = np.max(np.abs(rows), axis=-1, keepdims=True, initial=0)  # (n, 1): squares must not overflow
    rows = rows / np.where(largest > 0, largest, 1)
    length = np.sqrt(np.sum(np.square(rows), axis=-1, keepdims=True))  # (n, 1)
    length = np.where(length > 0, length, np.inf)
    return rows / length, length * np.where(largest > 0, largest, 1)


@differentiable
@checked(student=array(..., "C", finite=False), teacher=array(..., "C", finite=False))
def cosine_loss(student: np.ndarray, teacher: np.ndarray, *, mask: np.ndarray | None = None) -> float:
    """Mean over positions of 1 - cos(student, teacher): 0 for the same direction, 2 for the opposite one.

    The cosine of a zero state counts as 0, and a zero state receives no gradient. The teacher receives no gradient.

    Parameters
    ----------
    student, teacher : ndarray, shape (..., C)
        Hidden states of the same width.
    mask : ndarray, shape (...), optional
        0 at positions to ignore, such as padding. By default no position is ignored.

    Returns
    -------
    float
        Without unit, dtype of the student; 0 if all positions are ignored.

    Raises
    ------
    DataError
        If shapes do not match, or a state that counts is not finite.

    References
    ----------
    Sanh et al. 2019, "DistilBERT" (arXiv 1910.01108), section 2. Their code applies it to the final states of all
    tokens except padding.

    Examples
    --------
    >>> float(cosine_loss(np.array([[2.0, 0.0]]), np.array([[0.0, 3.0]])))
    1.0
    """
    require_same_shape("teacher", teacher, student.shape)
    student_rows, student_length = _directions(select_positions(student, mask))  # (n, C), (n, 1)
    teacher_rows, _ = _directions(select_positions(teacher.astype(student.dtype, copy=False), mask))
    cosine = np.vecdot(student_rows, teacher_rows)  # (n,)
    count = student.dtype.type(max(cosine.size, 1))

    def vjp(dloss):
        across = cosine[:, None] * student_rows - teacher_rows  # (n, C), orthogonal to the student
        return restore_positions(across / student_length * (dloss / count), mask, student.shape), None

    return np.sum(np.maximum(1 - cosine, 0)) / count, vjp
