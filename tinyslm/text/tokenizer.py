"""Byte-level BPE tokenizers (Sennrich et al. 2016, on bytes), trained and loaded with the `tokenizers` library.

`tokenizers` is imported inside the functions, because the import is slow and models run without it.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

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

    Raises DataError for a file that is missing or not a tokenizer.
    """
    from tokenizers import Tokenizer

    if not Path(path).is_file():
        raise DataError(f"{path}: no such tokenizer file")
    try:
        tokenizer = Tokenizer.from_file(str(path))
    except Exception as error:  # the library raises plain Exception
        raise DataError(f"{path}: not a tokenizer.json ({error})") from None
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer
