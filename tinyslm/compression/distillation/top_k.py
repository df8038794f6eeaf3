"""A teacher's targets in a small space: its k most probable tokens, and all others as one."""

import numpy as np

from tinyslm.autodiff import differentiable
from tinyslm.compression.argument_checks import require_integer, require_same_shape
from tinyslm.compression.distillation.divergence import require_temperature, softmax
from tinyslm.compression.distillation.masked_positions import restore_positions, select_positions
from tinyslm.errors import DataError
from tinyslm.ops import log_softmax


def top_k_targets(teacher_logits, k, temperature=1.0):
    """The k most probable tokens of each position, and their log-probabilities at a temperature, in nats.

    teacher_logits: (..., V);  1 <= k <= V;  returns tokens (..., k) integers, most probable first (the lower id where
    they are equal), and log-probabilities (..., k), dtype of the logits. These sum to less than 1: what is missing is
    the probability of all other tokens, which `top_k_target_loss` puts into one bucket.
    """
    require_temperature(temperature)
    require_integer("k", k, 1, teacher_logits.shape[-1])
    log_probabilities = log_softmax(teacher_logits / teacher_logits.dtype.type(temperature))  # (..., V)
    tokens = np.argsort(-log_probabilities, axis=-1, kind="stable")[..., :k]  # (..., k)
    return tokens, np.take_along_axis(log_probabilities, tokens, axis=-1)


@differentiable
def top_k_target_loss(student_logits, tokens, log_probabilities, temperature=1.0, *, mask=None):
    """T^2 * mean over positions of KL(teacher || student), both over k tokens and one bucket for all others, in nats.

    student_logits: (..., V);  tokens, log_probabilities: (..., k) of `top_k_targets` at the same temperature;  mask:
    (...), 0 where a position does not count;  returns a scalar, dtype of the student, 0 if no position counts. With
    k = V it is `soft_target_loss`, otherwise at most that. Without the bucket the probabilities would not sum to 1 and
    the student would be taught to give nothing to all other tokens; here it may share their part as it likes.
    """
    require_temperature(temperature)
    k, V = tokens.shape[-1], student_logits.shape[-1]
    require_same_shape("tokens", tokens, (*student_logits.shape[:-1], k))
    require_same_shape("log_probabilities", log_probabilities, tokens.shape)
    T = student_logits.dtype.type(temperature)
    rows = select_positions(student_logits, mask) / T  # (n, V)
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
        drows = student - others * (teacher_rest / student_rest)[:, None]  # the bucket's part is shared as it was
        np.put_along_axis(drows, tokens, np.take_along_axis(student, tokens, axis=-1) - teacher, axis=-1)
        return restore_positions(drows * (T / count * dloss), mask, student_logits.shape), None, None, None

    return T * T * np.sum(np.maximum(divergence, 0)) / count, vjp


def _require_tokens(tokens, vocab_size):
    """Different tokens of the vocabulary in every row, or DataError. tokens: (n, k)."""
    if not np.issubdtype(tokens.dtype, np.integer):
        raise DataError(f"tokens must be integers, found {tokens.dtype}")
    ordered = np.sort(tokens, axis=-1)
    if tokens.size and (ordered.min() < 0 or ordered.max() >= vocab_size or np.any(np.diff(ordered, axis=-1) == 0)):
        raise DataError(f"tokens of a position must be different numbers from 0 to {vocab_size - 1}")
