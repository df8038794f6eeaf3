"""Training: AdamW and Muon, a learning-rate schedule, and a loop over batches that can be interrupted and resumed."""

from tinyslm.training.adamw import AdamW
from tinyslm.training.loop import Settings, State, StopTraining, train
from tinyslm.training.muon import Muon
from tinyslm.training.schedule import warmup_cosine

__all__ = ["AdamW", "Muon", "Settings", "State", "StopTraining", "train", "warmup_cosine"]
