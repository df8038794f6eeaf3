"""Knowledge distillation: losses on the teacher's output distribution and on its intermediate features.

On models: `tinyslm/recipes/distillation`. Lesson: `lessons/06_distillation.py`.
"""

from tinyslm.compression.distillation.attention_maps import (
    attention_relation_loss,
    attention_scores,
    attention_transfer_loss,
)
from tinyslm.compression.distillation.cosine import cosine_loss
from tinyslm.compression.distillation.hidden_states import hidden_state_loss
from tinyslm.compression.distillation.jensen_shannon import jensen_shannon_loss
from tinyslm.compression.distillation.layer_maps import layer_map
from tinyslm.compression.distillation.reverse_kl import reverse_kl_loss
from tinyslm.compression.distillation.soft_targets import soft_target_loss
from tinyslm.compression.distillation.top_k import top_k_target_loss, top_k_targets
from tinyslm.compression.distillation.value_relations import value_relation_loss

__all__ = [
    "attention_relation_loss",
    "attention_scores",
    "attention_transfer_loss",
    "cosine_loss",
    "hidden_state_loss",
    "jensen_shannon_loss",
    "layer_map",
    "reverse_kl_loss",
    "soft_target_loss",
    "top_k_target_loss",
    "top_k_targets",
    "value_relation_loss",
]
