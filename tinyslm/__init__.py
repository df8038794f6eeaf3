"""Small language models and their compression, in NumPy and SciPy.

load(path, weights="float32", download=False)
    model and tokenizer, of a Hugging Face directory, a GGUF file, an id of
    the hub, or a built-in model
save(path, model, tokenizer=None, dtype=None)
    write both to a directory; transformers reads those of dense models
generate(model, token_ids, max_new_tokens, *, temperature=0.0, top_k=None,
         top_p=None, min_p=None, repetition_penalty=None, seed=None,
         attention_mask=None, stop_tokens=(), cache="exact")
    new tokens, with a key/value cache
generate_with_log_probabilities(model, token_ids, max_new_tokens, **options)
    the same, with the log-probability of each new token
chat_prompt(tokenizer, messages, *, template=None,
            add_generation_prompt=True, **variables)
    tokens of a conversation up to the next answer, by the chat template
compress(model, recipe, calibration=None, *, progress, check)
    apply steps of `tinyslm.recipes`: the new model, and a record per step
footprint(model)
    parameters, bits, bytes and multiply-adds
trace(model, token_ids, **inputs)
    all named intermediate arrays of one forward pass
next_token_loss(model, token_ids, labels=None, **inputs)
masked_token_loss(model, token_ids, labels, **inputs)
sequence_to_sequence_loss(model, token_ids, labels, attention_mask=None)
    mean cross entropy in nats per predicted token
value_and_grad(loss_function)
    function that returns the loss and its gradients, a tree like the model
differentiable(function)
    operation of a function with a vector-Jacobian product
check_gradient(operation, *inputs, seed=0, step=1e-06, **settings)
    error of an operation's gradients relative to finite differences
named_arrays(tree)
checkpoint_tensors(tree)
    arrays by module path, and by the name in the checkpoint
sentence_embeddings(states, attention_mask=None, pooling="mean",
                    normalize=True)
    one vector per text, from the final hidden states of an encoder
Error
    base class of CheckpointError, ConfigError and DataError

Example:

    >>> import numpy as np, tinyslm
    >>> model, tokenizer = tinyslm.load("teacher")
    >>> token_ids = np.array([tokenizer.encode("The train").ids])  # (B, T)
    >>> new = tinyslm.generate(model, token_ids, max_new_tokens=5)  # (B, 5)
    >>> continuation = tokenizer.decode(new[0])

The operations are in `tinyslm.ops`, the mathematics of compression in
`tinyslm.compression`, its steps for models in `tinyslm.recipes`.

Letters in shape comments:

    B  batch           C  width of the model  E  experts
    T  tokens          F  neurons of a feed-forward layer
    V  vocabulary      S  keys: cached tokens and the T new ones
    H  query heads     G  key/value heads     D  size of a head
    R  rank, or rotary dimensions
    N  rows of a matrix, usually the B T tokens of a batch

The gradient of the loss with respect to x is named dx.
"""

from tinyslm import runtime

runtime.configure()  # before NumPy is loaded

from tinyslm.autodiff import check_gradient, differentiable, value_and_grad
from tinyslm.checkpoints import checkpoint_tensors
from tinyslm.errors import CheckpointError, ConfigError, DataError, Error
from tinyslm.evaluation import footprint
from tinyslm.generation import generate, generate_with_log_probabilities
from tinyslm.load_save import load, save
from tinyslm.models import masked_token_loss, next_token_loss, sentence_embeddings, sequence_to_sequence_loss, trace
from tinyslm.recipes import compress
from tinyslm.text import chat_prompt
from tinyslm.tree import named_arrays

__version__ = "0.1.0"

__all__ = [
    "CheckpointError",
    "ConfigError",
    "DataError",
    "Error",
    "chat_prompt",
    "check_gradient",
    "checkpoint_tensors",
    "compress",
    "differentiable",
    "footprint",
    "generate",
    "generate_with_log_probabilities",
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
