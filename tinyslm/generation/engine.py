"""Inference engine: the token step of a decoder, with everything prepared that does not depend on the token.

`Decoder.__call__` is the definition. An engine computes the same logits, up to rounding, for one new token per
sequence. A step of a small model is a sequence of short NumPy calls, so their number decides its time:

1. Layers that read the same input are one matrix product: query, key and value; gate and up.
2. Constant factors are part of the weights: gains and biases of norms, the scale of the scores, residual multipliers.
3. Keys are stored as (B, G, D, S) and values as (B, G, S, D), in the order in which the products read them.
4. Cosines and sines of all positions are computed once.
5. There are no module calls, no observers and no checks of arrays between the products.

`prepare` in `engine_preparation.py` builds an engine. After a change of the model, prepare a new one.
Lesson: `lessons/05_generation.py`.
"""

from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from tinyslm import ops
from tinyslm.errors import DataError
from tinyslm.generation.cache import KeyValueCache
from tinyslm.generation.engine_layers import FusedFactors, FusedLinear, Norm
from tinyslm.models import Decoder, DecoderConfig
from tinyslm.modules import Attention, Embedding, FeedForward, MixtureOfExperts
from tinyslm.ops.attention import mask_bias
from tinyslm.runtime import single_threaded_blas
from tinyslm.tree import Array, Module, named_arrays, named_modules

SHARED_WORK = 2**25  # multiply-adds of a step of several sequences from which BLAS uses several threads


