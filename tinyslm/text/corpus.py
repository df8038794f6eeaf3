"""Training and validation documents: the built-in corpus `town`, or the user's own text.

`town` is synthetic text from a grammar, so its entropy is known exactly. In expectation, the cross entropy of any model
on it is at least this entropy: the entropy bound, called `floor` in names and tables.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field, replace

import numpy as np

from tinyslm.errors import DataError
from tinyslm.text import town
from tinyslm.text.batches import answer_labels, encode_documents, encode_sized, join_documents, sized_tokens, split_long
from tinyslm.text.document_marks import DocumentMarks
from tinyslm.text.loss_estimate import LossEstimate, estimate_loss
from tinyslm.text.tokenizer import encode_all

HELD_OUT = 10  # every tenth document of the user's text is a validation document; up to every third of a short text
MOST_HELD_OUT = 3
VALIDATION_TOKENS = 500  # wanted for validation
LEAST_VALIDATION_TOKENS = 100  # a text with fewer in a third is refused
FEWEST_DOCUMENTS = 10  # fewer documents are joined
FEWEST_PIECES = 5  # of the validation text, so that its loss has a standard error
SHORTEST_PIECE = 50  # tokens of these pieces; the first tokens of a piece are predicted with little context
SEPARATOR = "\n\n"  # between joined documents without an end mark


@dataclass(frozen=True)
class Corpus:
    """Documents as token ids between their marks, or pieces of documents.

    answers: the labels of each training document for a loss on its answers alone, or empty;
    floor_nats: minus the exact log-probability of each validation document in nats, or None if it is unknown;
    families: the family (subject) of each validation document, or empty;  questions: the exam, or empty;
    validation_bytes: number of UTF-8 bytes of the predicted validation text, or None if it is not counted.
    """

    training: list[np.ndarray]
    validation: list[np.ndarray]
    answers: list[np.ndarray] = field(default_factory=list)
    floor_nats: np.ndarray | None = None
    families: list[str] = field(default_factory=list)
    questions: list = field(default_factory=list)
    name: str = "town"
    validation_bytes: int | None = None

    @property
    def floor(self) -> LossEstimate | None:
        """The entropy bound: the exact entropy of the validation documents per token, or None if it is unknown."""
        if self.floor_nats is None:
            return None
        return estimate_loss(self.floor_nats, [len(document) - 1 for document in self.validation])

    def first_validation(self, count: int) -> "Corpus":
        """The corpus with only the first `count` validation documents and their entropy bound."""
        floor_nats = None if self.floor_nats is None else self.floor_nats[:count]
        validation, families = self.validation[:count], self.families[:count]
        return replace(self, validation=validation, floor_nats=floor_nats, families=families, validation_bytes=None)


def town_corpus(
    tokenizer,
    end_id: int | DocumentMarks,
    *,
    training: int = 0,
    collection: str = "natural",
    with_answers: bool = False,
    validation: int = 500,
    split: str = "validation",
    questions_per_subject: int = 0,
    vocab_size: int | None = None,
) -> Corpus:
    """The first `training` documents of the town, the first `validation` documents of a split, and exam questions.

    end_id: as of `encode_documents`. The entropy bound is that of a whole document, so it is left out if no mark begins
    or ends documents.  collection: of the training documents, a key of `town.COLLECTIONS`.
    with_answers: whether `Corpus.answers` is made.
    split: of the validation documents: "validation" to choose settings, "test" for the figures that are reported.
    vocab_size: number of tokens of the model, or None. Raises DataError if the tokenizer gives another token.
    """
    is_bounded = DocumentMarks.of(end_id).are_complete
    made = town.answered_documents("train", 0, training, collection)
    sized = encode_sized(tokenizer, [text for text, _ in made], end_id, vocab_size) if made else []
    held_out = town.documents(split, 0, validation)
    return Corpus(
        training=[document[:, 0].copy() for document in sized],
        answers=[answer_labels(*pair) for pair in zip(sized, made, strict=True)] if with_answers else [],
        validation=encode_documents(tokenizer, [text for _, text, _ in held_out], end_id, vocab_size),
        floor_nats=-np.array([log_probability for _, _, log_probability in held_out]) if is_bounded else None,
        families=[family for family, _, _ in held_out],
        questions=town.exam_questions(questions_per_subject) if questions_per_subject else [],
    )


def text_corpus(
    tokenizer,
    end_id: int | DocumentMarks,
    texts: Iterable[str],
    vocab_size: int | None = None,
    *,
    pack_length: int | None = None,
    most_validation: int | None = None,
    whole: bool = False,
) -> Corpus:
    """The user's documents, divided into training and validation.

    Every tenth document is for validation, and up to every third of a short text, so that about VALIDATION_TOKENS are.
    Fewer than ten documents, or very unequal ones, are joined and cut into FEWEST_PIECES parts; the end of each part is
    for validation. A validation text of fewer than FEWEST_PIECES documents is cut into pieces of at least
    SHORTEST_PIECE tokens, so that its loss has a standard error.

    end_id, vocab_size: as of `town_corpus`.  pack_length: None, or the length T of packed rows: the training documents,
    and the validation documents, are joined and cut into rows of T tokens. Attention then crosses documents (Brown et
    al. 2020, appendix B, do the same). Joined documents have their marks between them, or an empty line if they have no
    end mark. Raises DataError if a text cannot be encoded, or if a third of the text has fewer than
    LEAST_VALIDATION_TOKENS tokens.
    most_validation: None, or about the largest number of tokens for validation, see `thin`.
    whole: all documents are for validation, and none for training.
    """
    marks = DocumentMarks.of(end_id)
    separator = None if marks.end else _separator(tokenizer, vocab_size)
    documents = encode_sized(tokenizer, texts, marks, vocab_size)  # (T, 2) rows of a token id and its bytes
    every = 1 if whole else _held_out_interval([len(document) - 1 for document in documents])
    if every is None:
        training, validation = _hold_out_ends(join_documents(documents, marks, separator))
        if pack_length is not None:
            training, validation = split_long(training, pack_length), split_long(validation, pack_length)
    else:
        training = [document for i, document in enumerate(documents, 1) if i % every]
        validation = documents[every - 1 :: every]
        tokens = sum(len(document) - 1 for document in validation)
        longest = -(-tokens // min(max(tokens // SHORTEST_PIECE, 1), FEWEST_PIECES)) + 1  # rounded up
        if pack_length is not None:
            training = training and split_long([join_documents(training, marks, separator)], pack_length)
            validation = split_long([join_documents(validation, marks, separator)], min(pack_length, longest))
        elif len(validation) < FEWEST_PIECES:
            validation = split_long(validation, longest)
    if most_validation is not None:
        validation = thin(validation, most_validation)
    return Corpus(
        training=[document[:, 0].copy() for document in training],
        validation=[document[:, 0].copy() for document in validation],
        name="text",
        validation_bytes=sum(int(document[1:, 1].sum()) for document in validation),
    )


def thin(documents: list, most: int) -> list:
    """About `most` predicted tokens of the documents: every k-th document, or the start of each one if they are few."""
    every = -(-sum(len(document) - 1 for document in documents) // most)  # rounded up
    if every <= 1:
        return documents
    if len(documents) >= every * FEWEST_PIECES:
        return documents[::every]
    return [document[: 1 + max(1, (len(document) - 1) // every)] for document in documents]


def _separator(tokenizer, vocab_size):
    """SEPARATOR as `sized_tokens`."""
    (encoding,) = encode_all(tokenizer, [SEPARATOR], add_special_tokens=False, vocab_size=vocab_size)
    return sized_tokens(SEPARATOR, encoding)


def _held_out_interval(tokens):
    """k for "every k-th document is for validation". None if the documents have to be joined.

    tokens: number of predicted tokens of each document.
    """
    if len(tokens) < FEWEST_DOCUMENTS:
        return None
    for every in range(HELD_OUT, MOST_HELD_OUT - 1, -1):
        held_out = sum(tokens[every - 1 :: every])
        if held_out >= VALIDATION_TOKENS or (every == MOST_HELD_OUT and held_out >= LEAST_VALIDATION_TOKENS):
            return every if held_out <= sum(tokens) / 2 else None
    return None


def _hold_out_ends(whole):
    """(training, validation) of one long document: the ends of equal parts, a tenth to a third of each."""
    tokens = len(whole) - 1
    if tokens < MOST_HELD_OUT * LEAST_VALIDATION_TOKENS:
        least = MOST_HELD_OUT * LEAST_VALIDATION_TOKENS
        raise DataError(f"the text has only {tokens} tokens; at least {least} are needed for training and validation")
    every = min(max(tokens // VALIDATION_TOKENS, MOST_HELD_OUT), HELD_OUT)
    parts = min(max(tokens // (every * SHORTEST_PIECE), 1), FEWEST_PIECES)
    training, validation = [], []
    for part in split_long([whole], -(-tokens // parts) + 1):
        end = (len(part) - 1) * (every - 1) // every
        training.append(part[: end + 1])
        validation.append(part[end:])  # from the last training token, so that its successor is predicted too
    return training, validation
