"""What a model of each kind predicts on plain documents, so that techniques can measure and train all of them.

A decoder predicts the next token. An encoder predicts tokens that were hidden from it (Devlin et al. 2019, section 3.1,
here always by the mask token). An encoder-decoder reads the first half of a document and writes the second (prefix
language modelling; Raffel et al. 2020, section 3.3.1).
"""

import zlib
from typing import Any, NamedTuple

import numpy as np

from tinyslm import ops
from tinyslm.errors import ConfigError
from tinyslm.models import Encoder, EncoderDecoder
from tinyslm.models.losses import following_labels, preceding_tokens
from tinyslm.ops import IGNORED

HIDDEN_SHARE = 0.15  # of the tokens, from an encoder


class Task(NamedTuple):
    """inputs: what the model is called with, by keyword;  targets: (B, T) what each position predicts, or IGNORED."""

    inputs: dict[str, Any]
    targets: np.ndarray


def task_of(model, token_ids, labels, mask_token_id=None) -> Task:
    """The task of a model of this kind on rows of documents.

    token_ids: (B, T);  labels: (B, T), the same with IGNORED for padding on the right.  mask_token_id: what hides a
    token from an encoder. Which ones are hidden follows from the document's tokens: the same document, the same task.
    """
    if isinstance(model, Encoder):
        return hide_tokens(token_ids, labels, mask_token_id)
    if isinstance(model, EncoderDecoder):
        return _second_halves(model.config, token_ids, labels)
    return Task({"token_ids": token_ids}, following_labels(labels))


def hide_tokens(token_ids, labels, mask_token_id) -> Task:
    """An encoder's task: some tokens of each document are replaced by the mask token, and only those are targets.

    token_ids, labels: (B, T), labels with IGNORED for padding on the right, which is never hidden and which
    attention_mask leaves out;  returns inputs token_ids and attention_mask. A token is hidden with probability
    HIDDEN_SHARE, at least one of each row is. Which ones follows from the row's own tokens: of what stands beside it in
    the batch, and of how much padding there is, it does not depend.
    """
    if mask_token_id is None:
        raise ConfigError("an encoder needs a mask_token_id: the token that hides others from it")
    real = labels != IGNORED
    chances = np.full(token_ids.shape, 2.0)
    for row, tokens, is_real in zip(chances, token_ids, real, strict=True):
        seed = zlib.crc32(tokens[is_real].astype(np.int64).tobytes())
        row[is_real] = np.random.default_rng(seed).random(np.count_nonzero(is_real))
    hidden = (chances < HIDDEN_SHARE) | (chances == chances.min(axis=1, keepdims=True))  # at least one per row
    hidden &= real
    inputs = {"token_ids": np.where(hidden, mask_token_id, token_ids), "attention_mask": real.astype(int)}
    return Task(inputs, np.where(hidden, labels, IGNORED))


def _second_halves(config, token_ids, labels):
    lengths = np.count_nonzero(labels != IGNORED, axis=1)  # (B,)
    middles = np.minimum(np.maximum(lengths // 2, 1), lengths)
    sources = np.zeros((len(token_ids), max(middles.max(), 1)), token_ids.dtype)  # (B, S)
    targets = np.full((len(token_ids), max((lengths - middles).max(), 1)), IGNORED, labels.dtype)  # (B, T)
    for row, (middle, length) in enumerate(zip(middles, lengths, strict=True)):
        sources[row, :middle] = token_ids[row, :middle]
        targets[row, : length - middle] = labels[row, middle:length]
    inputs = {
        "token_ids": sources,
        "attention_mask": (np.arange(sources.shape[1]) < middles[:, None]).astype(int),
        "decoder_token_ids": preceding_tokens(targets, config.decoder_start_token_id, config.pad_token_id),
    }
    return Task(inputs, targets)


def task_loss(model, task: Task):
    """Mean cross entropy of a task, in nats per predicted token."""
    return ops.cross_entropy(model.predict(model.hidden_states(**task.inputs)), task.targets)
