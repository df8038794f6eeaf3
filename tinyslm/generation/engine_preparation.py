"""Preparation of an inference engine: fused matrices, folded factors, and the check of which models it knows.

The gain g and the bias b of a norm become part of the matrix that reads it: W (g * n + b) = (W * g) n + W b.
The steps that are prepared: `tinyslm/generation/engine.py`.
"""

import math
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

from tinyslm.compression.factorization import LowRankLinear
from tinyslm.errors import ConfigError
from tinyslm.generation.cache import KeyValueCache
from tinyslm.generation.engine import (
    AttentionStep,
    BlockStep,
    Engine,
    FeedForwardStep,
    MixtureStep,
)
from tinyslm.generation.engine_layers import FusedFactors, FusedLinear, Norm, SeparateLayers, TiedHead
from tinyslm.models import Decoder
from tinyslm.modules import (
    Attention,
    Block,
    Embedding,
    FeedForward,
    LayerNorm,
    Linear,
    LinearLayer,
    MixtureOfExperts,
    ParallelBlock,
    RMSNorm,
)
from tinyslm.tree import Module, named_modules

COPIED_BYTES = 2**27  # of fused weights: of a larger model, the layers are called as they are
CAPACITY = 4096  # tokens of the cache, if none is given
KNOWN = (Attention, Block, FeedForward, LayerNorm, LinearLayer, MixtureOfExperts, ParallelBlock, RMSNorm)


def reason_against(model: Any) -> str | None:
    """Why a model has no engine, or None if it has one."""
    if not isinstance(model, Decoder):
        return f"{type(model).__name__} is not a decoder"
    for path, module in named_modules(model.layers).items():
        if not isinstance(module, KNOWN):
            return f"layers.{path} is of class {type(module).__name__}, which an engine does not know"
    return None


def prepare(model: Module, *, capacity: int | None = None, upcast: bool = False) -> Engine:
    """Prepare a decoder for fast token steps.

    Parameters
    ----------
    model : Decoder
        Dense or compressed. The engine shares some of its arrays and copies others.
        After a change of the model, prepare a new engine.
    capacity
        Tokens that it can read, at most those of the model's context. By default these, at most 4096.
    upcast
        Whether compressed layers are replaced by floating-point copies of their weights. Then a small compressed model
        is as fast as the dense one, and needs its memory too. Layers that round their inputs are not replaced.

    Returns
    -------
    Engine
        `engine.step(token)` returns the logits of the next token.

    Raises
    ------
    ConfigError
        If `reason_against(model)` has a reason, or for a capacity below 1 or above the context.

    Examples
    --------
    >>> from tinyslm.models import random_model
    >>> from tinyslm.models.tiny_shapes import llama_shape
    >>> model = random_model(llama_shape(31, 16, 20, 3, 4, 2))
    >>> engine = prepare(model)
    >>> for token in (3, 1, 4):
    ...     logits = engine.step(token)
    >>> np.allclose(logits, model([[3, 1, 4]])[0, -1], atol=1e-6)
    True
    """
    reason = reason_against(model)
    if reason is not None:
        raise ConfigError(f"this model has no engine: {reason}")
    longest = model.config.max_position_embeddings
    if capacity is not None and not 1 <= capacity <= longest:
        raise ConfigError(f"capacity is {capacity}, expected at least 1 token and at most {longest}, as the model")
    cache = KeyValueCache(capacity or min(CAPACITY, longest))
    return Preparation(model, upcast).engine(cache)


