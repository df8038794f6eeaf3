"""Incremental decoding state, per architecture: the tokens so far, and the logits of the next one."""

import numpy as np

from tinyslm.errors import ConfigError, DataError
from tinyslm.generation.cache import KeyValueCache
from tinyslm.generation.engine import Engine
from tinyslm.generation.engine_preparation import prepare, reason_against
from tinyslm.generation.quantized_cache import QuantizedKeyValueCache
from tinyslm.models import DecoderConfig, EncoderDecoderConfig

PROMPT_CHUNK = 1024  # tokens read at once: enough for fast matrix products, few enough to need little memory
CACHES = {"exact": KeyValueCache, "int8": QuantizedKeyValueCache}


class DecoderState:
    """Decoding state of a decoder: the prompt and the tokens that follow it, (B, length).

    The model reads the prompt. Then an engine reads one token at a time. It is prepared when the first token is read,
    if `model` is not an engine. Without an engine for this model and this kind of cache, the model reads all tokens.
    """

    def __init__(self, model, token_ids, max_new_tokens, attention_mask=None, make_cache=KeyValueCache):
        self.engine = model if isinstance(model, Engine) else None
        self.model = model = model.model if self.engine is not None else model
        if self.engine is not None and make_cache is not KeyValueCache:
            raise ConfigError("an engine reads exact keys and values; give cache='exact', or the model in its place")
        self.has_engine = make_cache is KeyValueCache and reason_against(model) is None
        token_ids, attention_mask = model.check_inputs(token_ids, attention_mask)
        B, T = token_ids.shape
        capacity = T + max_new_tokens - 1  # the last new token is never read
        if capacity > model.config.max_position_embeddings:
            raise DataError(
                f"a prompt of {T} tokens and {max_new_tokens} new ones do not fit in the model's context of "
                f"{model.config.max_position_embeddings}; shorten the prompt or generate fewer tokens"
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
        self.longest = 0  # tokens of the longest sequence in the last pass: longrope rotates keys accordingly
        self.least_padding = int((T - self.mask[:, :T].sum(axis=1)).min())
        self.reading_engine = None  # the engine with the tokens of `cache`

    def next_logits(self):
        """Logits of the next token: (B, V)."""
        longest = self.length - self.least_padding
        if _rotation_changes(self.model.config, longest):
            self.cache = self.make_cache(self.cache.capacity)  # its keys were rotated by other angles
            self.reading_engine = None
        self.longest = longest
        if self.has_engine and self.cache.length == self.length - 1 > 0:
            return self._engine().step(self.sequence[:, self.length - 1])
        while self.length - self.cache.length > PROMPT_CHUNK:
            self.model.hidden_states(*self._unread(PROMPT_CHUNK), cache=self.cache, length=longest)
        return self.model(*self._unread(PROMPT_CHUNK), cache=self.cache, last_only=True)[:, 0]

    def _engine(self):
        """The engine that continues after the tokens of the cache."""
        if self.reading_engine is None:
            if self.engine is None:
                self.engine = prepare(self.model, capacity=1)
            self.reading_engine = self.engine.continuing(self.cache, self.mask if self.has_padding else None)
        return self.reading_engine

    def _unread(self, count):
        """The next tokens that the cache does not have, (B, n) with n <= count, and the mask up to the last of them."""
        stop = min(self.cache.length + count, self.length)
        return self.sequence[:, self.cache.length : stop], self.mask[:, :stop] if self.has_padding else None

    def read(self, tokens):
        """Append one token per row, (B,)."""
        self.sequence[:, self.length] = tokens
        self.length += 1

    def written(self):
        """The prompt and the tokens that follow it, (B, length), and their mask or None."""
        return self.sequence[:, : self.length], self.mask[:, : self.length] if self.has_padding else None

    def inputs(self):
        """Inputs of the model for one pass over the same tokens."""
        return dict(zip(("token_ids", "attention_mask"), self.written(), strict=True))


def _rotation_changes(config, length):
    """Whether the cached keys must be rotated again before the token `length` of a sequence is read.

    longrope changes its factors once, for all positions (Ding et al. 2024). The length of this change is the same as in
    Hugging Face transformers. Dynamic rope changes its angles with every token beyond its original length; as there,
    cached keys keep the angles of the pass that computed them.
    """
    return any(rope and rope.scaling == "longrope" and length == rope.original_length + 1 for rope in config.ropes)


class EncoderDecoderState:
    """Decoding state of an encoder-decoder: the encoded source and the decoder's tokens, from the start token on."""

    def __init__(self, model, token_ids, max_new_tokens, attention_mask=None, make_cache=KeyValueCache):
        self.model = model
        self.token_ids, self.attention_mask = token_ids, attention_mask
        self.states = model.encode(token_ids, attention_mask)  # (B, S, C)
        self.sequence = np.full((len(self.states), max_new_tokens), model.config.decoder_start_token_id)
        self.length = 1
        self.cache = make_cache(max_new_tokens)

    def next_logits(self):
        """Logits of the next token: (B, V)."""
        unread = self.sequence[:, self.length - 1 : self.length]  # (B, 1)
        return self.model.decode(unread, self.states, self.attention_mask, cache=self.cache)[:, 0]

    def read(self, tokens):
        """Append one token per row, (B,)."""
        self.sequence[:, self.length] = tokens
        self.length += 1

    def written(self):
        """The start token and the tokens that follow it, (B, length), and None: they have no padding."""
        return self.sequence[:, : self.length], None

    def inputs(self):
        """Inputs of the model for one pass over the same tokens."""
        return {
            "token_ids": self.token_ids,
            "attention_mask": self.attention_mask,
            "decoder_token_ids": self.sequence[:, : self.length],
        }


STATES = {DecoderConfig: DecoderState, EncoderDecoderConfig: EncoderDecoderState}


def start_decoding(model, token_ids, max_new_tokens, attention_mask=None, cache="exact"):
    """Decoding state of a model before its first new token. cache: one of CACHES.

    Raises ConfigError for an encoder or an unknown cache. Raises DataError, before anything is computed, for invalid
    tokens, or if the prompt and all new tokens but the last do not fit in the context.
    """
    make_state = STATES.get(type(model.config))
    if make_state is None:
        raise ConfigError(f"a {model.config.family} model cannot generate: it does not predict the next token")
    if cache not in CACHES:
        raise ConfigError(f"cache is {cache!r}, expected one of {', '.join(CACHES)}")
    return make_state(model, token_ids, max_new_tokens, attention_mask, CACHES[cache])