class AttentionStep(Module):
    """Attention of one new token per sequence. project: query, key and value, the scale of the scores included."""

    project: Any
    output: Any
    heads: tuple[int, int, int]  # H, G, D
    attention: Attention
    rope: int  # index in `engine.ropes`
    query_norm: Norm | None
    key_norm: Norm | None

    def __call__(self, x, layer, engine):
        (H, G, D), settings, B = self.heads, self.attention, len(x)
        heads = self.project(x).reshape(B, H + 2 * G, D)
        query, key, value = heads[:, :H], heads[:, H : H + G], heads[:, H + G :]  # (B, H, D), (B, G, D), (B, G, D)
        if self.query_norm is not None:
            for array, norm in ((query, self.query_norm), (key, self.key_norm)):
                array[...] = norm(array.reshape(B, -1)).reshape(array.shape) if settings.joint_norms else norm(array)
        if settings.rope is not None:
            rotate(heads[:, : H + G], *engine.rotations[self.rope])
            if settings.rope.query_scale_beta:
                query *= ops.query_scales(settings.rope, engine.positions)
        keys, values = engine.cache.append(layer, key, value)  # (B, G, D, S), (B, G, S, D)
        start = 0 if settings.window is None else max(0, keys.shape[-1] - settings.window)
        query = np.ascontiguousarray(query).reshape(B, G, H // G, D)
        scores = query @ keys[..., start:]  # (B, G, r, S)
        if settings.softcap is not None:  # its divisor is part of the scale
            np.tanh(scores, out=scores)
            scores *= settings.softcap
        if engine.padding is not None:
            scores += engine.padding[..., start : keys.shape[-1]]
        scores -= np.maximum.reduce(scores, axis=-1, keepdims=True)
        np.exp(scores, out=scores)
        mixed = scores @ values[:, :, start:]  # (B, G, r, D)
        mixed /= (scores @ engine.ones[start : keys.shape[-1]])[..., None]  # the sums
        return self.output(mixed.reshape(B, H * D))


def rotate(x, cos, sin):
    """Rotary positions in place. x: (B, heads, D);  cos, sin: (..., 1, 2, R/2), of `both_halves`."""
    R = 2 * cos.shape[-1]
    pairs = x[..., :R].reshape(*x.shape[:2], 2, R // 2)  # a view
    swapped = pairs[:, :, ::-1] * sin
    pairs *= cos
    pairs += swapped


class FeedForwardStep(Module):
    """down(activation(gate) * up), or down(activation(up)). project: gate and up, or up; the gate of SiLU is halved."""

    project: Any
    down: Any
    feed_forward: FeedForward

    def __call__(self, x):
        hidden = self.project(x)  # (B, 2 F) or (B, F)
        if self.feed_forward.gate is None:
            return self.down(activate(hidden, self.feed_forward.activation))
        F = hidden.shape[-1] // 2
        gate = activate(hidden[:, :F], self.feed_forward.activation)
        gate *= hidden[:, F:]
        return self.down(gate)


def activate(x, name):
    """The activation function of x; for SiLU that of 2 x, because the weights are halved: x tanh(x) + x."""
    if name != "silu":
        return ops.ACTIVATIONS[name](x)
    y = np.tanh(x)
    y *= x
    y += x
    return y


class MixtureStep(Module):
    """Mixture of experts: each token through its experts only."""

    router: Any
    experts: list[FeedForwardStep]
    mixture: MixtureOfExperts

    def __call__(self, x):
        logits = self.router(x)  # (B, E)
        chosen = ops.choose_experts(logits, self.mixture.experts_per_token)  # (B, k)
        weights = self.mixture.weights(logits, chosen)  # (B, k)
        output = np.zeros_like(x)
        for expert in np.unique(chosen):
            rows, slots = np.nonzero(chosen == expert)
            output[rows] += weights[rows, slots, None] * self.experts[expert](x[rows])
        return output


class BlockStep(Module):
    """A block. A norm is None where there is none; `parallel` blocks add both sublayers to the same input."""

    attention_norm: Norm | None
    attention: AttentionStep
    attention_output_norm: Norm | None
    feed_forward_norm: Norm | None
    feed_forward: FeedForwardStep | MixtureStep
    feed_forward_output_norm: Norm | None
    parallel: bool

    def __call__(self, x, layer, engine):
        inputs = x if self.attention_norm is None else self.attention_norm(x)
        attended = self.attention(inputs, layer, engine)
        if self.attention_output_norm is not None:
            attended = self.attention_output_norm(attended)
        if not self.parallel:
            x += attended
            inputs = x
        if self.feed_forward_norm is not None:
            inputs = self.feed_forward_norm(x)
        output = self.feed_forward(inputs)
        if self.feed_forward_output_norm is not None:
            output = self.feed_forward_output_norm(output)
        x += output
        if self.parallel:
            x += attended
        return x


@dataclass
class Engine:
    """A decoder prepared for token steps, and the tokens that it has read: `cache`. Made by `prepare`.

    ropes: the different rotary positions of the layers;  multiply_adds: of a step for one sequence;
    ones: (capacity,), to add probabilities up by a product;
    padding: (B, 1, 1, capacity), the additive mask of the padding in the prompt, or None;  skipped: (B,) its length.
    """

    model: Decoder
    blocks: list[BlockStep]
    norm: Norm
    head: Any
    ropes: list[ops.Rope]
    multiply_adds: int
    cache: KeyValueCache
    ones: Array
    padding: Array | None = None
    skipped: Array | None = None
    tables: dict = field(default_factory=dict)  # {(index of the rope, is_long): cos and sin of all positions}
    positions: Any = None  # of the tokens of this step: (1,) or (B,)
    rotations: list = field(default_factory=list)  # (cos, sin) of these positions, one per rope

    def step(self, tokens: Any) -> Array:
        """Read one token per sequence; returns the logits of the next one.

        tokens: (B,) integers, returns (B, V); or one integer, returns (V,). Raises DataError for token ids out of
        range, another number of sequences than before, or more tokens than the capacity of the cache.
        """
        token_ids = self._check_tokens(tokens)
        past = self.cache.length
        self.positions = np.array([past]) if self.skipped is None else past - self.skipped
        longest = past + 1 if self.skipped is None else int(self.positions.max()) + 1
        self.rotations = [self._rotation(index, longest) for index in range(len(self.ropes))]
        is_short = len(token_ids) > 1 and len(token_ids) * self.multiply_adds < SHARED_WORK
        with single_threaded_blas if is_short else nullcontext():
            x = self._embed(token_ids)  # (B, C)
            for layer, block in enumerate(self.blocks):
                x = block(x, layer, self)
            logits = self.head(self.norm(x))  # (B, V)
        self.cache.advance(1)
        if self.config.logit_softcap is not None:  # its divisor is part of the head
            logits = self.config.logit_softcap * np.tanh(logits)
        return logits if np.ndim(tokens) else logits[0]

    def _check_tokens(self, tokens):
        """The tokens of a step as an array (B,)."""
        token_ids, size = np.atleast_1d(tokens), self.config.vocab_size
        if token_ids.ndim != 1 or not token_ids.size or token_ids.dtype.kind not in "iu":
            raise DataError(f"tokens are {token_ids.dtype}{token_ids.shape}, expected one integer per sequence")
        found, stored = token_ids.tolist(), self.cache.keys.get(0)
        if min(found) < 0 or max(found) >= size:
            raise DataError(f"token ids must be 0 to {size - 1}, found {min(found)} to {max(found)}")
        if stored is not None and len(stored) != len(found):
            raise DataError(f"found {len(found)} tokens, expected one for each of the {len(stored)} sequences")
        self.cache.check_space(1)
        return token_ids

    @property
    def config(self) -> DecoderConfig:
        """The configuration of the model."""
        return self.model.config

    def continuing(self, cache: KeyValueCache, attention_mask: Array | None = None) -> "Engine":
        """An engine with the same weights that continues after the tokens of another cache.

        attention_mask: (B, capacity), 0 for the padding among these tokens, or None.
        """
        padding = skipped = None
        if attention_mask is not None:
            is_text = attention_mask != 0
            padding = mask_bias(is_text, self.ones.dtype)[:, None, None]
            skipped = np.sum(~is_text[:, : cache.length], axis=1)
        ones = np.ones(cache.capacity, self.ones.dtype)
        return replace(self, cache=cache, ones=ones, padding=padding, skipped=skipped, tables={})

    def num_bytes(self) -> int:
        """Bytes of the weights that the engine has beside those of the model, which `footprint` counts.

        Biases, gains and the cache are not counted.
        """
        of_model = {id(array) for array in named_arrays(self.model).values()}
        fused = named_modules([self.blocks, self.head], FusedLinear | FusedFactors).values()
        weights = [array for array in named_arrays(list(fused)).values() if array.ndim == 2]
        return sum(weight.nbytes for weight in weights if id(weight) not in of_model)

    def _embed(self, token_ids):
        """Vectors of the tokens: (B,) -> (B, C), in Fortran order."""
        embedding, config = self.model.embedding, self.model.config
        x = embedding.table[token_ids] if type(embedding) is Embedding else embedding(token_ids)
        x = np.asfortranarray(x)
        if config.embedding_scale != 1:
            x *= x.dtype.type(config.embedding_scale)
        if self.model.position_embedding is not None:
            x += self.model.position_embedding(self.positions)
        return x

    def _rotation(self, index, longest):
        """(cos, sin) of the positions of this step, as of `both_halves`. longest: tokens of the longest sequence."""
        rope = self.ropes[index]
        depends_on_length = rope.scaling in ("longrope", "dynamic")
        is_long = depends_on_length and longest > rope.original_length
        if is_long and rope.scaling == "dynamic":  # other frequencies at each length
            return both_halves(*ops.rotary_tables(rope, self.positions, longest))
        if (index, is_long) not in self.tables:
            count = self.cache.capacity
            if depends_on_length and not is_long:
                count = min(count, rope.original_length)
            positions = np.arange(count)
            self.tables[index, is_long] = both_halves(*ops.rotary_tables(rope, positions, longest))
        rows = slice(longest - 1, longest) if self.skipped is None else self.positions
        return [table[rows] for table in self.tables[index, is_long]]


def both_halves(cos, sin):
    """(positions, R/2) twice -> (positions, 1, 2, R/2) twice: for the pairs (i, i + R/2), the first sine negative."""
    return np.stack((cos, cos), axis=1)[:, None], np.stack((-sin, sin), axis=1)[:, None]
