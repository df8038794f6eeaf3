"""Training task of each kind of model on plain documents, for measuring and training.

A decoder predicts the next token. An encoder predicts masked tokens (Devlin et al. 2019, section 3.1; here a predicted
token is always replaced by the mask token). An encoder-decoder reads the first half of a document and predicts the
second (prefix language modelling; Raffel et al. 2020, section 3.3.1).
"""

import zlib
from typing import Any, NamedTuple

import numpy as np

from tinyslm import ops
from tinyslm.errors import ConfigError
from tinyslm.models import Encoder, EncoderDecoder
from tinyslm.models.losses import following_labels, preceding_tokens
from tinyslm.ops import IGNORED

HIDDEN_SHARE = 0.15  # of the tokens, masked for an encoder


class Task(NamedTuple):
    """inputs: keyword arguments of the model;  targets: (B, T) the token predicted at each position, or IGNORED."""

    inputs: dict[str, Any]
    targets: np.ndarray


def task_of(model, token_ids, labels, mask_token_id=None) -> Task:
    """The task of a model of this kind on rows of documents.

    token_ids: (B, T);  labels: (B, T), the same with IGNORED for padding on the right.  mask_token_id: the mask token,
    for an encoder. The document's tokens determine the masked positions: the same document has the same task.
    """
    if isinstance(model, Encoder):
        return hide_tokens(token_ids, labels, mask_token_id)
    if isinstance(model, EncoderDecoder):
        return _second_halves(model.config, token_ids, labels)
    return Task({"token_ids": token_ids}, following_labels(labels))


def hide_tokens(token_ids, labels, mask_token_id) -> Task:
    """Task of an encoder: the mask token replaces some tokens of each document, and these tokens are the targets.

    token_ids, labels: (B, T), labels with IGNORED for padding on the right;  returns inputs token_ids and
    attention_mask (0 for padding). A token is masked with probability HIDDEN_SHARE, at least one per row, never
    padding. The tokens of a row determine its masked positions; other rows and padding have no effect.
    """
    if mask_token_id is None:
        raise ConfigError("an encoder needs a mask_token_id: the token that replaces predicted tokens")
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
    """The task of an encoder-decoder: sources (B, S) are the first halves of the rows, targets (B, T) the second."""
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
