"""tinyslm: how a small language model works, and how it is made smaller, in NumPy and SciPy.

Letters in shape comments, everywhere the same:

    B  batch                T  tokens of a sequence       S  tokens that can be looked at (cached ones and these)
    C  width of the model   V  vocabulary                 F  neurons of a feed-forward layer
    H  query heads          G  key/value heads            D  size of a head
    E  experts              R  rank, or rotary dimensions N  rows: tokens of a batch, in one line

Gradients carry the name of what they belong to with a d in front: dx is the gradient of the loss with respect to x.
"""

from tinyslm import runtime

runtime.configure()  # before NumPy is loaded

from tinyslm.autodiff import check_gradient, differentiable, value_and_grad
from tinyslm.checkpoints import checkpoint_tensors
from tinyslm.errors import CheckpointError, ConfigError, DataError, Error
from tinyslm.evaluation import footprint
from tinyslm.generation import generate
from tinyslm.load_save import load, save
from tinyslm.models import masked_token_loss, next_token_loss, sentence_embeddings, sequence_to_sequence_loss, trace
from tinyslm.recipes import compress
from tinyslm.tree import named_arrays

__version__ = "0.1.0"

__all__ = [
    "CheckpointError",
    "ConfigError",
    "DataError",
    "Error",
    "check_gradient",
    "checkpoint_tensors",
    "compress",
    "differentiable",
    "footprint",
    "generate",
    "load",
    "masked_token_loss",
    "named_arrays",
    "next_token_loss",
    "save",
    "sentence_embeddings",
    "sequence_to_sequence_loss",
    "trace",
    "value_and_grad",
]
