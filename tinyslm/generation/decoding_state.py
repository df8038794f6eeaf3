"""What has been read so far, and what follows it: the one question of generation, for each kind of model."""

import numpy as np

from tinyslm.errors import ConfigError, DataError
from tinyslm.generation.cache import KeyValueCache
from tinyslm.generation.quantized_cache import QuantizedKeyValueCache
from tinyslm.models import DecoderConfig, EncoderDecoderConfig

CACHES = {"exact": KeyValueCache, "int8": QuantizedKeyValueCache}  # how keys and values are stored


class DecoderState:
    """A decoder that has read a prompt, and reads the tokens that follow it."""

    def __init__(self, model, token_ids, max_new_tokens, attention_mask=None, make_cache=KeyValueCache):
        self.model = model
        token_ids, attention_mask = model.check_inputs(token_ids, attention_mask)
        B, T = token_ids.shape
        capacity = T + max_new_tokens - 1  # the last new token is never read
        if capacity > model.config.max_position_embeddings:
            raise DataError(
                f"a prompt of {T} tokens and {max_new_tokens} new ones do not fit in the model's context of "
                f"{model.config.max_position_embeddings}; shorten the prompt or ask for fewer"
            )
        self.has_padding = attention_mask is not None
        self.mask = np.ones((B, capacity), np.int64)
        if self.has_padding:
            self.mask[:, :T] = attention_mask != 0
            if not self.mask[:, T - 1].all():
                raise DataError("attention_mask ends with padding: prompts must be padded on the left")
        self.sequence = np.empty((B, capacity), np.int64)
        self.sequence[:, :T] = token_ids
        self.length = T
        self.make_cache = make_cache
        self.cache = make_cache(capacity)

    def next_logits(self):
        """Logits of the token that follows: (B, V)."""
        mask = self.mask[:, : self.length]
        if _rotation_changes(self.model.config, int(mask.sum(axis=1).max())):
            self.cache = self.make_cache(self.cache.capacity)  # its keys were turned by other angles
        unread = self.sequence[:, self.cache.length : self.length]  # (B, n): the prompt, later one token
        seen_mask = mask if self.has_padding else None
        return self.model(unread, seen_mask, cache=self.cache, last_only=True)[:, 0]

    def read(self, tokens):
        """Take (B,) tokens as what followed."""
        self.sequence[:, self.length] = tokens
        self.length += 1


def _rotation_changes(config, length):
    """True if a sequence of `length` tokens turns its keys by other angles than one of length - 1: longrope changes its
    factors once, for all positions (Ding et al. 2024; the moment is that of Hugging Face transformers)."""
    return any(rope and rope.scaling == "longrope" and length == rope.original_length + 1 for rope in config.ropes)


class EncoderDecoderState:
    """An encoder-decoder that has read a source, and reads the text that it writes itself, from the start token on."""

    def __init__(self, model, token_ids, max_new_tokens, attention_mask=None, make_cache=KeyValueCache):
        self.model = model
        self.attention_mask = attention_mask
        self.states = model.encode(token_ids, attention_mask)  # (B, S, C)
        self.unread = np.full(len(self.states), model.config.decoder_start_token_id)  # (B,)
        self.cache = make_cache(max_new_tokens)

    def next_logits(self):
        """Logits of the token that follows: (B, V)."""
        return self.model.decode(self.unread[:, None], self.states, self.attention_mask, cache=self.cache)[:, 0]

    def read(self, tokens):
        """Take (B,) tokens as what followed."""
        self.unread = tokens


READERS = {DecoderConfig: DecoderState, EncoderDecoderConfig: EncoderDecoderState}


def start_decoding(model, token_ids, max_new_tokens, attention_mask=None, cache="exact"):
    """The reader for a model, before the first of its new tokens. cache: one of CACHES.

    Raises ConfigError for a model that does not predict what follows, or an unknown cache, and DataError, before
    anything is computed, for tokens that the model cannot read or if it could not read all of the prompt and all but
    the last of the new tokens.
    """
    reader = READERS.get(type(model.config))
    if reader is None:
        raise ConfigError(f"a {model.config.family} model cannot generate: it does not predict what follows a text")
    if cache not in CACHES:
        raise ConfigError(f"cache is {cache!r}, expected one of {', '.join(CACHES)}")
    return reader(model, token_ids, max_new_tokens, attention_mask, CACHES[cache])
