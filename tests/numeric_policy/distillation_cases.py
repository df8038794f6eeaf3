"""Cases of `tinyslm.compression.distillation`."""

import numpy as np

from tests.numeric_policy.case import REFUSED, Case
from tinyslm.compression import distillation

COMPUTED = {"integers": np.float64, "special": REFUSED}


def pair(first, second, shape, mask=None, **settings):
    """Two arrays of the same shape, and a mask that ignores the first entry of its axes."""

    def make(rng):
        arguments = {name: rng.standard_normal(shape) for name in (first, second)} | settings
        if mask is not None:
            ignored = np.ones(mask, bool)
            ignored[(0,) * len(mask)] = False
            arguments["mask"] = ignored
        return arguments

    return make


def logits(**settings):
    return pair("student_logits", "teacher_logits", (2, 3, 5), (2, 3), **settings)


def top_k(rng):
    tokens, log_probabilities = distillation.top_k_targets(rng.standard_normal((2, 3, 7)), 4)
    student = rng.standard_normal((2, 3, 7))
    return {"student_logits": student, "tokens": tokens, "log_probabilities": log_probabilities}


CASES = {
    "soft_target_loss": Case(distillation.soft_target_loss, logits(temperature=1.7), **COMPUTED),
    "reverse_kl_loss": Case(distillation.reverse_kl_loss, logits(), **COMPUTED),
    "jensen_shannon_loss": Case(distillation.jensen_shannon_loss, logits(), **COMPUTED),
    "top_k_target_loss": Case(distillation.top_k_target_loss, top_k, **COMPUTED),
    "top_k_targets": Case(
        distillation.top_k_targets,
        lambda rng: {"teacher_logits": rng.standard_normal((2, 3, 7)), "k": 4},
        integers=np.float64,
    ),
    "hidden_state_loss": Case(
        distillation.hidden_state_loss, pair("student", "teacher", (2, 3, 5), (2, 3)), **COMPUTED
    ),
    "cosine_loss": Case(distillation.cosine_loss, pair("student", "teacher", (2, 3, 5), (2, 3)), **COMPUTED),
    "attention_transfer_loss": Case(
        distillation.attention_transfer_loss,
        pair("student_scores", "teacher_scores", (2, 3, 5), (2, 3, 5)),
        **COMPUTED,
    ),
    "attention_relation_loss": Case(
        distillation.attention_relation_loss,
        pair("student_scores", "teacher_scores", (2, 3, 5), (2, 3, 5)),
        **COMPUTED,
    ),
    "attention_scores": Case(
        lambda query, key: distillation.attention_scores(query, key, scale=0.5),
        lambda rng: {"query": rng.standard_normal((2, 3, 4, 5)), "key": rng.standard_normal((2, 6, 1, 5))},
        **COMPUTED,
    ),
    "value_relation_loss": Case(
        distillation.value_relation_loss,
        lambda rng: {
            "student_values": rng.standard_normal((2, 3, 4, 5)),
            "teacher_values": rng.standard_normal((2, 3, 4, 7)),
            "mask": np.array([[0, 1, 1], [1, 1, 1]]),
        },
        **COMPUTED,
    ),
    "layer_map": Case(
        distillation.layer_map, lambda rng: {"strategy": "uniform", "student_layers": 2, "teacher_layers": 5}
    ),
}
