"""tinyslm fill: what an encoder with a masked head expects in the masked places of a text."""

import numpy as np

from tinyslm.commands.loading import MASKS, encode_text, load_with_tokenizer
from tinyslm.errors import ConfigError, DataError
from tinyslm.models import Encoder
from tinyslm.ops import log_softmax


def add_arguments(parser):
    """The options of the command."""
    parser.add_argument("model", metavar="MODEL", help="a directory with a BERT or DistilBERT that has a masked head")
    parser.add_argument(
        "text", metavar="TEXT", help="a text with the mask token, such as [MASK], once or several times"
    )
    parser.add_argument("--top", type=int, default=5, metavar="K", help="show the K most probable tokens (default: 5)")


def run(arguments) -> int:
    """Print the most probable tokens of every masked place with their probabilities; returns the exit status."""
    if arguments.top < 1:
        raise ConfigError(f"--top is {arguments.top}, expected at least 1")
    model, tokenizer = load_with_tokenizer(arguments.model, Encoder, "filling in masked tokens")
    if model.masked_lm_head is None:
        raise ConfigError(f"{arguments.model}: has no masked head, so it predicts no tokens; see tinyslm embed")
    mask = next((name for name in MASKS if tokenizer.token_to_id(name) is not None), None)
    if mask is None:
        raise ConfigError(f"{arguments.model}: its tokenizer has no mask token ({' or '.join(MASKS)})")
    token_ids = np.array(encode_text(arguments.text, tokenizer), int)  # (T,)
    places = np.flatnonzero(token_ids == tokenizer.token_to_id(mask))
    if not places.size:
        raise DataError(f"the text has no {mask}: put it where a token is to be filled in")
    found = zip(*fillings(model, token_ids, places, arguments.top), strict=True)
    for number, (tokens, probabilities) in enumerate(found, 1):
        if places.size > 1:
            print(f"{mask} {number} of {places.size}, whatever is in the others")
        for token, probability in zip(tokens.tolist(), probabilities, strict=True):
            print(f"{probability:8.2%}  {tokenizer.id_to_token(token) or f'token {token}'}")
    return 0


def fillings(model, token_ids, places, count):
    """The most probable tokens of each place, and their probabilities: each (places, count), the best first.

    token_ids: (T,);  places: (n,) positions. Each place is predicted alone: nobody knows yet what stands in the others.
    """
    logits = model.predict(model.hidden_states(token_ids[None])[:, places])[0]  # (n, V)
    best = np.argsort(-logits, axis=-1, kind="stable")[:, :count]  # (n, count)
    return best, np.exp(np.take_along_axis(log_softmax(logits), best, axis=-1))
