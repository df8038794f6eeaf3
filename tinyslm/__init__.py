"""tinyslm: small language models and their compression, in NumPy and SciPy.

    >>> import numpy as np, tinyslm
    >>> model, tokenizer = tinyslm.load("teacher")
    >>> token_ids = np.array([tokenizer.encode("The train to Paris").ids])  # (B, T)
    >>> continuation = tokenizer.decode(tinyslm.generate(model, token_ids, max_new_tokens=5)[0])

load, save              a model and its tokenizer, from and to a Hugging Face directory
generate                new tokens, with a key/value cache
compress, footprint     apply a recipe of compression steps; parameters, bits, bytes and multiply-adds of a model
trace                   all named intermediates of one forward pass
value_and_grad          loss and gradients of a model, for next_token_loss, masked_token_loss,
                        sequence_to_sequence_loss or another loss function
differentiable          make an operation of a function with a vector-Jacobian product; check_gradient tests it
named_arrays            arrays by module path; checkpoint_tensors: by the name in the checkpoint
sentence_embeddings     vectors of texts
Error                   base class of CheckpointError, ConfigError and DataError

The operations are in `tinyslm.ops`, the mathematics of compression in `tinyslm.compression`, its steps for models in
`tinyslm.recipes`.

Letters in shape comments:

    B  batch                T  tokens of a sequence       S  keys: cached tokens and the T new ones
    C  width of the model   V  vocabulary                 F  neurons of a feed-forward layer
    H  query heads          G  key/value heads            D  size of a head
    E  experts              R  rank, or rotary dimensions N  rows of a matrix, usually the B T tokens of a batch

The gradient of the loss with respect to x is named dx.
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
