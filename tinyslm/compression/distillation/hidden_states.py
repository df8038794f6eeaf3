"""Hidden-state loss: mean squared error between hidden states (TinyBERT; Jiao et al. 2020, arXiv 1909.10351).

On models: `tinyslm/recipes/distillation/feature_losses.py`. Lesson: `lessons/06_distillation.py`.
"""

import numpy as np

from tinyslm.autodiff import differentiable
from tinyslm.compression.argument_checks import array, checked
from tinyslm.compression.distillation.masked_positions import restore_positions, select_positions
from tinyslm.errors import DataError


@differentiable
@checked(student=array(..., "C", finite=False), teacher=array(..., "width", finite=False))
def hidden_state_loss(student: np.ndarray, teacher: np.ndarray, *, mask: np.ndarray | None = None) -> float:
    """Mean squared error between hidden states: mean over the elements of the positions in `mask`.

    The teacher receives no gradient. If the widths differ, the caller first projects the student's states with a
    `Linear`, which is trained together with the student and removed afterwards.

    Parameters
    ----------
    student, teacher : ndarray, shape (..., C)
        Hidden states of the same width.
    mask : ndarray, shape (...), optional
        0 at positions to ignore, such as padding. By default no position is ignored.

    Returns
    -------
    float
        In squared units of the states, dtype of the student; 0 if all positions are ignored.

    Raises
    ------
    DataError
        If shapes do not match, or a state that counts is not finite.

    References
    ----------
    Jiao et al. 2020, "TinyBERT" (arXiv 1909.10351), section 3.1: MSE(H_S W_h, H_T).

    Examples
    --------
    >>> float(hidden_state_loss(np.array([[1.0, 2.0]]), np.array([[1.0, 4.0]])))
    2.0
    """
    if student.shape != teacher.shape:
        raise DataError(
            f"hidden states must have the same shape, found student {student.shape} and teacher {teacher.shape}; "
            "project the student to the teacher's width with a Linear"
        )
    difference = select_positions(student, mask) - select_positions(teacher.astype(student.dtype, copy=False), mask)
    count = student.dtype.type(max(difference.size, 1))  # elements

    def vjp(dloss):
        dstudent = difference * (2 / count * dloss)  # (n, C)
        return restore_positions(dstudent, mask, student.shape), None

    return np.sum(np.square(difference)) / count, vjp
