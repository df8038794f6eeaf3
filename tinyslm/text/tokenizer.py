"""Tokenizers of the `tokenizers` library: training (byte-level BPE, Sennrich et al. 2016), loading, encoding, decoding.

`encode`, `encode_all` and `decode` call the library for the whole package, and convert its exceptions to DataError.

`tokenizers` is imported inside the functions, because the import is slow and models run without it.
"""

from collections.abc import Iterable
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tinyslm.checkpoints.json_files import shown
from tinyslm.errors import DataError

END_OF_DOCUMENT = "<|endoftext|>"  # before and after every document; its id is 0
LARGEST_VOCABULARY = 1_000_000  # the library allocates memory for all entries and aborts if it fails


def train_tokenizer(texts: Iterable[str], vocabulary_size: int) -> Any:
    """A byte-level BPE tokenizer that splits numbers into digits and puts END_OF_DOCUMENT before every text.

    vocabulary_size: an upper bound, because a small text has fewer merges.
    Raises DataError for a size below 257 (256 bytes and END_OF_DOCUMENT) or above LARGEST_VOCABULARY.
    """
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers

    if vocabulary_size < 257:
        raise DataError(f"a vocabulary of {vocabulary_size} cannot hold 256 bytes and {END_OF_DOCUMENT}; use >= 257")
    if vocabulary_size > LARGEST_VOCABULARY:
        raise DataError(f"a vocabulary of {vocabulary_size} is too large; use at most {LARGEST_VOCABULARY}")
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary_size,
        special_tokens=[END_OF_DOCUMENT],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{END_OF_DOCUMENT} $A", special_tokens=[(END_OF_DOCUMENT, tokenizer.token_to_id(END_OF_DOCUMENT))]
    )
    return tokenizer


def load_tokenizer(path: str | Path) -> Any:
    """The tokenizer of a tokenizer.json, with truncation and padding switched off.

    Its attribute `directory` is that of the file, where `chat_prompt` finds the chat template.
    Raises DataError for a file that is missing or not a tokenizer.
    """
    from tokenizers import Tokenizer

    if not Path(path).is_file():
        raise DataError(f"{path}: no such tokenizer file")
    with _library_errors(f"{path}: not a tokenizer.json"):
        tokenizer: Any = Tokenizer.from_file(str(path))
        tokenizer.no_truncation()
        tokenizer.no_padding()
    tokenizer.directory = Path(path).parent
    return tokenizer


def encode(
    tokenizer: Any,
    text: str,
    *,
    add_special_tokens: bool = True,
    vocab_size: int | None = None,
    allow_empty: bool = False,
) -> list[int]:
    """The token ids of a text.

    vocab_size: the number of tokens of the model that reads them, or None if there is none.
    Raises DataError, naming the text, if the tokenizer cannot encode it, if it has no tokens (unless `allow_empty`),
    or if a token id is not below vocab_size.
    """
    try:
        text.encode()
    except UnicodeEncodeError:  # such as the bytes of a command line in another encoding
        raise DataError(f"the text {shown(text)} is not UTF-8") from None
    with _library_errors(f"the tokenizer cannot encode the text {shown(text)}; use another tokenizer.json"):
        token_ids = tokenizer.encode(text, add_special_tokens=add_special_tokens).ids
    if not token_ids and not allow_empty:
        raise DataError(f"the text {shown(text)} has no tokens")
    _check_vocabulary(token_ids, text, vocab_size)
    return token_ids


def encode_all(
    tokenizer: Any, texts: Iterable[str], *, add_special_tokens: bool = True, vocab_size: int | None = None
) -> list[Any]:
    """The `tokenizers.Encoding` of each text; an encoding can be without tokens. Raises DataError like `encode`."""
    texts = list(texts)
    try:
        with _library_errors("the tokenizer cannot encode the texts; use another tokenizer.json"):
            encodings = tokenizer.encode_batch(texts, add_special_tokens=add_special_tokens)
    except DataError:
        for text in texts:  # find the text, and name it
            encode(tokenizer, text, add_special_tokens=add_special_tokens, allow_empty=True)
        raise
    for text, encoding in zip(texts, encodings, strict=True):
        _check_vocabulary(encoding.ids, text, vocab_size)
    return encodings


def decode(tokenizer: Any, token_ids: Iterable[int], **options: Any) -> str:
    """The text of token ids. options: as of `tokenizers.Tokenizer.decode`. Ids without a token are left out.

    Raises DataError if the tokenizer cannot decode.
    """
    with _library_errors("the tokenizer cannot decode its tokens; use another tokenizer.json"):
        return tokenizer.decode(list(token_ids), **options)


def _check_vocabulary(token_ids, text, vocab_size):
    """Raise DataError if a model with a vocabulary of `vocab_size` does not have all tokens of the text."""
    largest = max(token_ids, default=-1)
    if vocab_size is not None and largest >= vocab_size:
        raise DataError(
            f"token id {largest} of the text {shown(text)} is outside the vocabulary of {vocab_size} (0 to V - 1); "
            "use the tokenizer.json of this model"
        )


@contextmanager
def _library_errors(what):
    """Convert an exception of the tokenizers library in the block to DataError.

    The library raises plain Exceptions. A panic of its Rust code, as for a regular expression with too much
    backtracking, is a BaseException without a name to import; the library has then already written to standard error.
    """
    try:
        yield
    except BaseException as problem:
        is_panic = type(problem).__name__ == "PanicException"
        if isinstance(problem, MemoryError) or not (isinstance(problem, Exception) or is_panic):
            raise
        raise DataError(f"{what} ({shown(str(problem))[1:-1]})") from None
