"""On whose text a student learns: the documents', or what a model writes after their first halves."""

import numpy as np

from tinyslm.generation import end_tokens, generate
from tinyslm.models import EncoderDecoder
from tinyslm.ops import IGNORED
from tinyslm.training.loop import batch_rows

TEXTS = ("documents", "teacher", "student")


class Writer:
    """Rows of training data, of which those of the next batch are rewritten before every step, if `Distill` says so.

    token_ids, labels: (N, T), what `train` reads. What a model writes it writes outside of any loss: no gradient goes
    through it.
    """

    def __init__(self, recover, calibration, settings, token_ids, labels):
        self.recover, self.calibration, self.settings = recover, calibration, settings
        self.documents = token_ids, labels
        self.token_ids, self.labels = token_ids.copy(), labels.copy()

    def prepare(self, step, student):
        """Make the rows of the batch of a step what the student is to learn on."""
        if self.recover.text == "documents":
            return
        rows = batch_rows(step, len(self.token_ids), self.settings)
        batch = tuple(array[rows] for array in self.documents)
        generator = np.random.default_rng([self.settings.seed, step])
        if generator.random() < self.recover.text_share:
            if self.recover.text == "teacher":
                batch = continue_documents(self.calibration.teacher, *batch)
            else:
                batch = continue_documents(student, *batch, temperature=1.0, seed=int(generator.integers(2**31)))
        self.token_ids[rows], self.labels[rows] = batch


def continue_documents(model, token_ids, labels, temperature=0.0, seed=None):
    """The documents with their second halves written by a model, which has read the first ones.

    token_ids, labels: (B, T) rows, IGNORED labels for padding on the right;  returns two arrays of that shape. A
    decoder may end a text before its document ends; an encoder-decoder, whose task splits a row in its middle, does
    not. Raises ConfigError for a model that does not write.
    """
    lengths = np.count_nonzero(labels != IGNORED, axis=1)  # (B,)
    middles = np.maximum(lengths // 2, 1)
    new, first = max((lengths - middles).max(), 1), middles.max()
    prompts, mask = np.zeros((len(token_ids), first), token_ids.dtype), np.zeros((len(token_ids), first), int)
    for row, middle in enumerate(middles):  # padded on the left, as decoders need it and encoders may have it
        prompts[row, first - middle :] = token_ids[row, :middle]
        mask[row, first - middle :] = 1
    written = generate(model, prompts, int(new), temperature=temperature, seed=seed, attention_mask=mask)
    token_ids, labels = token_ids.copy(), labels.copy()
    for row, (middle, length) in enumerate(zip(middles, lengths, strict=True)):
        text = written[row, : length - middle]
        token_ids[row, middle:length] = labels[row, middle:length] = text
        ends = np.flatnonzero(np.isin(text, end_tokens(model.config)))
        if ends.size and not isinstance(model, EncoderDecoder):
            labels[row, middle + ends[0] + 1 :] = IGNORED
    return token_ids, labels
