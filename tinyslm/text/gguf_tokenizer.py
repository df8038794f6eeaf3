"""The tokenizer in the metadata of a GGUF file, as a tokenizer of the `tokenizers` library.

Two models of tokenizers are read: "gpt2", byte-level BPE with a list of merges; and "llama", the BPE of SentencePiece,
in which the merge that makes the token with the highest score comes first.
Source: https://github.com/ggml-org/llama.cpp, src/llama-vocab.cpp.
"""

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

from tinyslm.checkpoints.gguf.container import TextArray, read_container
from tinyslm.checkpoints.gguf.side_files import chat_template, special_tokens
from tinyslm.checkpoints.json_files import shown
from tinyslm.errors import DataError
from tinyslm.text.gguf_pre_tokenizers import GPT2, PRE_TOKENIZERS, PreTokenizer
from tinyslm.text.tokenizer import LARGEST_VOCABULARY

NORMAL, UNKNOWN, CONTROL, USER_DEFINED = 1, 2, 3, 4  # types of tokens
SPACE = "▁"  # SentencePiece's mark of a space
LONGEST_TOKEN = 1_000  # characters of a token that merges make
MOST_SPLITS = 20_000_000  # of all tokens into two parts; about 2,000,000 in published files


class UnsupportedTokenizer(DataError):
    """A kind of tokenizer that is not known here."""


def load_gguf_tokenizer(path: str | Path) -> Any:
    """The tokenizer of a GGUF file. `chat_prompt` finds the template and its tokens in its attributes.

    Raises UnsupportedTokenizer for a kind that is not known, DataError for a damaged tokenizer, CheckpointError for a
    damaged file.
    """
    container = read_container(path)
    tokenizer = gguf_tokenizer(container.metadata, container.path)
    tokenizer.directory = container.path
    tokenizer.chat_template = chat_template(container).get("chat_template")
    tokenizer.special_tokens = special_tokens(container, list(container.metadata["tokenizer.ggml.tokens"]))
    return tokenizer


def gguf_tokenizer(metadata: dict[str, Any], where: Path) -> Any:
    """The tokenizer of the metadata of the file `where`. Raises UnsupportedTokenizer or DataError."""
    model = metadata.get("tokenizer.ggml.model")
    if not isinstance(model, str) or model not in ("gpt2", "llama"):
        found = "missing" if model is None else shown(model)
        raise UnsupportedTokenizer(f"{where}: tokenizer.ggml.model is {found}, expected gpt2 or llama")
    keys = _Keys(metadata, where)
    tokenizer, begins = _byte_level(keys) if model == "gpt2" else (_sentence_piece(keys), True)
    _add_tokens(tokenizer, keys)
    _add_marks(tokenizer, keys, begins)
    return tokenizer


class _Keys:
    """The metadata of the tokenizer. Methods raise DataError, naming the file and the key."""

    def __init__(self, metadata, where):
        self.metadata, self.where = metadata, where
        self.tokens = list(self.texts("tokens"))
        if not 0 < len(self.tokens) <= LARGEST_VOCABULARY:
            raise DataError(
                f"{where}: tokenizer.ggml.tokens has {len(self.tokens)} tokens, expected 1 to {LARGEST_VOCABULARY}"
            )
        self.ids = {token: index for index, token in enumerate(self.tokens)}
        if len(self.ids) < len(self.tokens):
            twice = Counter(self.tokens).most_common(1)[0][0]
            raise DataError(f"{where}: tokenizer.ggml.tokens holds {shown(twice)} twice, expected different tokens")
        ones = np.full(len(self.tokens), NORMAL)
        self.types = self.numbers("token_type") if self.get("token_type") is not None else ones

    def get(self, name):
        """The value of a key without a check, or None."""
        return self.metadata.get(f"tokenizer.ggml.{name}")

    def refuse(self, name, expected):
        """Raise DataError with a description of the expected value."""
        value = self.get(name)
        is_array = isinstance(value, np.ndarray | TextArray)
        found = "missing" if value is None else f"an array of {len(value)}" if is_array else shown(value)
        raise DataError(f"{self.where}: tokenizer.ggml.{name} is {found}, expected {expected}")

    def texts(self, name):
        """An array of texts."""
        if not isinstance(self.get(name), TextArray):
            self.refuse(name, "an array of texts")
        return self.get(name)

    def numbers(self, name):
        """An array with a number for each token."""
        value = self.get(name)
        if not isinstance(value, np.ndarray) or len(value) != len(self.tokens):
            self.refuse(name, f"an array of {len(self.tokens)} numbers")
        return value

    def flag(self, name, default):
        """True or false."""
        value = self.get(name)
        if value is not None and type(value) is not bool:
            self.refuse(name, "true or false")
        return default if value is None else value

    def token(self, name):
        """A token by the key of its id; None without the key."""
        value = self.get(f"{name}_token_id")
        if value is None:
            return None
        if type(value) is not int or not 0 <= value < len(self.tokens):
            self.refuse(f"{name}_token_id", f"an id below {len(self.tokens)}")
        return self.tokens[value]

    def of_type(self, *kinds):
        """The tokens of some types."""
        return [self.tokens[index] for index in np.flatnonzero(np.isin(self.types, kinds))]


