"""Encoder-only transformer with bidirectional attention (BERT, RoBERTa, MPNet, ModernBERT)."""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from tinyslm import ops
from tinyslm.errors import ConfigError, DataError
from tinyslm.models.encoder_config import EncoderConfig
from tinyslm.models.input_checks import check_length, check_mask, check_token_ids
from tinyslm.models.module_factory import ModuleFactory
from tinyslm.modules import (
    Block,
    Context,
    Embedding,
    LayerNorm,
    Linear,
    MaskedLMHead,
    PostNormBlock,
    RelativePositions,
)
from tinyslm.tree import Array, Module


class Encoder(Module):
    """Encoder: token ids -> logits of the token at each position, or hidden states if it has no `masked_lm_head`.

    `head` is None where it is tied to the embedding table. `norm` is the final norm of pre-norm blocks.
    """

    config: EncoderConfig
    embedding: Embedding
    position_embedding: Embedding | None
    embedding_norm: LayerNorm
    layers: list[PostNormBlock] | list[Block]
    norm: LayerNorm | None = None
    token_type_embedding: Embedding | None = None
    relative_positions: RelativePositions | None = None
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

        attention_mask: (B, T), 0 for padding;  token_type_ids: (B, T), 0 everywhere if None. Learned positions count
        from the left and include padding, as in the training of these models: padding must be on the right. Models with
        `padding_idx` (RoBERTa) count only tokens other than this one, on whichever side it is.
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
        attention_mask = check_mask(attention_mask, token_ids.shape)
        token_type_ids = self._check_token_types(token_type_ids, token_ids.shape)
        position_ids = self._position_ids(token_ids)
        slots = np.arange(token_ids.shape[1])  # (T,)
        bias = None if self.relative_positions is None else self.relative_positions(slots, slots)  # (H, T, T)
        context = Context(slots, attention_mask, position_bias=bias, observer=observe)

        x = self.embedding(token_ids)  # (B, T, C)
        if self.position_embedding is not None:
            x = x + self.position_embedding(position_ids)
        if self.token_type_embedding is not None:
            x = x + self.token_type_embedding(token_type_ids)
        x = self.embedding_norm(x)
        x = context.run_blocks(self.layers, x)
        if self.norm is not None:
            x = self.norm(x)
        context.observe_hidden_state(len(self.layers), x)
        return x

    def predict(self, states: Array) -> Array:
        """Logits of the token at each position: (B, T, C) -> (B, T, V). Raises ConfigError without a masked-LM head."""
        if self.masked_lm_head is None:
            raise ConfigError(f"this {self.config.family} model has no masked head: it predicts no tokens")
        vectors = self.masked_lm_head(states)  # (B, T, C)
        if not self.tied_head:
            return self.head(vectors)
        logits, bias = self.embedding.as_head(vectors), self.masked_lm_head.bias
        return logits if bias is None else logits + bias

    def pooled(self, states: Array) -> Array:
        """Pooled output of the first token's state: (B, T, C) -> (B, C). Raises ConfigError without a pooler."""
        if self.pooler is None:
            raise ConfigError(f"this {self.config.family} model has no pooler")
        return ops.tanh(self.pooler(states[:, 0]))

    @property
    def tied_head(self) -> bool:
        """Whether input and output embeddings are tied."""
        return self.masked_lm_head is not None and self.head is None

    def _position_ids(self, token_ids) -> Array:
        """Row of the position table of each token: (B, T) -> (T,), or (B, T) with `padding_idx`.

        Raises DataError if a sequence is too long.
        """
        padding_idx = self.config.padding_idx
        if padding_idx is None:
            check_length(token_ids.shape[1], self.config.max_position_embeddings)
            return np.arange(token_ids.shape[1])
        counted = token_ids != padding_idx
        numbers = np.where(counted, np.cumsum(counted, axis=1), 0)  # (B, T), from 1; 0 for padding
        check_length(int(numbers.max()), self.config.max_position_embeddings)
        return padding_idx + numbers

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

    def attention(layer):
        window = config.windows[layer]
        lookahead = None if window is None else window - 1
        return parts.attention(causal=False, rope=config.ropes[layer], window=window, lookahead=lookahead)

    def post_norm_block(layer):
        return PostNormBlock(
            attention=attention(layer),
            attention_norm=parts.norm(),
            feed_forward=parts.feed_forward(),
            feed_forward_norm=parts.norm(),
        )

    def pre_norm_block(layer):
        return Block(
            attention_norm=None if layer == 0 else parts.norm(),  # the input of layer 0 is already normalized
            attention=attention(layer),
            feed_forward_norm=parts.norm(),
            feed_forward=parts.feed_forward(),
        )

    def masked_lm_head():
        return MaskedLMHead(
            transform=parts.linear(C, C, config.transform_bias),
            norm=parts.norm(),
            bias=make((V,), "bias") if tied and config.decoder_bias else None,
            activation=config.transform_activation or config.activation,
        )

    def position_embedding():
        first = 0 if config.padding_idx is None else config.padding_idx + 1
        return parts.embedding(first + config.max_position_embeddings)

    def relative_positions():
        table = make((config.relative_attention_num_buckets, config.num_attention_heads), "weight")
        return RelativePositions(table, config.relative_attention_max_distance, bidirectional=True)

    block = pre_norm_block if config.pre_norm else post_norm_block
    return Encoder(
        config=config,
        embedding=parts.embedding(V),
        position_embedding=position_embedding() if config.learned_positions else None,
        embedding_norm=parts.norm(),
        layers=[block(layer) for layer in range(config.num_hidden_layers)],
        norm=parts.norm() if config.pre_norm else None,
        token_type_embedding=None if config.type_vocab_size is None else parts.embedding(config.type_vocab_size),
        relative_positions=relative_positions() if config.relative_attention_num_buckets else None,
        pooler=parts.linear(C, C, bias=True) if config.pooler else None,
        masked_lm_head=masked_lm_head() if config.masked_head else None,
        head=parts.head(bias=config.decoder_bias),
    )
