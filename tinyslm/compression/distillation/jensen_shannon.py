"""The generalized Jensen-Shannon divergence: between forward and reverse, and never large."""

import math

import numpy as np

from tinyslm.autodiff import differentiable
from tinyslm.compression.distillation.divergence import mean_divergence
from tinyslm.compression.distillation.reverse_kl import reverse_divergence
from tinyslm.errors import ConfigError


@differentiable
def jensen_shannon_loss(student_logits, teacher_logits, beta=0.5, temperature=1.0, *, mask=None):
    """T^2 * mean over positions of b KL(P_T || M) + (1 - b) KL(P_S || M) with M = b P_T + (1 - b) P_S, in nats.

    Other arguments, mask, reduction and T^2 as in `soft_target_loss`; P_T and P_S are the teacher's and the student's
    probabilities at temperature T. M is a mixture of probabilities (not of their logarithms). At T = 1 the loss is at
    most the entropy of (b, 1 - b), so at most log 2. Its gradient with respect to the student's logits is (1 - b) times
    that of KL(P_S || M) with M held fixed.
    beta: strictly between 0 and 1, else ConfigError. At 0 and 1 the definition is 0 for all P; only divided by b or by
    1 - b it tends to the forward or the reverse divergence. Some libraries return those at the ends, which jumps:
    here they have names of their own, `soft_target_loss` and `reverse_kl_loss`.
    Source: Agarwal et al. 2024 (GKD), section 2, eq. 1.
    """
    if not 0 < beta < 1:
        raise ConfigError(
            f"beta must be strictly between 0 and 1, found {beta!r}; the loss is 0 at both ends. For the forward "
            "divergence use soft_target_loss, for the reverse one reverse_kl_loss"
        )

    def jensen_shannon(student, log_student, teacher, log_teacher):
        log_mixture = np.logaddexp(log_teacher + math.log(beta), log_student + math.log1p(-beta))  # (n, V)
        from_teacher = np.vecdot(teacher, log_teacher - log_mixture)  # (n,)
        from_student, gradient = reverse_divergence(student, log_student, log_mixture)
        return beta * from_teacher + (1 - beta) * from_student, (1 - beta) * gradient

    loss, student_vjp = mean_divergence(jensen_shannon, student_logits, teacher_logits, temperature, mask)
    return loss, lambda dloss: (student_vjp(dloss), None, None, None)
