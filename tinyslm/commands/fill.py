"""tinyslm fill: predictions of a masked language model for the mask tokens of a text."""

import numpy as np

from tinyslm.checkpoints.not_finite import describe_not_finite, overflow_names_tensor
from tinyslm.commands.loading import MASKS, load_with_tokenizer, mask_token
from tinyslm.commands.parser import check_minimum
from tinyslm.errors import ConfigError, DataError
from tinyslm.models import Encoder
from tinyslm.ops import log_softmax
from tinyslm.text import encode


def add_arguments(parser):
    """The options of the command."""
    model = "directory, or id in the local cache of the Hugging Face hub, of an encoder with a masked-LM head"
    parser.argument("model", model)
    parser.argument("text", "text with one or several mask tokens, such as [MASK] or <mask>")
    parser.option("--top", 5, "number of most probable tokens to print", "K")
    parser.download()


def run(arguments) -> int:
    """Print the most probable tokens at every mask token with their probabilities; returns the exit status."""
    check_minimum(arguments, top=1)
    model, tokenizer = load_with_tokenizer(arguments.model, Encoder, "filling in masked tokens")
    if model.masked_lm_head is None:
        raise ConfigError(f"{arguments.model}: has no masked-LM head, so it predicts no tokens; use tinyslm embed")
    mask = mask_token(tokenizer)
    if mask is None:
        raise ConfigError(f"{arguments.model}: its tokenizer has no mask token ({' or '.join(MASKS)})")
    token_ids = np.array(encode(tokenizer, arguments.text, vocab_size=model.config.vocab_size))  # (T,)
    positions = np.flatnonzero(token_ids == tokenizer.token_to_id(mask))
    if not positions.size:
        raise DataError(f"the text has no {mask}: write it at the position to be predicted")
    found = zip(*fillings(model, token_ids, positions, arguments.top), strict=True)
    for number, (tokens, probabilities) in enumerate(found, 1):
        if positions.size > 1:
            print(f"{mask} {number} of {positions.size}")
        for token, probability in zip(tokens.tolist(), probabilities, strict=True):
            print(f"{probability:8.2%}  {tokenizer.id_to_token(token) or f'token {token}'}")
    return 0


def fillings(model, token_ids, positions, count):
    """The most probable tokens at each position, and their probabilities: each (n, count), the best first.

    token_ids: (T,);  positions: (n,). Each position is predicted independently; the other mask tokens stay masked.
    """
    with overflow_names_tensor(model):
        logits = model.predict(model.hidden_states(token_ids[None])[:, positions])[0]  # (n, V)
    if not np.isfinite(logits).all():
        raise DataError(describe_not_finite(model, token_ids[None]))
    best = np.argsort(-logits, axis=-1, kind="stable")[:, :count]  # (n, count)
    return best, np.exp(np.take_along_axis(log_softmax(logits), best, axis=-1))
