"""The loss of a model on documents, in nats per token."""

from typing import Any

import numpy as np

from tinyslm.checkpoints.not_finite import describe_not_finite, overflow_names_tensor
from tinyslm.errors import DataError
from tinyslm.ops import IGNORED, log_softmax
from tinyslm.parallel import map_in_threads
from tinyslm.runtime import release_after_long_pass
from tinyslm.text.batches import pad_documents, split_long
from tinyslm.text.loss_estimate import LossEstimate, estimate_loss

LOGITS_AT_ONCE = 2**23  # numbers, in each thread; those of a whole batch and a large vocabulary need gigabytes


def document_nats(model, documents, tokens_per_batch: int = 2048) -> tuple[np.ndarray, np.ndarray]:
    """Negative log-probability in nats of each document given its first token, and its number of predicted tokens.

    documents: N lists of token ids, as of `encode_documents`;  returns two arrays (N,). A document longer
    than the model's context is split. Each piece is predicted given its first token.
    Raises DataError, which names the first tensor or layer output with nan or infinity, if a loss is not finite.
    """
    longest = model.config.max_position_embeddings
    pieces = [(i, piece) for i, document in enumerate(documents) for piece in split_long([document], longest)]
    pieces = [(i, piece) for i, piece in pieces if len(piece) > 1]
    if not pieces:
        raise DataError("the text has no token to predict; give documents of at least one token")
    pieces.sort(key=lambda pair: len(pair[1]))  # similar lengths in a batch: little padding
    batches = [[]]
    for pair in pieces:
        if batches[-1] and len(pair[1]) * (len(batches[-1]) + 1) > tokens_per_batch:
            batches.append([])
        batches[-1].append(pair)

    def nats_of(batch):
        token_ids, labels = pad_documents([piece for _, piece in batch])
        states, following = model.hidden_states(token_ids), labels[:, 1:]  # (B, T, C), (B, T - 1)
        width = max(1, LOGITS_AT_ONCE // (len(batch) * model.config.vocab_size))  # positions at once, t
        nats = np.zeros(len(batch))
        for start in range(0, following.shape[1], width):
            positions = slice(start, min(start + width, following.shape[1]))
            log_probabilities = log_softmax(model.predict(states[:, positions]))  # (B, t, V)
            label = following[:, positions]  # (B, t)
            chosen = np.take_along_axis(log_probabilities, np.maximum(label, 0)[..., None], axis=-1)[..., 0]
            nats -= np.sum(np.where(label == IGNORED, 0, chosen), axis=1, dtype=np.float64)
        return nats

    totals, tokens = np.zeros(len(documents)), np.zeros(len(documents), int)
    with overflow_names_tensor(model):
        nats_of_batches = map_in_threads(nats_of, batches)
    for batch, nats in zip(batches, nats_of_batches, strict=True):
        for (i, piece), value in zip(batch, nats, strict=True):
            totals[i] += value
            tokens[i] += len(piece) - 1
    if not np.isfinite(totals).all():
        first = documents[np.argmin(np.isfinite(totals))][:longest]
        raise DataError(describe_not_finite(model, [first]))
    release_after_long_pass(len(pieces[-1][1]))  # the logits
    return totals, tokens


def measure_loss(model: Any, documents: list) -> LossEstimate:
    """The mean loss of a model on documents with its standard error. See `document_nats`."""
    return estimate_loss(*document_nats(model, documents))
