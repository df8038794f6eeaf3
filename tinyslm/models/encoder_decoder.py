"""Encoder-decoder transformer with cross-attention and relative positions (T5)."""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from tinyslm.errors import DataError
from tinyslm.models.encoder_decoder_config import EncoderDecoderConfig
from tinyslm.models.input_checks import check_mask, check_token_ids
from tinyslm.models.module_factory import ModuleFactory
from tinyslm.modules import Block, Context, CrossAttention, Embedding, Linear, RelativePositions
from tinyslm.tree import Array, Module


class Stack(Module):
    """Encoder or decoder stack: blocks that share one table of relative position biases, and the final norm."""

    layers: list[Block]
    norm: Any
    relative_positions: RelativePositions

    def __call__(
        self, x, attention_mask=None, *, source=None, source_mask=None, cache=None, name="", observe=None
    ) -> Array:
        """x: (B, T, C) -> (B, T, C). attention_mask: (B, T), 0 for padding. source, source_mask: as in Context."""
        T, past = x.shape[1], 0 if cache is None else cache.length
        positions = np.arange(past + T)  # (S,)
        bias = self.relative_positions(positions[past:], positions)  # (H, T, S)
        context = Context(positions[past:], attention_mask, cache, bias, source, source_mask, observe, f"{name}.")
        x = self.norm(context.run_blocks(self.layers, x))
        context.observe_hidden_state(len(self.layers), x)
        return x


class EncoderDecoder(Module):
    """Encoder-decoder: token ids of a source and of a target text -> logits of the next target tokens.

    Both stacks share the embedding. `head` is None where it is tied to the embedding table.
    """

    config: EncoderDecoderConfig
    embedding: Embedding
    encoder: Stack
    decoder: Stack
    head: Linear | None = None

    def __call__(
        self,
        token_ids: ArrayLike,
        attention_mask: ArrayLike | None = None,
        *,
        decoder_token_ids: ArrayLike | None = None,
        observe: Callable[[str, Any], Any] | None = None,
    ) -> Array:
        """token_ids: (B, S), decoder_token_ids: (B, T) integers -> logits (B, T, V).

        attention_mask: (B, S), 0 for padding of the source, on either side. decoder_token_ids begin with
        config.decoder_start_token_id. They need no mask: attention is causal, so padding at their end does not change
        the logits of earlier positions.
        Raises DataError for token ids out of range, or inputs that do not fit each other.
        """
        source = self.encode(token_ids, attention_mask, observe=observe)
        return self.decode(decoder_token_ids, source, attention_mask, observe=observe)

    def hidden_states(
        self,
        token_ids: ArrayLike,
        attention_mask: ArrayLike | None = None,
        *,
        decoder_token_ids: ArrayLike | None = None,
        observe: Callable[[str, Any], Any] | None = None,
    ) -> Array:
        """The decoder's final hidden states, after its final norm: (B, T, C). Arguments as `__call__`."""
        source = self.encode(token_ids, attention_mask, observe=observe)
        return self._decoder_states(decoder_token_ids, source, attention_mask, None, observe)

    def encode(
        self,
        token_ids: ArrayLike,
        attention_mask: ArrayLike | None = None,
        *,
        observe: Callable[[str, Any], Any] | None = None,
    ) -> Array:
        """The encoder's final hidden states: (B, S) integers -> (B, S, C)."""
        token_ids = check_token_ids(token_ids, self.config.vocab_size)
        attention_mask = check_mask(attention_mask, token_ids.shape)
        return self.encoder(self.embedding(token_ids), attention_mask, name="encoder", observe=observe)

    def decode(
        self,
        decoder_token_ids: ArrayLike | None,
        source: Array,
        attention_mask: ArrayLike | None = None,
        *,
        cache: Any = None,
        observe: Callable[[str, Any], Any] | None = None,
    ) -> Array:
        """Logits (B, T, V) of the token after each of decoder_token_ids (B, T), given the encoder's states (B, S, C).

        cache: keys and values of earlier tokens, which decoder_token_ids continue, for the same source.
        """
        logits = self.predict(self._decoder_states(decoder_token_ids, source, attention_mask, cache, observe))
        if observe is not None:
            observe("logits", logits)
        return logits

    def _decoder_states(self, decoder_token_ids, source, attention_mask, cache, observe):
        if decoder_token_ids is None:
            raise DataError("decoder_token_ids are missing: an encoder-decoder needs the tokens of the target text")
        token_ids = check_token_ids(decoder_token_ids, self.config.vocab_size)
        attention_mask = check_mask(attention_mask, source.shape[:2])
        if len(token_ids) != source.shape[0]:
            raise DataError(f"decoder token ids are {token_ids.shape}, but there are {source.shape[0]} sources")
        sources = {"source": source, "source_mask": attention_mask}
        return self.decoder(self.embedding(token_ids), **sources, cache=cache, name="decoder", observe=observe)

    def predict(self, states: Array) -> Array:
        """Logits of the next token: (B, T, C) -> (B, T, V)."""
        if self.config.output_scale != 1.0:
            states = states * states.dtype.type(self.config.output_scale)
        return self.embedding.as_head(states) if self.tied_head else self.head(states)

    @property
    def tied_head(self) -> bool:
        """Whether input and output embeddings are tied."""
        return self.head is None


def build_encoder_decoder(config: EncoderDecoderConfig, make: Callable) -> EncoderDecoder:
    """Encoder-decoder with this configuration. make(shape, kind) returns an array; `ModuleFactory` lists the kinds."""
    parts = ModuleFactory(config, make)

    def block(is_decoder):
        return Block(
            attention_norm=parts.norm(),
            attention=parts.attention(causal=is_decoder),
            feed_forward_norm=parts.norm(),
            feed_forward=parts.feed_forward(),
            cross_attention_norm=parts.norm() if is_decoder else None,
            cross_attention=parts.attention(CrossAttention) if is_decoder else None,
        )

    def stack(layers, is_decoder):
        return Stack(
            layers=[block(is_decoder) for _ in range(layers)],
            norm=parts.norm(),
            relative_positions=RelativePositions(
                make((config.relative_attention_num_buckets, config.num_attention_heads), "weight"),
                max_distance=config.relative_attention_max_distance,
                bidirectional=not is_decoder,
            ),
        )

    return EncoderDecoder(
        config=config,
        embedding=parts.embedding(config.vocab_size),
        encoder=stack(config.num_hidden_layers, is_decoder=False),
        decoder=stack(config.num_decoder_layers, is_decoder=True),
        head=parts.head(),
    )
