"""A loop over the positions, in float64, without checks."""

import numpy as np
from scipy.special import log_softmax

from tinyslm.autodiff import differentiable


@differentiable
def soft_target_loss(student_logits, teacher_logits, temperature, *, mask=None):
    T, shape = temperature, student_logits.shape
    counted = np.ones(shape[:-1], bool) if mask is None else np.asarray(mask) != 0
    count, loss, gradient = max(np.count_nonzero(counted), 1), 0.0, np.zeros(shape)
    for i in zip(*np.nonzero(counted), strict=True) if counted.ndim else [()]:
        student = log_softmax(student_logits[i].astype(float) / T)
        teacher = log_softmax(teacher_logits[i].astype(float) / T)
        loss += max(np.sum(np.exp(teacher) * (teacher - student)), 0) * T**2 / count
        gradient[i] = T * (np.exp(student) - np.exp(teacher)) / count
    kind = student_logits.dtype.type
    return kind(loss), lambda dy: ((dy * gradient).astype(kind), None)
