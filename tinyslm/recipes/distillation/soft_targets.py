"""The loss on the teacher's output distribution, by the settings of `Distill`.

Mathematics: `tinyslm/compression/distillation/soft_targets.py`. Lesson: `lessons/06_distillation.py`.
"""

from tinyslm.compression.distillation import (
    jensen_shannon_loss,
    reverse_kl_loss,
    soft_target_loss,
    top_k_target_loss,
    top_k_targets,
)
from tinyslm.ops import IGNORED

DIVERGENCES = ("forward", "reverse", "jensen_shannon")


def soft_loss(settings, student_logits, teacher_logits, targets):
    """T^2 times the divergence in the settings of `Distill`, a mean over positions with a target. Logits: (B, T, V)."""
    predicted, T = targets != IGNORED, settings.temperature  # (B, T)
    if settings.divergence == "reverse":
        return reverse_kl_loss(student_logits, teacher_logits, T, mask=predicted)
    if settings.divergence == "jensen_shannon":
        return jensen_shannon_loss(student_logits, teacher_logits, settings.beta, T, mask=predicted)
    if settings.top_k is not None:
        tokens, log_probabilities = top_k_targets(teacher_logits, settings.top_k, T)
        return top_k_target_loss(student_logits, tokens, log_probabilities, T, mask=predicted)
    return soft_target_loss(student_logits, teacher_logits, T, mask=predicted)
