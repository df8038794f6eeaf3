"""Soft-target loss: forward KL divergence from the teacher's distribution (Hinton, Vinyals & Dean 2015).

On models: `tinyslm/recipes/distillation/soft_targets.py`. Lesson: `lessons/06_distillation.py`.
"""

import numpy as np

from tinyslm.autodiff import differentiable
from tinyslm.compression.argument_checks import array, checked
from tinyslm.compression.distillation.divergence import mean_divergence


@differentiable
@checked(student_logits=array(..., "V", finite=False), teacher_logits=array(..., "V", finite=False))
def soft_target_loss(
    student_logits: np.ndarray, teacher_logits: np.ndarray, temperature: float, *, mask: np.ndarray | None = None
) -> float:
    """T^2 * mean over positions of KL(softmax(teacher / T) || softmax(student / T)), in nats.

    It is 0 exactly where the logits differ by a constant per position. The gradient with respect to the student's
    logits is T (p_student - p_teacher) / positions. The factor T^2 keeps it comparable to the gradient of a cross
    entropy when T is large. The teacher receives no gradient.
    The mean is per position, not per vocabulary entry (as in reduction='mean' of PyTorch's KLDivLoss).

    Parameters
    ----------
    student_logits, teacher_logits : ndarray, shape (..., V)
        Finite.
    temperature : float
        T, above 0.
    mask : ndarray, shape (...), optional
        0 at positions to ignore, such as padding. By default no position is ignored.

    Returns
    -------
    float
        dtype of the student; 0 if all positions are ignored.

    Raises
    ------
    ConfigError
        If temperature is not positive and finite.
    DataError
        If shapes do not match, or a logit that counts is not finite.

    References
    ----------
    Hinton, Vinyals & Dean 2015, "Distilling the Knowledge in a Neural Network" (arXiv 1503.02531), sections 2 and 2.1.

    Examples
    --------
    >>> round(float(soft_target_loss(np.array([[0.0, 0.0]]), np.array([[2.0, 0.0]]), 1.0)), 4)
    0.3278
    """

    def forward_kl(student, log_student, teacher, log_teacher):
        return np.vecdot(teacher, log_teacher - log_student), student - teacher

    loss, student_vjp = mean_divergence(forward_kl, student_logits, teacher_logits, temperature, mask)
    return loss, lambda dloss: (student_vjp(dloss), None, None)
