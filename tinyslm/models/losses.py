"""What a language model is trained to make small."""

import numpy as np

from tinyslm import ops
from tinyslm.errors import ConfigError, DataError


def next_token_loss(model, token_ids, labels=None, **inputs):
    """Mean cross entropy, in nats per predicted token, of predicting token t + 1 from tokens 0 .. t.

    token_ids: (B, T) integers;  labels: (B, T) integers, token_ids if None, IGNORED (-100) where nothing is predicted;
    further inputs (attention_mask ...) go to the model. Padding must be ignored by its labels.
    """
    labels = np.asarray(token_ids if labels is None else labels)
    if labels.shape != np.shape(token_ids):
        raise DataError(f"labels are {labels.shape}, expected the shape of the token ids, {np.shape(token_ids)}")
    return ops.cross_entropy(model(token_ids, **inputs), following_labels(labels))


def following_labels(labels):
    """What position t predicts: the label of t + 1. The last position has nothing to predict. (B, T) -> (B, T)."""
    following = np.full_like(labels, ops.IGNORED)
    following[:, :-1] = labels[:, 1:]
    return following


def masked_token_loss(model, token_ids, labels, **inputs):
    """Mean cross entropy, in nats per predicted token, of predicting the label of a position at that position.

    token_ids: (B, T) integers, in which some tokens are replaced by the mask token or by others;  labels: (B, T), the
    true tokens there, IGNORED (-100) elsewhere;  further inputs (attention_mask, token_type_ids) go to the model.
    Raises ConfigError for a model without a masked head.
    Source: Devlin et al. 2019, section 3.1.
    """
    return ops.cross_entropy(model.predict(model.hidden_states(token_ids, **inputs)), np.asarray(labels))


def sequence_to_sequence_loss(model, token_ids, labels, attention_mask=None):
    """Mean cross entropy, in nats per predicted token, of writing the labels after reading the source.

    token_ids: (B, S) integers, attention_mask: (B, S), 0 for padding;  labels: (B, T) integers, IGNORED (-100) where
    nothing is predicted. At every position the decoder has read the labels before it ("teacher forcing").
    Raises ConfigError for a model that is no encoder-decoder.
    """
    labels = np.asarray(labels)
    if not model.config.num_decoder_layers:
        raise ConfigError(f"a {model.config.family} model does not write one text after reading another")
    decoder_token_ids = preceding_tokens(labels, model.config.decoder_start_token_id, model.config.pad_token_id)
    return ops.cross_entropy(model(token_ids, attention_mask, decoder_token_ids=decoder_token_ids), labels)


def preceding_tokens(labels, start_token, pad_token):
    """What the decoder reads at position t: the label of t - 1, padding where that is IGNORED, first the start token.

    (B, T) -> (B, T).
    """
    preceding = np.full_like(labels, start_token)
    preceding[..., 1:] = np.where(labels == ops.IGNORED, pad_token, labels)[..., :-1]
    return preceding
