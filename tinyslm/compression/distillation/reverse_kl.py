"""Reverse divergence: the student may leave out what the teacher says, but must not say what the teacher would not."""

import numpy as np

from tinyslm.autodiff import differentiable
from tinyslm.compression.distillation.divergence import mean_divergence


def reverse_divergence(student, log_student, log_other):
    """KL(student || other) of each row, and its gradient q_i (log(q_i / p_i) - KL) with respect to the student's
    logits, whose entries sum to 0. student, log_student, log_other: (n, V);  returns (n,) and (n, V)."""
    log_ratio = log_student - log_other  # (n, V)
    divergence = np.vecdot(student, log_ratio)  # (n,)
    return divergence, student * (log_ratio - divergence[:, None])


@differentiable
def reverse_kl_loss(student_logits, teacher_logits, temperature=1.0, *, mask=None):
    """T^2 * mean over positions of KL(softmax(student / T) || softmax(teacher / T)), in nats.

    Arguments, mask, reduction and T^2 as in `soft_target_loss`. It seeks a mode: a student too small for all that the
    teacher says learns a part of it well, which makes better text and a higher cross entropy. This is the token's part
    of the divergence of sequences; the effect of a token on later ones is left out (no gradient through sampling).
    Source: Gu et al. 2024 (MiniLLM), section 2.1.
    """

    def reverse_kl(student, log_student, teacher, log_teacher):
        return reverse_divergence(student, log_student, log_teacher)

    loss, student_vjp = mean_divergence(reverse_kl, student_logits, teacher_logits, temperature, mask)
    return loss, lambda dloss: (student_vjp(dloss), None, None)
