"""Top-k soft targets: the teacher's k most probable tokens, and one bucket for all others.

On models: `tinyslm/recipes/distillation/soft_targets.py`. Lesson: `lessons/06_distillation.py`.
"""

import numpy as np

from tinyslm.autodiff import differentiable
from tinyslm.compression.argument_checks import (
    array,
    checked,
    positive,
    real,
    require_finite,
    require_integer,
    require_same_shape,
)
from tinyslm.compression.distillation.divergence import softmax
from tinyslm.compression.distillation.masked_positions import restore_positions, select_positions
from tinyslm.errors import DataError
from tinyslm.ops import log_softmax


def top_k_targets(teacher_logits: np.ndarray, k: int, temperature: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    """The k most probable tokens of each position and their log-probabilities, in nats.

    The probabilities sum to less than 1. The rest is the probability of all other tokens, the bucket of
    `top_k_target_loss`.

    Parameters
    ----------
    teacher_logits : ndarray, shape (..., V)
    k : int
        From 1 to V.
    temperature : float
        T, above 0.

    Returns
    -------
    tokens : ndarray of int, shape (..., k)
        Most probable first; of equally probable tokens, the lower id first.
    log_probabilities : ndarray, shape (..., k)
        At temperature T, dtype of the logits; nan at a position with a logit that is nan, such as padding.

    Raises
    ------
    ConfigError
        If k or temperature is out of range.
    DataError
        If a logit is infinite, or overflows when divided by the temperature.

    Examples
    --------
    >>> tokens, log_probabilities = top_k_targets(np.log([[0.2, 0.5, 0.3]]), 2)
    >>> tokens, np.exp(log_probabilities)
    (array([[1, 2]]), array([[0.5, 0.3]]))
    """
    teacher_logits = real("teacher_logits", teacher_logits)
    positive("temperature", temperature, {})
    require_integer("k", k, 1, teacher_logits.shape[-1])
    if np.any(np.isinf(teacher_logits)):
        raise DataError("teacher_logits must be finite, found infinity")
    log_probabilities = log_softmax(teacher_logits / teacher_logits.dtype.type(temperature))  # (..., V)
    if not np.all(np.isfinite(log_probabilities) | np.isnan(teacher_logits).any(axis=-1, keepdims=True)):
        raise DataError("teacher_logits / temperature overflow: raise the temperature, or use float64")
    tokens = np.argsort(-log_probabilities, axis=-1, kind="stable")[..., :k]  # (..., k)
    return tokens, np.take_along_axis(log_probabilities, tokens, axis=-1)


@differentiable
@checked(
    student_logits=array(..., "V", finite=False),
    log_probabilities=array(..., "k", finite=False),
    temperature=positive,
)
def top_k_target_loss(
    student_logits: np.ndarray,
    tokens: np.ndarray,
    log_probabilities: np.ndarray,
    temperature: float = 1.0,
    *,
    mask: np.ndarray | None = None,
) -> float:
    """T^2 * mean over positions of KL(teacher || student) over k tokens and one bucket for all others, in nats.

    For k = V it equals `soft_target_loss`; for smaller k it is at most as large. Without the bucket, the targets would
    not sum to 1, and the student would learn the probability 0 for all other tokens. With the bucket, only the sum of
    the probabilities of these tokens matters.

    Parameters
    ----------
    student_logits : ndarray, shape (..., V)
    tokens, log_probabilities : ndarray, shape (..., k)
        Of `top_k_targets` at the same temperature.
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
        If shapes do not match, a number that counts is not finite, or `tokens` are not k different tokens of the
        vocabulary.

    Examples
    --------
    >>> logits = np.log([[0.2, 0.5, 0.3]])
    >>> tokens, log_probabilities = top_k_targets(logits, 1)
    >>> abs(round(float(top_k_target_loss(np.log([[0.1, 0.5, 0.4]]), tokens, log_probabilities)), 6))
    0.0
    """
    k, V = tokens.shape[-1], student_logits.shape[-1]
    require_same_shape("tokens", tokens, (*student_logits.shape[:-1], k))
    require_same_shape("log_probabilities", log_probabilities, tokens.shape)
    T = student_logits.dtype.type(temperature)
    rows = select_positions(student_logits, mask) / T  # (n, V)
    require_finite("student_logits / temperature", rows)
    tokens = select_positions(tokens, mask)  # (n, k)
    _require_tokens(tokens, V)
    log_teacher = select_positions(log_probabilities, mask).astype(T.dtype, copy=False)  # (n, k)
    teacher = np.exp(log_teacher)
    teacher_rest = np.maximum(1 - np.sum(teacher, axis=-1), 0) * (k < V)  # (n,)

    student, log_student = softmax(rows)  # (n, V)
    others = student.copy()
    np.put_along_axis(others, tokens, 0, axis=-1)
    student_rest = np.maximum(np.sum(others, axis=-1), np.finfo(T.dtype).tiny)  # (n,)
    chosen = np.take_along_axis(log_student, tokens, axis=-1)  # (n, k)
    divergence = np.vecdot(teacher, log_teacher - chosen)
    divergence += np.where(teacher_rest > 0, teacher_rest * np.log(np.where(teacher_rest > 0, teacher_rest, 1)), 0)
    divergence -= teacher_rest * np.log(student_rest)
    count = T.dtype.type(max(len(rows), 1))

    def vjp(dloss):
        drows = student - others * (teacher_rest / student_rest)[:, None]
        np.put_along_axis(drows, tokens, np.take_along_axis(student, tokens, axis=-1) - teacher, axis=-1)
        return restore_positions(drows * (T / count * dloss), mask, student_logits.shape), None, None, None

    return T * T * np.sum(np.maximum(divergence, 0)) / count, vjp


def _require_tokens(tokens, vocab_size):
    """Raise DataError unless every row holds different tokens of the vocabulary. tokens: (n, k)."""
    if not np.issubdtype(tokens.dtype, np.integer):
        raise DataError(f"tokens must be integers, found {tokens.dtype}")
    ordered = np.sort(tokens, axis=-1)
    if tokens.size and (ordered.min() < 0 or ordered.max() >= vocab_size or np.any(np.diff(ordered, axis=-1) == 0)):
        raise DataError(f"tokens of a position must be different numbers from 0 to {vocab_size - 1}")
