"""The loss of a model on documents, in nats per token, each document on its own."""

import numpy as np

from tinyslm.errors import DataError
from tinyslm.ops import IGNORED, log_softmax
from tinyslm.parallel import map_in_threads
from tinyslm.text.batches import pad_documents, split_long
from tinyslm.text.loss_estimate import LossEstimate, estimate_loss


def document_nats(model, documents, tokens_per_batch=2048):
    """Minus the log-probability of each document given its first token, and the number of tokens predicted.

    documents: lists of token ids, beginning and ending with the end mark;  returns two arrays (N,). Documents longer
    than the model's context are cut, each piece predicted from its own beginning.
    """
    longest = model.config.max_position_embeddings
    pieces = [(i, piece) for i, document in enumerate(documents) for piece in split_long([document], longest)]
    pieces = [(i, piece) for i, piece in pieces if len(piece) > 1]
    if not pieces:
        raise DataError("the text has no token to predict")
    pieces.sort(key=lambda pair: len(pair[1]))  # similar lengths together: little padding
    batches, batch = [], []
    for pair in pieces:
        if batch and len(pair[1]) * (len(batch) + 1) > tokens_per_batch:
            batches.append(batch)
            batch = []
        batch.append(pair)
    batches.append(batch)

    def nats_of(batch):
        token_ids, labels = pad_documents([piece for _, piece in batch])
        log_probabilities = log_softmax(model(token_ids)[:, :-1])  # (B, T - 1, V)
        following = labels[:, 1:]
        chosen = np.take_along_axis(log_probabilities, np.maximum(following, 0)[..., None], axis=-1)[..., 0]
        nats = -np.sum(np.where(following == IGNORED, 0, chosen), axis=1, dtype=np.float64)
        return nats

    totals, tokens = np.zeros(len(documents)), np.zeros(len(documents), int)
    for batch, nats in zip(batches, map_in_threads(nats_of, batches), strict=True):
        for (i, piece), value in zip(batch, nats, strict=True):
            totals[i] += value
            tokens[i] += len(piece) - 1
    return totals, tokens


def measure_loss(model, documents) -> LossEstimate:
    """The model's loss on documents. See `document_nats`."""
    return estimate_loss(*document_nats(model, documents))
