"""Training and validation documents: the built-in corpus `town`, or the user's own text.

`town` is synthetic text from a grammar, so its entropy is known exactly. In expectation, the cross entropy of any model
on it is at least this entropy: the entropy bound, called `floor` in names and tables.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field, replace

import numpy as np

from tinyslm.errors import DataError
from tinyslm.text import town
from tinyslm.text.batches import encode_documents, split_long
from tinyslm.text.loss_estimate import LossEstimate, estimate_loss

HELD_OUT = 10  # every tenth document of the user's text is a validation document


@dataclass(frozen=True)
class Corpus:
    """Documents as token ids, which begin and end with the end-of-document token unless they are pieces of a document.

    floor_nats: minus the exact log-probability of each validation document in nats, or None if it is unknown;
    families: the family (subject) of each validation document, or empty;  questions: the exam, or empty.
    """

    training: list[np.ndarray]
    validation: list[np.ndarray]
    floor_nats: np.ndarray | None = None
    families: list[str] = field(default_factory=list)
    questions: list = field(default_factory=list)
    name: str = "town"

    @property
    def floor(self) -> LossEstimate | None:
        """The entropy bound: the exact entropy of the validation documents per token, or None if it is unknown."""
        if self.floor_nats is None:
            return None
        return estimate_loss(self.floor_nats, [len(document) - 1 for document in self.validation])

    def first_validation(self, count: int) -> "Corpus":
        """The corpus with only the first `count` validation documents and their entropy bound."""
        floor_nats = None if self.floor_nats is None else self.floor_nats[:count]
        return replace(self, validation=self.validation[:count], floor_nats=floor_nats, families=self.families[:count])


def town_corpus(
    tokenizer,
    end_id: int,
    *,
    training: int = 0,
    validation: int = 500,
    questions_per_subject: int = 0,
    vocab_size: int | None = None,
) -> Corpus:
    """The first `training` and `validation` documents of the town's splits, and exam questions for each subject.

    vocab_size: number of tokens of the model, or None. Raises DataError if the tokenizer gives another token.
    """
    texts = [text for _, text, _ in town.documents("train", 0, training)]
    held_out = town.documents("validation", 0, validation)
    return Corpus(
        training=encode_documents(tokenizer, texts, end_id, vocab_size) if texts else [],
        validation=encode_documents(tokenizer, [text for _, text, _ in held_out], end_id, vocab_size),
        floor_nats=-np.array([log_probability for _, _, log_probability in held_out]),
        families=[family for family, _, _ in held_out],
        questions=town.exam_questions(questions_per_subject) if questions_per_subject else [],
    )


def text_corpus(tokenizer, end_id: int, texts: Iterable[str], vocab_size: int | None = None) -> Corpus:
    """The user's documents. Every tenth is a validation document.

    Fewer than ten documents are joined and cut into ten pieces or more. vocab_size: as of `town_corpus`. Raises
    DataError if they have too few tokens, or cannot be encoded.
    """
    documents = encode_documents(tokenizer, texts, end_id, vocab_size)
    if len(documents) < HELD_OUT:
        whole = np.concatenate([documents[0], *(document[1:] for document in documents[1:])])
        predicted = len(whole) - 1
        if predicted < HELD_OUT:
            raise DataError(f"the text has only {predicted} tokens; at least {HELD_OUT} are needed")
        documents = split_long([whole], predicted // HELD_OUT + 1)
    return Corpus(
        training=[document for i, document in enumerate(documents, 1) if i % HELD_OUT],
        validation=documents[HELD_OUT - 1 :: HELD_OUT],
        name="text",
    )
