"""What all claims are measured on: the built-in teacher, training documents that differ from seed to seed, and test
documents that are always the same."""

import functools

import tinyslm
from tinyslm.evaluation import measure_loss
from tinyslm.evaluation.loss import document_nats
from tinyslm.generation import end_tokens
from tinyslm.recipes import Calibration, compress
from tinyslm.text import town
from tinyslm.text.batches import encode_documents
from tinyslm.text.loss_estimate import estimate_loss

TEST_DOCUMENTS = 300
TRAINING_DOCUMENTS = 1_500  # per seed, for calibration and recovery


class Bench:
    """split: of the town, that models are measured on: "test" for the table, "validation" for trying something out."""

    def __init__(self, split="test", test_documents=TEST_DOCUMENTS):
        self.split = split
        self.model, self.tokenizer = tinyslm.load("teacher")
        self.end_id = end_tokens(self.model.config)[0]
        self.test = self.documents(split, 0, test_documents)

    def documents(self, split, start, count):
        """Documents of a split of the town, as token ids."""
        texts = [text for _, text, _ in town.documents(split, start, count)]
        return encode_documents(self.tokenizer, texts, self.end_id)

    def training(self, seed, count=TRAINING_DOCUMENTS):
        """Training documents of a seed; those of two seeds have none in common."""
        return self.documents("train", seed * TRAINING_DOCUMENTS, count)

    @functools.cache  # noqa: B019 - there is one bench, as long as the program
    def calibration(self, seed) -> Calibration:
        """The training documents of a seed, with the dense model as the teacher."""
        return Calibration(self.training(seed), self.model, seed)

    def compress(self, steps, seed, model=None):
        """The teacher, or another model, after these steps, with the documents of a seed."""
        return compress(model or self.model, list(steps), self.calibration(seed))[0]

    def loss(self, model) -> float:
        """Nats per token on the test documents."""
        return measure_loss(model, self.test).nats

    @functools.cached_property
    def dense_loss(self) -> float:
        """That of the teacher."""
        return self.loss(self.model)

    def change(self, model):
        """How much higher a model's loss is than the teacher's, with its standard error over the test documents."""
        nats, tokens = document_nats(model, self.test)
        dense, _ = self._dense_nats
        return estimate_loss(nats - dense, tokens)

    @functools.cached_property
    def _dense_nats(self):
        return document_nats(self.model, self.test)
