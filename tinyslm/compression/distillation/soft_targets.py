"""Soft targets: the student matches the teacher's whole distribution, not only the correct token."""

import numpy as np

from tinyslm.autodiff import differentiable
from tinyslm.compression.distillation.divergence import mean_divergence


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

    def forward_kl(student, log_student, teacher, log_teacher):
        return np.vecdot(teacher, log_teacher - log_student), student - teacher

    loss, student_vjp = mean_divergence(forward_kl, student_logits, teacher_logits, temperature, mask)
    return loss, lambda dloss: (student_vjp(dloss), None, None)
