"""Inputs of a training: the text, the tokenizer, the rows of token ids, and the model before the first step."""

import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from tinyslm.commands.loading import load_with_tokenizer
from tinyslm.errors import ConfigError
from tinyslm.generation import end_tokens
from tinyslm.load_save import find_directory
from tinyslm.models import Decoder, next_token_loss, next_token_losses
from tinyslm.text import document_rows, town, train_tokenizer
from tinyslm.text.corpus import HELD_OUT, Corpus, text_corpus, town_corpus
from tinyslm.text.document_marks import document_marks
from tinyslm.text.text_source import TextSource, names_town, read_text_source, source_of_files
from tinyslm.training.loop import count_next_tokens, count_selections
from tinyslm.tree import Array, named_arrays

TOKENIZER_DOCUMENTS = 20_000  # documents of the town, for training the tokenizer
TOKENIZER_CHARACTERS = 4_000_000  # of your own text, for training the tokenizer: more changes its tokens little
VALIDATION_DOCUMENTS = 2_000  # documents of the town, for the final loss
PIECE = 10_000  # characters of a piece
LONGEST_ROW = 512  # tokens per row for a model that is trained further and was not trained on packed rows


def say(text):
    """Print what is done next. A pipe shows it at once too."""
    print(text, file=sys.stderr, flush=True)


@dataclass
class TrainingInputs:
    """The corpus, and its training rows token_ids (N, T) and labels (N, T).

    With labels (N, T, 2), the loss is the mean over all tokens plus the mean over the answers.
    """

    corpus: Corpus
    token_ids: Array
    labels: Array

    @property
    def tokens(self) -> int:
        """Number of tokens to predict in the training rows."""
        return self.count(self.token_ids, self.labels)

    def count(self, token_ids: Array, labels: Array) -> int:
        """Number of tokens to predict in some rows; that of the largest part of the loss."""
        return int(np.max(self.loss["count_predicted"](token_ids, labels)))

    @property
    def loss(self) -> dict[str, Callable]:
        """The arguments `loss_function` and `count_predicted` of `train` for these labels."""
        if self.labels.ndim == 2:
            return {"loss_function": next_token_loss, "count_predicted": count_next_tokens}
        return {"loss_function": next_token_losses, "count_predicted": count_selections}


def choose_source(arguments, context: int) -> TextSource:
    """The text source that the command line names: --text, the text of the model of --from, or the town.

    context: tokens per training row.
    """
    origin = vars(arguments)["from"]
    if arguments.text and not names_town(arguments.text):
        pack_length = context if arguments.pack else None
        return source_of_files(arguments.text, arguments.documents or "paragraph", pack_length)
    if origin is None or arguments.text:
        return TextSource()
    source = read_text_source(find_directory(origin))
    if source is None:
        raise ConfigError(f"{origin}: no corpus.json says what text it was trained on; give a text with --text FILE")
    return source


def load_origin(path) -> tuple[Any, Any]:
    """(model, tokenizer) of --from. Raises ConfigError for a model that cannot be trained."""
    model, tokenizer = load_with_tokenizer(path, Decoder, "training")
    integers = [name for name, array in named_arrays(model).items() if np.issubdtype(array.dtype, np.integer)]
    if integers:
        raise ConfigError(
            f"{path}: {integers[0]} holds integers; only models with floating-point weights can be trained"
        )
    return model, tokenizer


def row_length(model, pack_length: int | None = None) -> int:
    """Tokens per training row for a model that is trained further: at most its context length, and LONGEST_ROW.

    pack_length: of the text that the model remembers, if it is packed; it replaces LONGEST_ROW.
    """
    longest = pack_length or LONGEST_ROW
    return min(model.config.max_position_embeddings, longest)


def read_texts(source: TextSource) -> list[str] | None:
    """The documents of the user's files, or None for the town."""
    if source.is_town:
        return None
    say(f"reading {source.described()}")
    return source.texts()


def new_tokenizer(texts: list[str] | None, vocabulary: int) -> Any:
    """A tokenizer for the documents, or for the town.

    Of the user's documents, every tenth is left out, because in most texts it is a validation document. Of a long text,
    pieces at even distances are used.
    """
    if texts is None:
        return train_tokenizer([text for _, text, _ in town.documents("train", 0, TOKENIZER_DOCUMENTS)], vocabulary)
    training = [text for i, text in enumerate(texts, 1) if i % HELD_OUT]
    pieces = [text[start : start + PIECE] for text in training for start in range(0, len(text), PIECE)]
    characters = sum(map(len, pieces))
    sample = pieces[:: -(-characters // TOKENIZER_CHARACTERS)]
    say(f"training the tokenizer on {sum(map(len, sample)):,} of {characters:,} characters")
    return train_tokenizer(sample, vocabulary)


def open_inputs(source, texts, tokenizer, options, config=None) -> TrainingInputs:
    """The corpus as rows of token ids. config: of a model that is trained further, or None."""
    ends, vocab_size = ((), None) if config is None else (end_tokens(config), config.vocab_size)
    marks = document_marks(tokenizer, ends, vocab_size)
    if texts is None:
        documents = options["town_documents"]
        say(f"generating {documents:,} documents of the town")
        corpus = town_corpus(
            tokenizer,
            marks,
            training=documents,
            collection=options["town_families"],
            with_answers=options["town_loss"] != "all",
            validation=VALIDATION_DOCUMENTS,
            vocab_size=vocab_size,
        )
    else:
        say(f"encoding {len(texts):,} documents")
        corpus = text_corpus(tokenizer, marks, texts, vocab_size, pack_length=source.pack_length)
    token_ids, labels = document_rows(corpus.training, options["context"])
    if corpus.answers:
        _, answers = document_rows(corpus.answers, options["context"])
        labels = answers if options["town_loss"] == "answers" else np.stack([labels, answers], axis=-1)
    return TrainingInputs(corpus, token_ids, labels)
