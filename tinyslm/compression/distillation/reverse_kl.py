"""Reverse KL divergence: mode-seeking distillation loss (MiniLLM; Gu et al. 2024, arXiv 2306.08543).

On models: `tinyslm/recipes/distillation/soft_targets.py`. Lesson: `lessons/06_distillation.py`.
"""

import numpy as np

from tinyslm.autodiff import differentiable
from tinyslm.compression.argument_checks import array, checked
from tinyslm.compression.distillation.divergence import mean_divergence


def reverse_divergence(student, log_student, log_other):
    """KL(student || other) of each row (n,), and its gradient (n, V) with respect to the student's logits.

    student, log_student, log_other: (n, V). The gradient is q_i (log(q_i / p_i) - KL); its rows sum to 0.
    """
    log_ratio = log_student - log_other  # (n, V)
    divergence = np.vecdot(student, log_ratio)  # (n,)
    return divergence, student * (log_ratio - divergence[:, None])


@differentiable
@checked(student_logits=array(..., "V", finite=False), teacher_logits=array(..., "V", finite=False))
def reverse_kl_loss(
    student_logits: np.ndarray, teacher_logits: np.ndarray, temperature: float = 1.0, *, mask: np.ndarray | None = None
) -> float:
    """T^2 * mean over positions of KL(softmax(student / T) || softmax(teacher / T)), in nats.

    It is mode-seeking: the student may ignore modes of the teacher, but is penalized for tokens that are improbable
    under the teacher. Small students then generate better text, with a higher cross entropy. This is the per-token term
    of the divergence between sequences; it ignores the effect of a token on later tokens (sampling has no gradient).

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
    Gu et al. 2024, "MiniLLM: Knowledge Distillation of Large Language Models" (arXiv 2306.08543), section 2.1.

    Examples
    --------
    >>> round(float(reverse_kl_loss(np.array([[0.0, 0.0]]), np.array([[2.0, 0.0]]))), 4)
    0.4338
    """

    def reverse_kl(student, log_student, teacher, log_teacher):
        return reverse_divergence(student, log_student, log_teacher)

    loss, student_vjp = mean_divergence(reverse_kl, student_logits, teacher_logits, temperature, mask)
    return loss, lambda dloss: (student_vjp(dloss), None, None)
