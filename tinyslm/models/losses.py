"""Training losses: next-token, masked-token and sequence-to-sequence cross entropy."""

from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from tinyslm import ops
from tinyslm.errors import ConfigError, DataError
from tinyslm.tree import Array, Module


def next_token_loss(model: Module, token_ids: ArrayLike, labels: ArrayLike | None = None, **inputs: Any) -> float:
    """Mean cross entropy of predicting token t + 1 from tokens 0 to t (causal language modelling).

    Parameters
    ----------
    model : Module
        A decoder.
    token_ids : array_like of int, shape (B, T)
        Input tokens.
    labels : array_like of int, shape (B, T), optional
        `token_ids` if None; -100 (`ops.IGNORED`) where nothing is predicted. Padding must be ignored by its labels.
        The function shifts the labels: position t is compared with label t + 1.
    **inputs
        Further inputs of the model, such as `attention_mask`.

    Returns
    -------
    scalar
        Nats per predicted token. Differentiable with `value_and_grad`.

    Raises
    ------
    DataError
        If the labels do not have the shape of the token ids, or the inputs do not fit the model.

    Examples
    --------
    >>> from tinyslm.models.builder import random_model
    >>> from tinyslm.models.tiny_shapes import llama_shape
    >>> model = random_model(llama_shape(31, 16, 20, 1, 4, 2), deviation=1e-6)  # nearly uniform predictions
    >>> round(float(next_token_loss(model, [[1, 2, 3]])), 3) == round(float(np.log(31)), 3)
    True
    """
    labels = np.asarray(token_ids if labels is None else labels)
    if labels.shape != np.shape(token_ids):
        raise DataError(f"labels are {labels.shape}, expected the shape of the token ids, {np.shape(token_ids)}")
    return ops.cross_entropy(model(token_ids, **inputs), following_labels(labels))


def following_labels(labels: Array) -> Array:
    """Target of each position: label t + 1 for position t, IGNORED for the last position. (B, T) -> (B, T)."""
    following = np.full_like(labels, ops.IGNORED)
    following[:, :-1] = labels[:, 1:]
    return following


def masked_token_loss(model: Module, token_ids: ArrayLike, labels: ArrayLike, **inputs: Any) -> float:
    """Mean cross entropy of predicting the true tokens at the masked positions (masked language modelling).

    Parameters
    ----------
    model : Encoder
        An encoder with a masked-LM head.
    token_ids : array_like of int, shape (B, T)
        Input tokens, some of them replaced by the mask token or by other tokens.
    labels : array_like of int, shape (B, T)
        The true tokens at the masked positions, -100 (`ops.IGNORED`) elsewhere. Labels are not shifted.
    **inputs
        Further inputs of the model: `attention_mask`, `token_type_ids`.

    Returns
    -------
    scalar
        Nats per predicted token. Differentiable with `value_and_grad`.

    Raises
    ------
    ConfigError
        If the model has no masked-LM head.
    DataError
        If the inputs do not fit the model.

    References
    ----------
    Devlin et al. 2019, "BERT" (arXiv 1810.04805), section 3.1.

    Examples
    --------
    >>> from tinyslm.models.builder import random_model
    >>> from tinyslm.models.catalogue import bert
    >>> model = random_model(bert(31, 16, 20, 1, 4, 4, 8), deviation=1e-6)  # nearly uniform predictions
    >>> round(float(masked_token_loss(model, [[1, 2, 0]], [[-100, -100, 3]])), 3) == round(float(np.log(31)), 3)
    True
    """
    return ops.cross_entropy(model.predict(model.hidden_states(token_ids, **inputs)), np.asarray(labels))


def sequence_to_sequence_loss(
    model: Module, token_ids: ArrayLike, labels: ArrayLike, attention_mask: ArrayLike | None = None
) -> float:
    """Mean cross entropy of predicting the labels from a source text, with teacher forcing.

    Parameters
    ----------
    model : EncoderDecoder
        An encoder-decoder.
    token_ids : array_like of int, shape (B, S)
        Source tokens.
    labels : array_like of int, shape (B, T)
        Target tokens, -100 (`ops.IGNORED`) where nothing is predicted. The decoder's input is the labels shifted right
        by one position, beginning with `config.decoder_start_token_id`.
    attention_mask : array_like, shape (B, S), optional
        1 for source tokens, 0 for padding.

    Returns
    -------
    scalar
        Nats per predicted token. Differentiable with `value_and_grad`.

    Raises
    ------
    ConfigError
        If the model is not an encoder-decoder.
    DataError
        If the inputs do not fit the model.

    Examples
    --------
    >>> from tinyslm.models.builder import random_model
    >>> from tinyslm.models.catalogue import t5
    >>> model = random_model(t5(31, 16, 20, 1, 1, 4, 4, 8, 16), deviation=1e-6)  # nearly uniform predictions
    >>> round(float(sequence_to_sequence_loss(model, [[5, 6, 7]], [[1, 2]])), 3) == round(float(np.log(31)), 3)
    True
    """
    labels = np.asarray(labels)
    if not model.config.num_decoder_layers:
        raise ConfigError(f"sequence_to_sequence_loss needs an encoder-decoder, found a {model.config.family} model")
    decoder_token_ids = preceding_tokens(labels, model.config.decoder_start_token_id, model.config.pad_token_id)
    return ops.cross_entropy(model(token_ids, attention_mask, decoder_token_ids=decoder_token_ids), labels)


def preceding_tokens(labels: Array, start_token: int, pad_token: int) -> Array:
    """The decoder's input: labels shifted right, `start_token` first, `pad_token` for IGNORED. (B, T) -> (B, T)."""
    preceding = np.full_like(labels, start_token)
    preceding[..., 1:] = np.where(labels == ops.IGNORED, pad_token, labels)[..., :-1]
    return preceding


def next_token_losses(model: Module, token_ids: ArrayLike, labels: ArrayLike) -> list[float]:
    """Mean cross entropies of the next token over several selections of tokens, from one pass of the model.

    Parameters
    ----------
    model, token_ids
        As of `next_token_loss`.
    labels : array_like of int, shape (B, T, P)
        labels[..., p] as the labels of `next_token_loss`, for the selection p.

    Returns
    -------
    list of P scalars
        Nats per predicted token of each selection. Differentiable with `value_and_grad`.

    Raises
    ------
    DataError
        If the labels do not have the shape of the token ids and one more axis, or the inputs do not fit the model.

    Examples
    --------
    >>> from tinyslm.models.builder import random_model
    >>> from tinyslm.models.tiny_shapes import llama_shape
    >>> model = random_model(llama_shape(31, 16, 20, 1, 4, 2))
    >>> every, last = next_token_losses(model, [[1, 2, 3]], [[[1, -100], [2, -100], [3, 3]]])
    >>> bool(every == next_token_loss(model, [[1, 2, 3]]))
    True
    >>> bool(last == next_token_loss(model, [[1, 2, 3]], [[-100, -100, 3]]))
    True
    """
    labels = np.asarray(labels)
    if labels.ndim != 3 or labels.shape[:2] != np.shape(token_ids):
        shape = np.shape(token_ids)
        raise DataError(f"labels are {labels.shape}, expected the shape of the token ids, {shape}, and one more axis")
    logits = model(token_ids)
    return [ops.cross_entropy(logits, following_labels(labels[..., part])) for part in range(labels.shape[2])]
