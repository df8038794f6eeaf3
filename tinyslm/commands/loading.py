"""What the commands begin with: a model of the kind that they can use, its tokenizer, and the tokens of a text."""

from tinyslm.checkpoints.weight_formats import FORMS
from tinyslm.errors import ConfigError, DataError
from tinyslm.load_save import load
from tinyslm.models import Decoder, Encoder, EncoderDecoder

MASKS = ("[MASK]", "<mask>")  # what tokenizers call the token to be filled in: of BERT and DistilBERT; of others
KINDS = {
    Decoder: "a decoder (Llama, GPT-2 and the like)",
    Encoder: "an encoder (BERT or DistilBERT)",
    EncoderDecoder: "an encoder-decoder (T5)",
}


def add_weights_option(parser):
    """--weights, for models that would not fit in memory."""
    parser.add_argument(
        "--weights",
        choices=FORMS,
        default="float32",
        help="how the model is held: float32 is exact and fast (default); int8 takes a quarter of the memory; mapped "
        "leaves it in its file, exact and slow",
    )


def load_with_tokenizer(path, kinds, purpose, weights="float32"):
    """(model, tokenizer) of a built-in name or a directory. kinds: classes of models;  purpose: what it is wanted for;
    weights: as `load`.

    Raises ConfigError for another kind of model, or one without a tokenizer.
    """
    model, tokenizer = load(path, weights)
    if not isinstance(model, kinds):
        wanted = " or ".join(name for kind, name in KINDS.items() if issubclass(kind, kinds))
        raise ConfigError(f"{path}: is a {model.config.family} model, but {purpose} needs {wanted}")
    if tokenizer is None:
        raise ConfigError(f"{path}: has no tokenizer.json, which {purpose} needs")
    return model, tokenizer


def encode_text(text, tokenizer) -> list[int]:
    """The token ids of a text from the command line, with those that the tokenizer puts around every text."""
    try:
        token_ids = tokenizer.encode(text).ids
    except TypeError:  # bytes of the command line that are not UTF-8
        raise DataError(f"the text {text!a} is not UTF-8") from None
    if not token_ids:
        raise DataError(f"the text {text!r} has no tokens")
    return token_ids
