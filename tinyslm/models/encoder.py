"""Encoder-only transformer with bidirectional attention (BERT, DistilBERT)."""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from tinyslm import ops
from tinyslm.errors import ConfigError, DataError
from tinyslm.models.encoder_config import EncoderConfig
from tinyslm.models.input_checks import check_length, check_mask, check_token_ids
from tinyslm.models.module_factory import ModuleFactory
from tinyslm.modules import Context, Embedding, LayerNorm, Linear, MaskedLMHead, PostNormBlock
from tinyslm.tree import Array, Module


class Encoder(Module):
    """Encoder: token ids -> logits of the token at each position, or hidden states if it has no `masked_lm_head`.

    `head` is None where it is tied to the embedding table.
    """

    config: EncoderConfig
    embedding: Embedding
    position_embedding: Embedding
    embedding_norm: LayerNorm
    layers: list[PostNormBlock]
    token_type_embedding: Embedding | None = None
    pooler: Linear | None = None
    masked_lm_head: MaskedLMHead | None = None
    head: Linear | None = None

    def __call__(
        self,
        token_ids: ArrayLike,
        attention_mask: ArrayLike | None = None,
        *,
        token_type_ids: ArrayLike | None = None,
        observe: Callable[[str, Any], Any] | None = None,
    ) -> Array:
        """token_ids: (B, T) integers -> logits (B, T, V), or states (B, T, C) without a masked-LM head.

        attention_mask: (B, T), 0 for padding;  token_type_ids: (B, T), 0 everywhere if None. Positions count from the
        left and include padding, as in the training of these models: padding must be on the right.
        Raises DataError for ids out of range or a sequence longer than max_position_embeddings.
        """
        states = self.hidden_states(token_ids, attention_mask, token_type_ids=token_type_ids, observe=observe)
        if self.masked_lm_head is None:
            return states
        logits = self.predict(states)
        if observe is not None:
            observe("logits", logits)
        return logits

    def hidden_states(
        self,
        token_ids: ArrayLike,
        attention_mask: ArrayLike | None = None,
        *,
        token_type_ids: ArrayLike | None = None,
        observe: Callable[[str, Any], Any] | None = None,
    ) -> Array:
        """Final hidden states: (B, T, C). Arguments as `__call__`."""
        token_ids = check_token_ids(token_ids, self.config.vocab_size)
        check_length(token_ids.shape[1], self.config.max_position_embeddings)
        attention_mask = check_mask(attention_mask, token_ids.shape)
        token_type_ids = self._check_token_types(token_type_ids, token_ids.shape)
        context = Context(np.arange(token_ids.shape[1]), attention_mask, observer=observe)

        x = self.embedding(token_ids) + self.position_embedding(context.positions)  # (B, T, C)
        if self.token_type_embedding is not None:
            x = x + self.token_type_embedding(token_type_ids)
        x = self.embedding_norm(x)
        x = context.run_blocks(self.layers, x)
        context.observe_hidden_state(len(self.layers), x)
        return x

    def predict(self, states: Array) -> Array:
        """Logits of the token at each position: (B, T, C) -> (B, T, V). Raises ConfigError without a masked-LM head."""
        if self.masked_lm_head is None:
            raise ConfigError(f"this {self.config.family} model has no masked head: it predicts no tokens")
        vectors = self.masked_lm_head(states)
        return self.embedding.as_head(vectors) + self.masked_lm_head.bias if self.tied_head else self.head(vectors)

    def pooled(self, states: Array) -> Array:
        """Pooled output of the first token's state: (B, T, C) -> (B, C). Raises ConfigError without a pooler."""
        if self.pooler is None:
            raise ConfigError(f"this {self.config.family} model has no pooler")
        return ops.tanh(self.pooler(states[:, 0]))

    @property
    def tied_head(self) -> bool:
        """Whether input and output embeddings are tied."""
        return self.masked_lm_head is not None and self.head is None

    def _check_token_types(self, token_type_ids, shape) -> Array:
        """token_type_ids as an array of this shape (B, T), zeros for None. Raises DataError if they do not fit."""
        kinds = self.config.type_vocab_size
        if token_type_ids is None:
            return np.zeros(shape, int)
        if kinds is None:
            raise DataError(f"token_type_ids are given, but this {self.config.family} model has no token types")
        token_type_ids = np.asarray(token_type_ids)
        if token_type_ids.shape != shape or not np.issubdtype(token_type_ids.dtype, np.integer):
            found = f"{token_type_ids.dtype}{token_type_ids.shape}"
            raise DataError(f"token_type_ids are {found}, expected {shape} integers (batch, tokens)")
        if token_type_ids.min() < 0 or token_type_ids.max() >= kinds:
            raise DataError(f"token_type_ids must be 0 to {kinds - 1}")
        return token_type_ids


def build_encoder(config: EncoderConfig, make: Callable) -> Encoder:
    """Encoder with the given configuration. make(shape, kind) returns each array; `ModuleFactory` lists the kinds."""
    parts = ModuleFactory(config, make)
    V, C, tied = config.vocab_size, config.hidden_size, config.tie_word_embeddings

    def block():
        return PostNormBlock(
            attention=parts.attention(causal=False),
            attention_norm=parts.norm(),
            feed_forward=parts.feed_forward(),
            feed_forward_norm=parts.norm(),
        )

    def masked_lm_head():
        return MaskedLMHead(
            transform=parts.linear(C, C, bias=True),
            norm=parts.norm(),
            bias=make((V,), "bias") if tied else None,
            activation=config.activation,
        )

    return Encoder(
        config=config,
        embedding=parts.embedding(V),
        position_embedding=parts.embedding(config.max_position_embeddings),
        embedding_norm=parts.norm(),
        layers=[block() for _ in range(config.num_hidden_layers)],
        token_type_embedding=None if config.type_vocab_size is None else parts.embedding(config.type_vocab_size),
        pooler=parts.linear(C, C, bias=True) if config.pooler else None,
        masked_lm_head=masked_lm_head() if config.masked_head else None,
        head=parts.head(bias=True),
    )