def _byte_level(keys):
    """(tokenizer, whether texts begin with BOS by default) of byte-level BPE."""
    from tokenizers import decoders, models, normalizers

    kind = _pre_tokenizer(keys)
    merges = [_pair(keys, merge) for merge in keys.texts("merges")]
    tokenizer = _tokenizer(keys, models.BPE, keys.ids, merges, ignore_merges=kind.whole_words)
    tokenizer.pre_tokenizer = byte_level_pre_tokenizer(kind)
    tokenizer.decoder = decoders.ByteLevel()
    if kind.nfc:
        tokenizer.normalizer = normalizers.NFC()
    return tokenizer, kind.begins


def byte_level_pre_tokenizer(kind: PreTokenizer) -> Any:
    """The rule by which a kind splits texts, as an object of the `tokenizers` library."""
    from tokenizers import Regex, pre_tokenizers

    parts: list[Any] = [pre_tokenizers.Digits(individual_digits=True)] if kind.digits else []
    if kind.pattern:
        parts.append(pre_tokenizers.Split(Regex(kind.pattern), behavior="isolated"))
    parts.append(pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=not kind.pattern))
    return pre_tokenizers.Sequence(parts)


def _pre_tokenizer(keys):
    """The kind that "tokenizer.ggml.pre" names. Files of GPT-2 can leave it out."""
    name = keys.get("pre")
    if name in (None, "default") and keys.metadata.get("general.architecture") == "gpt2":
        return GPT2
    if not isinstance(name, str) or name not in PRE_TOKENIZERS:
        found = "missing" if name is None else shown(name)
        raise UnsupportedTokenizer(
            f"{keys.where}: tokenizer.ggml.pre is {found}, expected one of {', '.join(PRE_TOKENIZERS)}"
        )
    return PRE_TOKENIZERS[name]


def _pair(keys, merge):
    """The two tokens of a merge, which a space separates."""
    left, space, right = merge.partition(" ")
    if not space:
        raise DataError(f"{keys.where}: tokenizer.ggml.merges holds {shown(merge)}, expected two tokens")
    return left, right


def _sentence_piece(keys):
    """The BPE of SentencePiece. Bytes that are in no token are tokens such as <0x0A>."""
    from tokenizers import decoders, models, normalizers

    unknown = keys.token("unknown") or next(iter(keys.of_type(UNKNOWN)), None)
    settings = {"unk_token": unknown, "fuse_unk": True, "byte_fallback": True}
    tokenizer = _tokenizer(keys, models.BPE, keys.ids, _merges(keys), **settings)
    begins_with_space = keys.flag("add_space_prefix", True)
    prefix = [normalizers.Prepend(SPACE)] if begins_with_space else []
    tokenizer.normalizer = normalizers.Sequence([*prefix, normalizers.Replace(" ", SPACE)])
    strip = [decoders.Strip(" ", 1, 0)] if begins_with_space else []
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace(SPACE, " "), decoders.ByteFallback(), decoders.Fuse(), *strip]
    )
    return tokenizer


def _merges(keys):
    """The merges that make the tokens, those of the highest scores first.

    Each division of a token into two tokens is a merge.
    """
    scores = keys.numbers("scores")
    normal = np.flatnonzero(keys.types == NORMAL)
    order = normal[np.argsort(-scores[normal].astype(np.float64), kind="stable")]
    tokens = [keys.tokens[index] for index in order]
    longest = max(map(len, tokens), default=0)
    if longest > LONGEST_TOKEN or sum(map(len, tokens)) > MOST_SPLITS:
        raise DataError(
            f"{keys.where}: tokenizer.ggml.tokens has a token of {longest} characters, and {sum(map(len, tokens))} in "
            f"all; expected at most {LONGEST_TOKEN}, and {MOST_SPLITS}"
        )
    known = set(tokens)
    splits = ((token[:place], token[place:]) for token in tokens for place in range(1, len(token)))
    return [(left, right) for left, right in splits if left in known and right in known]


def _tokenizer(keys, model, *arguments, **settings):
    """A tokenizer with a model of the library. Raises DataError for merges of tokens that do not exist."""
    from tokenizers import Tokenizer

    try:
        return Tokenizer(model(*arguments, **settings))
    except Exception as problem:  # the library raises plain Exceptions
        raise DataError(f"{keys.where}: the tokenizer is damaged ({shown(str(problem))[1:-1]})") from None


def _add_tokens(tokenizer, keys):
    """Tokens that are found in a text before it is divided: control tokens, and those that users define."""
    from tokenizers import AddedToken

    control = [token for token in keys.of_type(CONTROL, UNKNOWN) if token]
    tokenizer.add_special_tokens([AddedToken(token, normalized=False, special=True) for token in control])
    others = [token for token in keys.of_type(USER_DEFINED) if token]
    tokenizer.add_tokens([AddedToken(token, normalized=False, special=False) for token in others])


def _add_marks(tokenizer, keys, begins):
    """The tokens before and after each text. begins: whether texts begin with BOS by default."""
    from tokenizers import processors

    first = keys.token("bos") if keys.flag("add_bos_token", begins) else None
    last = keys.token("eos") if keys.flag("add_eos_token", False) else None
    marks = [token for token in (first, last) if token]
    if marks:
        tokenizer.post_processor = processors.TemplateProcessing(
            single=[each for each in (first, "$A", last) if each],
            special_tokens=[(token, keys.ids[token]) for token in dict.fromkeys(marks)],
        )
