"""Value-relation loss: similarities between the values of tokens (MiniLM; Wang et al. 2020, arXiv 2002.10957).

On models: `tinyslm/recipes/distillation/feature_losses.py`. Lesson: `lessons/06_distillation.py`.
"""

import numpy as np

from tinyslm.autodiff import differentiable
from tinyslm.compression.argument_checks import array, checked, require_finite, require_same_shape
from tinyslm.compression.distillation.attention_maps import attention_relation_loss, attention_scores
from tinyslm.compression.distillation.masked_positions import unmasked_pairs
from tinyslm.errors import DataError


@differentiable
@checked(
    student_values=array("B", "T", "G", "D_S", finite=False), teacher_values=array("B", "T", "G", "D_T", finite=False)
)
def value_relation_loss(
    student_values: np.ndarray, teacher_values: np.ndarray, *, mask: np.ndarray | None = None
) -> float:
    """MiniLM's value-relation loss: KL(softmax(V_T V_T^T / sqrt(D_T)) || softmax(V_S V_S^T / sqrt(D_S))), in nats.

    The loss is the mean over heads and tokens. Head sizes may differ. The loss is invariant to an orthogonal
    transformation of the values of a head. The teacher receives no gradient.

    Parameters
    ----------
    student_values : ndarray, shape (B, T, G, D_S)
    teacher_values : ndarray, shape (B, T, G, D_T)
    mask : ndarray, shape (B, T), optional
        0 at tokens to ignore (padding). By default no token is ignored.

    Returns
    -------
    float
        dtype of the student; 0 if all tokens are ignored.

    Raises
    ------
    DataError
        If shapes do not match, or a value that counts is not finite.

    References
    ----------
    Wang et al. 2020, "MiniLM" (arXiv 2002.10957), eqs. 7 to 9: for the last layer.

    Examples
    --------
    >>> values = np.array([[[[1.0, 0.0]], [[0.0, 1.0]]]])  # two tokens, one head
    >>> float(value_relation_loss(values, values[..., ::-1]))
    0.0
    """
    if student_values.size == 0 or teacher_values.size == 0:
        raise DataError(f"values must not be empty, found {student_values.shape} and {teacher_values.shape}")
    pairs = None
    if mask is not None:
        mask = np.asarray(mask)
        require_same_shape("mask", mask, student_values.shape[:2])
        require_finite("mask", mask)
        real = mask != 0
        pairs = unmasked_pairs(real)  # (B, 1, T, T)
        student_values, teacher_values = (
            np.where(real[:, :, None, None], values, values.dtype.type(0))
            for values in (student_values, teacher_values)
        )
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
