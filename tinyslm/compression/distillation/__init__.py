"""Knowledge distillation: a student learns from what a teacher says (soft targets) and from what it thinks (states)."""

from tinyslm.compression.distillation.hidden_states import hidden_state_loss
from tinyslm.compression.distillation.soft_targets import soft_target_loss

__all__ = ["hidden_state_loss", "soft_target_loss"]
