"""Loading of a model with its tokenizer, for the commands."""

from tinyslm.checkpoints.directory_contents import instead_of_tokenizer
from tinyslm.errors import ConfigError
from tinyslm.load_save import find_directory, load
from tinyslm.models import Decoder, Encoder, EncoderDecoder

MASKS = ("[MASK]", "<mask>")  # mask tokens: of BERT and ModernBERT; of RoBERTa and MPNet
KINDS = {
    Decoder: "a decoder (such as Llama or GPT-2)",
    Encoder: "an encoder (such as BERT or RoBERTa)",
    EncoderDecoder: "an encoder-decoder (T5)",
}


def download_model(arguments):
    """With --download, download the model that a command's MODEL or --from names. The command finds it in the cache."""
    values = vars(arguments)
    model = values.get("model") or values.get("from")
    if values.get("download") and model:
        find_directory(model, download=True)


def mask_token(tokenizer):
    """The mask token of a tokenizer, or None.

    An added token has priority: the vocabulary of MPNet contains [MASK] from the vocabulary of BERT, which is not its
    mask token.
    """
    added = {token.content for token in tokenizer.get_added_tokens_decoder().values()}
    known = [name for name in MASKS if tokenizer.token_to_id(name) is not None]
    return next((name for name in known if name in added), next(iter(known), None))


def load_with_tokenizer(path, kinds, purpose, weights="float32"):
    """(model, tokenizer) of a built-in name or a directory.

    kinds: classes of models;  purpose: for the message;  weights: as of `load`. Raises ConfigError for another kind of
    model, or one without a tokenizer.
    """
    model, tokenizer = load(path, weights)
    require_kind(model, path, kinds, purpose)
    if tokenizer is None:
        location = find_directory(path)
        lacks = "tokenizer of a known kind" if location.is_file() else "tokenizer.json"
        found = instead_of_tokenizer(location)
        raise ConfigError(f"{path}: has no {lacks}, which {purpose} needs" + (f", and {found}" if found else ""))
    return model, tokenizer


def require_kind(model, path, kinds, purpose):
    """Raise ConfigError for a model, or the outline of one, of another kind. Arguments as of `load_with_tokenizer`."""
    if not isinstance(model, kinds):
        wanted = " or ".join(name for kind, name in KINDS.items() if issubclass(kind, kinds))
        raise ConfigError(f"{path}: is a {model.config.family} model, but {purpose} needs {wanted}")
