"""What a model is trained and measured on: the built-in town with its known entropy, or the user's own text."""

from dataclasses import dataclass, field

import numpy as np

from tinyslm.errors import DataError
from tinyslm.text import town
from tinyslm.text.batches import encode_documents
from tinyslm.text.nats import NatsPerToken, mean_nats


@dataclass(frozen=True)
class Corpus:
    """Documents as token ids, beginning and ending with the end mark.

    floor_nats: minus the exact log-probability of each validation document, or None where it is unknown;
    questions: the exam, empty where there is none.
    """

    training: list[np.ndarray]
    validation: list[np.ndarray]
    floor_nats: np.ndarray | None = None
    questions: list = field(default_factory=list)
    name: str = "town"

    @property
    def floor(self) -> NatsPerToken | None:
        """The entropy of the validation documents: the loss that no model can pass, or None where it is unknown."""
        if self.floor_nats is None:
            return None
        return mean_nats(self.floor_nats, [len(document) - 1 for document in self.validation])


def town_corpus(tokenizer, end_id, *, training=0, validation=500, questions_per_subject=0, training_start=0) -> Corpus:
    """The first documents of the town's splits: how many of each, and how many exam questions per subject."""
    texts = [text for _, text, _ in town.documents("train", training_start, training)]
    held_out = town.documents("validation", 0, validation)
    return Corpus(
        training=encode_documents(tokenizer, texts, end_id) if texts else [],
        validation=encode_documents(tokenizer, [text for _, text, _ in held_out], end_id),
        floor_nats=-np.array([log_probability for _, _, log_probability in held_out]),
        questions=town.exam_questions(questions_per_subject) if questions_per_subject else [],
    )


def text_corpus(tokenizer, end_id, texts, validation_share=0.1) -> Corpus:
    """The user's documents: every tenth is held out for validation. A single document is cut in ten for that.

    Raises DataError if there are fewer than ten tokens.
    """
    documents = encode_documents(tokenizer, texts, end_id)
    if sum(map(len, documents)) < 10:
        raise DataError(f"the text has only {sum(map(len, documents))} tokens; at least 10 are needed")
    if len(documents) < 10:
        whole = np.concatenate([document[1:] for document in documents])
        documents = [np.insert(part, 0, end_id) for part in np.array_split(whole, 10) if len(part)]
    every = round(1 / validation_share)
    return Corpus(
        training=[document for i, document in enumerate(documents) if i % every != every - 1],
        validation=documents[every - 1 :: every],
        name="text",
    )