class Preparation:
    """The prepared parts of one model."""

    def __init__(self, model, upcast):
        self.model, self.upcast, self.copies = model, upcast, True
        self.ropes = list({block.attention.rope for block in model.layers} - {None})
        layers = [*named_modules(model.layers, LinearLayer).values(), self.head()]
        sizes = [math.prod(shape) for layer in layers if self.is_folded(layer) for shape in layer.shapes()]
        self.copies = upcast or 4 * sum(sizes) <= COPIED_BYTES
        self.multiply_adds = sum(layer.multiply_adds() for layer in named_modules(model, LinearLayer).values())

    def engine(self, cache):
        """The engine before its first token."""
        config = self.model.config
        norm, fuse = self.norm(self.model.norm, [self.head()])
        head = fuse([self.head()], [1 / config.logits_scaling / (config.logit_softcap or 1)])
        blocks = [self.block(block) for block in self.model.layers]
        ones = np.ones(cache.capacity, self.model.norm.weight.dtype)
        return Engine(self.model, blocks, norm, head, self.ropes, self.multiply_adds, cache, ones)

    def head(self):
        """The output layer. A tied one is the embedding table."""
        embedding = self.model.embedding
        if self.model.head is not None:
            return self.model.head
        return Linear(embedding.dense_weight()) if self.upcast or type(embedding) is Embedding else TiedHead(embedding)

    def block(self, block):
        """A `Block` or a `ParallelBlock`."""
        attention, feed_forward, parallel = block.attention, block.feed_forward, isinstance(block, ParallelBlock)
        output_norms = (None, None) if parallel else (block.attention_output_norm, block.feed_forward_output_norm)
        residual = 1.0 if parallel else block.residual_multiplier
        scales = [1.0 if norm is not None else residual for norm in output_norms]  # a norm removes other factors
        projections, reading = [attention.query, attention.key, attention.value], first_layers(feed_forward)
        shared = parallel and block.feed_forward_norm is None  # both sublayers read the same norm
        attention_norm, fuse = self.norm(block.attention_norm, projections + reading * shared)
        attention = self.attention(attention, fuse, scales[0])
        feed_forward_norm = None
        if not shared:
            feed_forward_norm, fuse = self.norm(block.feed_forward_norm, reading)
        feed_forward = self.feed_forward(feed_forward, fuse, scales[1])
        output_norms = [None if norm is None else whole_norm(norm, residual) for norm in output_norms]
        return BlockStep(
            attention_norm, attention, output_norms[0], feed_forward_norm, feed_forward, output_norms[1], parallel
        )

    def attention(self, attention, fuse, factor):
        """fuse: of the norm before it;  factor: of its outputs."""
        D, query_norm, key_norm = attention.head_dim, attention.query_norm, attention.key_norm
        scale = attention.scale / (attention.softcap or 1)
        project = fuse(
            [attention.query, attention.key, attention.value], [scale if query_norm is None else 1.0, 1.0, 1.0]
        )
        return AttentionStep(
            project,
            self.fuse([attention.output], [factor]),
            (attention.query.out_features // D, attention.key.out_features // D, D),
            attention,
            -1 if attention.rope is None else self.ropes.index(attention.rope),
            None if query_norm is None else whole_norm(query_norm, scale),
            None if key_norm is None else whole_norm(key_norm),
        )

    def feed_forward(self, layer, fuse, factor):
        """A feed-forward layer or a mixture. fuse: of the norm before it;  factor: of its outputs."""
        if isinstance(layer, MixtureOfExperts):
            experts = [self.feed_forward(expert, fuse, factor) for expert in layer.experts]
            return MixtureStep(fuse([layer.router]), experts, layer)
        half = 0.5 if layer.activation == "silu" else 1.0  # `activate` computes silu(2 x)
        factors = [half] if layer.gate is None else [half, 1.0]
        return FeedForwardStep(fuse(first_layers(layer), factors), self.fuse([layer.down], [factor]), layer)

    def norm(self, norm, layers):
        """(the norm, the function that fuses layers which read it). The gain is folded if all `layers` are matrices."""
        if norm is None:
            return None, self.fuse
        whole = whole_norm(norm)
        if not all(map(self.is_folded, layers)):
            return whole, self.fuse
        return replace(whole, gain=None, bias=None), partial(self.fuse, gain=whole.gain, norm_bias=whole.bias)

    def is_folded(self, layer):
        """Whether the factors and the gain of a norm can become part of the layer, in a copy of its matrices."""
        if not self.copies or isinstance(layer, TiedHead) or layer.rounds_inputs():
            return False
        return self.upcast or layer.is_dense or isinstance(layer, LowRankLinear)

    def fuse(self, layers, factors=(1.0,), gain=None, norm_bias=None):
        """Layers with the same input as one. factors: of their outputs;  gain, norm_bias: of the norm before them."""
        if not all(map(self.is_folded, layers)):
            return SeparateLayers(layers, list(factors))
        are_low_rank = [isinstance(layer, LowRankLinear) for layer in layers]
        if any(are_low_rank) and not all(are_low_rank):
            pairs = zip(layers, factors, strict=True)
            fused = [self.fuse([layer], [factor], gain, norm_bias) for layer, factor in pairs]
            return SeparateLayers(fused, [1.0] * len(fused))
        bias = _joint_bias(layers, factors, norm_bias)
        if all(are_low_rank):
            right = np.concatenate([_scaled(layer.right, 1.0, gain) for layer in layers])
            left = [_scaled(layer.left, factor) for layer, factor in zip(layers, factors, strict=True)]
            return FusedFactors(right, left, bias)
        weights = [_scaled(layer.dense_weight(), factor, gain) for layer, factor in zip(layers, factors, strict=True)]
        return FusedLinear(weights[0] if len(weights) == 1 else np.concatenate(weights), bias)


def _scaled(matrix, factor, gain=None):
    """factor * matrix * gain, in the dtype of the matrix; the matrix itself if there is nothing to multiply by."""
    matrix = matrix if gain is None else matrix * gain  # (out, in)
    return matrix if factor == 1 else matrix * matrix.dtype.type(factor)


def _joint_bias(layers, factors, norm_bias):
    """The biases of the layers side by side, with W b for the bias b of the norm before them; None if all are 0."""
    biases = []
    for layer, factor in zip(layers, factors, strict=True):
        bias = np.zeros(layer.out_features, np.float32) if layer.bias is None else layer.bias
        if norm_bias is not None:
            bias = bias + layer.dense_weight() @ norm_bias
        biases.append(bias * bias.dtype.type(factor))
    joint = np.concatenate(biases)
    return joint if joint.any() else None


def first_layers(feed_forward):
    """The layers that read the input of a feed-forward layer or a mixture: gate and up; the router too."""
    if isinstance(feed_forward, MixtureOfExperts):
        return [feed_forward.router, *(layer for expert in feed_forward.experts for layer in first_layers(expert))]
    return [feed_forward.up] if feed_forward.gate is None else [feed_forward.gate, feed_forward.up]


def whole_norm(norm, factor=1.0):
    """An `RMSNorm` or a `LayerNorm` with its gain and bias. factor: of its outputs."""
    centred = isinstance(norm, LayerNorm)
    gain = norm.weight if centred else norm.weight + norm.weight.dtype.type(norm.offset)
    bias = norm.bias if centred else None
    dtype = gain.dtype.type
    return Norm(float(norm.eps), centred, gain * dtype(factor), None if bias is None else bias * dtype(factor))
