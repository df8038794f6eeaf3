"""Generalized Jensen-Shannon divergence: a bounded distillation loss (GKD; Agarwal et al. 2024, arXiv 2306.13649).

On models: `tinyslm/recipes/distillation/soft_targets.py`. Lesson: `lessons/06_distillation.py`.
"""

import math

import numpy as np

from tinyslm.autodiff import differentiable
from tinyslm.compression.argument_checks import array, checked
from tinyslm.compression.distillation.divergence import mean_divergence
from tinyslm.compression.distillation.reverse_kl import reverse_divergence
from tinyslm.errors import ConfigError


@differentiable
@checked(student_logits=array(..., "V", finite=False), teacher_logits=array(..., "V", finite=False))
def jensen_shannon_loss(
    student_logits: np.ndarray,
    teacher_logits: np.ndarray,
    beta: float = 0.5,
    temperature: float = 1.0,
    *,
    mask: np.ndarray | None = None,
) -> float:
    """T^2 * mean over positions of b KL(P_T || M) + (1 - b) KL(P_S || M) with M = b P_T + (1 - b) P_S, in nats.

    P_T and P_S are the probabilities of teacher and student at temperature T; M is the mixture of these probabilities,
    not of their logarithms. At T = 1 the loss is at most the entropy of (b, 1 - b), hence at most log 2. Its gradient
    with respect to the student's logits is (1 - b) times the gradient of KL(P_S || M) with constant M.
    For b = 0 and b = 1 the definition is 0 for all P. Divided by b or by 1 - b, it tends to the forward or the reverse
    divergence. Some libraries return these limits for b = 0 and b = 1, so that their loss is discontinuous in b. Here
    the limits are separate functions, `soft_target_loss` and `reverse_kl_loss`.

    Parameters
    ----------
    student_logits, teacher_logits : ndarray, shape (..., V)
        Finite.
    beta : float
        b, strictly between 0 and 1.
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
        If beta or temperature is out of range.
    DataError
        If shapes do not match, or a logit that counts is not finite.

    References
    ----------
    Agarwal et al. 2024, "On-Policy Distillation of Language Models" (GKD, arXiv 2306.13649), section 2, eq. 1.

    Examples
    --------
    >>> round(float(jensen_shannon_loss(np.array([[0.0, 0.0]]), np.array([[2.0, 0.0]]))), 4)
    0.0895
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
