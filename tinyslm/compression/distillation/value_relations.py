"""Value relations: which tokens' values resemble each other, in heads of any width."""

import numpy as np

from tinyslm.autodiff import differentiable
from tinyslm.compression.argument_checks import require_same_shape
from tinyslm.compression.distillation.attention_maps import attention_relation_loss, attention_scores
from tinyslm.errors import DataError


@differentiable
def value_relation_loss(student_values, teacher_values, *, mask=None):
    """Mean over heads and tokens of KL(softmax(V_T V_T^T / sqrt(D_T)) || softmax(V_S V_S^T / sqrt(D_S))), in nats.

    student_values: (B, T, G, D_S);  teacher_values: (B, T, G, D_T): the same number of heads, of any widths;  mask:
    (B, T), 0 for padding, which is compared with nothing;  returns a scalar, dtype of the student, 0 if nothing
    counts. Turning the values of a head by an orthogonal matrix changes nothing. The teacher receives no gradient.
    Source: Wang et al. 2020 (MiniLM), eqs. 7 to 9: of the last layer.
    """
    if student_values.ndim != 4 or teacher_values.shape[:-1] != student_values.shape[:-1]:
        raise DataError(
            f"values must be (B, T, G, D) and agree in all but D, found student {student_values.shape} and teacher "
            f"{teacher_values.shape}"
        )
    pairs = None
    if mask is not None:
        real = np.asarray(mask) != 0
        require_same_shape("mask", real, student_values.shape[:2])
        pairs = (real[:, :, None] & real[:, None, :])[:, None]  # (B, 1, T, T)
        student_values = np.where(real[:, :, None, None], student_values, student_values.dtype.type(0))
    teacher_values = teacher_values.astype(student_values.dtype, copy=False)
    student_scores, scores_vjp = _relations.with_vjp(student_values)  # (B, G, T, T)
    loss, loss_vjp = attention_relation_loss.with_vjp(student_scores, _relations(teacher_values), mask=pairs)

    def vjp(dloss):
        return scores_vjp(loss_vjp(dloss)[0])[0], None

    return loss, vjp


@differentiable
def _relations(values):
    """V V^T / sqrt(D) of each head: (B, T, G, D) -> (B, G, T, T)."""
    scores, scores_vjp = attention_scores.with_vjp(values, values, scale=values.shape[-1] ** -0.5)
    return scores, lambda dscores: (sum(scores_vjp(dscores)),)
