"""Decoder-only transformer: computes logits of the next token at every position."""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from tinyslm import ops
from tinyslm.errors import DataError
from tinyslm.models.config import DecoderConfig
from tinyslm.models.input_checks import check_length, check_mask, check_token_ids
from tinyslm.models.module_factory import ModuleFactory
from tinyslm.modules import Block, Context, Embedding, Linear, MixtureOfExperts, ParallelBlock
from tinyslm.tree import Array, Module


class Decoder(Module):
    """Decoder: token ids -> logits. `head` is None if the embedding table is also the output matrix (tied)."""

    config: DecoderConfig
    embedding: Embedding
    layers: list[Block | ParallelBlock]
    norm: Any
    head: Linear | None = None
    position_embedding: Embedding | None = None

    def __call__(
        self,
        token_ids: ArrayLike,
        attention_mask: ArrayLike | None = None,
        *,
        position_ids: ArrayLike | None = None,
        cache: Any = None,
        last_only: bool = False,
        observe: Callable[[str, Any], Any] | None = None,
    ) -> Array:
        """token_ids: (B, T) integers -> logits (B, T, V); with last_only the logits (B, 1, V) of the last position.

        attention_mask: (B, S), 0 for padding, over the cached tokens and `token_ids`. position_ids: (T,) or (B, T); by
        default the number of earlier tokens without padding, so that padding on either side does not change the logits.
        Raises DataError for token ids out of range or a sequence longer than max_position_embeddings.
        """
        states = self.hidden_states(token_ids, attention_mask, position_ids=position_ids, cache=cache, observe=observe)
        logits = self.predict(states[:, -1:] if last_only else states)
        if observe is not None:
            observe("logits", logits)
        return logits

    def hidden_states(
        self,
        token_ids: ArrayLike,
        attention_mask: ArrayLike | None = None,
        *,
        position_ids: ArrayLike | None = None,
        cache: Any = None,
        observe: Callable[[str, Any], Any] | None = None,
        length: int | None = None,
    ) -> Array:
        """Final hidden states, after the final norm: (B, T, C). Arguments as `__call__`.

        length: tokens of the longest sequence, if later passes read more of it. longrope and dynamic rope
        choose their frequencies by it.
        """
        past = 0 if cache is None else cache.length
        token_ids, attention_mask = self.check_inputs(token_ids, attention_mask, past)
        T = token_ids.shape[1]
        if position_ids is None and attention_mask is None:
            position_ids = np.arange(past, past + T)  # (T,)
        elif position_ids is None:
            position_ids = np.maximum(np.cumsum(attention_mask != 0, axis=1) - 1, 0)[:, -T:]  # (B, T)
        position_ids = np.asarray(position_ids)
        if position_ids.dtype.kind not in "iu" or position_ids.shape not in ((T,), token_ids.shape):
            found = f"{position_ids.dtype}{position_ids.shape}"
            raise DataError(f"position ids are {found}, expected integers of {(T,)} or {token_ids.shape}")
        if not 0 <= position_ids.min() <= position_ids.max() < self.config.max_position_embeddings:
            raise DataError(f"position ids must be 0 to {self.config.max_position_embeddings - 1}")
        context = Context(position_ids, attention_mask, cache, observer=observe, length=length)

        x = self.embedding(token_ids)  # (B, T, C)
        if self.config.embedding_scale != 1.0:
            x = x * x.dtype.type(self.config.embedding_scale)
        if self.position_embedding is not None:
            x = x + self.position_embedding(context.positions)
        x = self.norm(context.run_blocks(self.layers, x))
        context.observe_hidden_state(len(self.layers), x)
        return x

    def predict(self, states: Array) -> Array:
        """Logits of the next token: (B, T, C) -> (B, T, V)."""
        logits = self.embedding.as_head(states) if self.head is None else self.head(states)
        if self.config.logits_scaling != 1.0:
            logits = logits * logits.dtype.type(1 / self.config.logits_scaling)
        if self.config.logit_softcap is not None:
            logits = ops.softcap(logits, cap=self.config.logit_softcap)
        return logits

    def check_inputs(
        self, token_ids: ArrayLike, attention_mask: ArrayLike | None = None, past: int = 0
    ) -> tuple[Array, Array | None]:
        """Return token_ids and attention_mask as arrays. Raises DataError if they are invalid for the model.

        past: number of cached tokens.
        """
        token_ids = check_token_ids(token_ids, self.config.vocab_size)
        total = past + token_ids.shape[1]
        check_length(total, self.config.max_position_embeddings)
        return token_ids, check_mask(attention_mask, (len(token_ids), total))

    @property
    def tied_head(self) -> bool:
        """Whether input and output embeddings are tied."""
        return self.head is None


def build_decoder(config: DecoderConfig, make: Callable) -> Decoder:
    """Decoder with the given configuration. make(shape, kind) returns each array; `ModuleFactory` lists the kinds."""
    parts = ModuleFactory(config, make)

    def mixture():
        return MixtureOfExperts(
            router=parts.linear(config.num_experts, config.hidden_size),
            experts=[parts.feed_forward(config.expert_intermediate_size) for _ in range(config.num_experts)],
            experts_per_token=config.experts_per_token,
            normalized=config.normalized_routing,
        )

    def attention(layer):
        H, G = (config.num_attention_heads, config.num_key_value_heads) if config.joint_query_key_norm else (1, 1)
        return parts.attention(
            rope=config.ropes[layer],
            window=config.windows[layer],
            softcap=config.attention_softcap,
            query_norm=parts.norm(H * config.head_dim) if config.query_key_norm else None,
            key_norm=parts.norm(G * config.head_dim) if config.query_key_norm else None,
            joint_norms=config.joint_query_key_norm,
        )

    def feed_forward(layer):
        return mixture() if config.has_experts(layer) else parts.feed_forward()

    def block(layer):
        if config.parallel_blocks:
            return ParallelBlock(
                attention_norm=parts.norm(),
                attention=attention(layer),
                feed_forward_norm=None if config.shared_norm else parts.norm(),
                feed_forward=feed_forward(layer),
            )
        return Block(
            attention_norm=parts.norm() if config.pre_norm else None,
            attention=attention(layer),
            feed_forward_norm=parts.norm() if config.pre_norm else None,
            feed_forward=feed_forward(layer),
            attention_output_norm=parts.norm() if config.sublayer_output_norm else None,
            feed_forward_output_norm=parts.norm() if config.sublayer_output_norm else None,
            residual_multiplier=config.residual_multiplier,
        )

    return Decoder(
        config=config,
        embedding=parts.embedding(config.vocab_size),
        layers=[block(i) for i in range(config.num_hidden_layers)],
        norm=parts.norm(),
        head=parts.head(config.head_bias),
        position_embedding=parts.embedding(config.max_position_embeddings) if config.learned_positions else None,
    )
