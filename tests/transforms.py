"""Functions model -> model that change the arrays and not what the model computes.

A technique is fair if it does the same to a model and to its transform. Those of the residual stream need blocks that
normalize before they read (`Block`, `ParallelBlock`); of encoders that normalize after each addition only heads and
neurons can move.
"""

from dataclasses import replace

import numpy as np

from tinyslm.errors import ConfigError
from tinyslm.models import Decoder
from tinyslm.modules import (
    Attention,
    Block,
    CrossAttention,
    FeedForward,
    Linear,
    LinearLayer,
    ParallelBlock,
    RelativePositions,
)
from tinyslm.tree import map_arrays, map_modules, named_modules

READERS = {  # the norm of a block, and what reads its outputs
    "attention_norm": ("attention.query", "attention.key", "attention.value"),
    "cross_attention_norm": ("cross_attention.query",),
    "feed_forward_norm": ("up", "gate", "router"),
}


def read_norms(block):
    """{name of a norm of the block: what reads its outputs}."""
    found = {name: readers for name, readers in READERS.items() if getattr(block, name, None) is not None}
    if isinstance(block, ParallelBlock) and block.feed_forward_norm is None:
        found["attention_norm"] += READERS["feed_forward_norm"]
    return found


def permute_neurons(model, rng):
    """The neurons of every feed-forward layer in another order."""

    def permute(path, layer):
        order = rng.permutation(layer.up.out_features)
        gate = layer.gate and take_outputs(layer.gate, order)
        return layer.replace(up=take_outputs(layer.up, order), down=take_inputs(layer.down, order), gate=gate)

    return map_modules(permute, model, FeedForward)


def permute_heads(model, rng):
    """The key/value groups in another order, and the query heads of each group; the same in every layer, since those of
    a stack may share a table of relative positions."""
    config = model.config
    G, D = config.num_key_value_heads, config.head_dim
    r = config.num_attention_heads // G
    groups = rng.permutation(G)
    heads = np.concatenate([group * r + rng.permutation(r) for group in groups])
    by_head, by_group = ((order[:, None] * D + np.arange(D)).reshape(-1) for order in (heads, groups))

    def permute(path, layer):
        if isinstance(layer, RelativePositions):
            return layer.replace(table=layer.table[:, heads])
        return layer.replace(
            query=take_outputs(layer.query, by_head),
            key=take_outputs(layer.key, by_group),
            value=take_outputs(layer.value, by_group),
            output=take_inputs(layer.output, by_head),
            **joint_norms(layer),
        )

    def joint_norms(layer):
        if not getattr(layer, "joint_norms", False):
            return {}
        return {
            "query_norm": take_features(layer.query_norm, by_head),
            "key_norm": take_features(layer.key_norm, by_group),
        }

    return map_modules(permute, model, Attention | CrossAttention | RelativePositions)


def rescale_neurons(model, rng):
    """up_i * c, down_:i / c, where that passes through the activation: behind a gate, or relu with c > 0."""

    def rescale(path, layer):
        if layer.gate is None and layer.activation != "relu":
            return layer
        c = positive(rng, layer.up.out_features)
        return layer.replace(up=scale_outputs(layer.up, c), down=scale_inputs(layer.down, 1 / c))

    return map_modules(rescale, model, FeedForward)


def rescale_values(model, rng):
    """Every dimension of a value head times c, the columns of output that read it through c."""

    def rescale(path, layer):
        c = positive(rng, layer.value.out_features).reshape(-1, layer.head_dim)  # (G, D)
        heads = np.repeat(c, layer.query.out_features // layer.key.out_features, axis=0)  # (H, D)
        value = scale_outputs(layer.value, c.reshape(-1))
        return layer.replace(value=value, output=scale_inputs(layer.output, 1 / heads.reshape(-1)))

    return map_modules(rescale, model, Attention | CrossAttention)


def rescale_queries(model, rng):
    """A key head times c, the query heads of its group through c, where no norm undoes it. One c for all dimensions of
    a head, since rotary positions mix them."""

    def rescale(path, layer):
        if getattr(layer, "query_norm", None) is not None:
            return layer
        D = layer.head_dim
        c = positive(rng, layer.key.out_features // D)  # (G,)
        heads = np.repeat(c, layer.query.out_features // layer.key.out_features)  # (H,)
        key = scale_outputs(layer.key, np.repeat(c, D))
        return layer.replace(key=key, query=scale_outputs(layer.query, np.repeat(1 / heads, D)))

    return map_modules(rescale, model, Attention | CrossAttention)


def scale_features(model, factors):
    """What the norms of the blocks give out times c, the columns of the weights that read it through c.

    factors(gain (C,)) -> c (C,), asked for every norm before a projection. Exact for both norms, with any offset.
    Raises ConfigError for a model without such norms.
    """
    if not named_modules(model, Block | ParallelBlock):
        raise ConfigError(f"the norms of a {model.config.family} model also feed the residual stream")

    def scale_block(path, block):
        for norm_name, readers in read_norms(block).items():
            norm = getattr(block, norm_name)
            c = np.asarray(factors(gain_of(norm)))

            def divide(path, linear, c=c, readers=readers):
                return scale_inputs(linear, 1 / c) if reads(path, readers) else linear

            block = map_modules(divide, block.replace(**{norm_name: scale_norm(norm, c)}), LinearLayer)
        return block

    return map_modules(scale_block, model, Block | ParallelBlock)


def reads(path, readers):
    """Whether this linear layer of a block is one of them: attention.query is not cross_attention.query."""
    return path in readers or path.rpartition(".")[2] in readers


def inject_outliers(model, channels, factor):
    """The same function with outliers: feature `channels` times factor behind every norm of the blocks, the weights
    that read them through factor. It undoes what SmoothQuant does (Xiao et al. 2023, eq. 4), as large models come."""

    def factors(gain):
        c = np.ones_like(gain)
        c[np.asarray(channels)] = factor
        return c

    return scale_features(model, factors)


def fold_gains(model):
    """All gains of the blocks 1, and that of the last norm too where a decoder has a head of its own."""
    model = scale_features(model, lambda gain: 1 / gain)
    if isinstance(model, Decoder) and model.head is not None:
        c = 1 / gain_of(model.norm)
        model = model.replace(norm=scale_norm(model.norm, c), head=scale_inputs(model.head, 1 / c))
    return model


def unfold_gains(model, rng):
    """The inverse: other gains, and weights that make up for them."""
    return scale_features(model, lambda gain: positive(rng, gain.size).astype(gain.dtype))


def untie(model):
    """A decoder with a head of its own, which holds the same numbers as the embedding."""
    if model.head is not None:
        return model
    head = Linear(model.embedding.table.copy())
    return model.replace(head=head, config=replace(model.config, tie_word_embeddings=False))


def rotate(model, rng):
    """The residual stream of a decoder in another orthonormal basis, after untying and folding all gains.

    Needs RMS norms that stand before what reads (no `sublayer_output_norm`, no block without `pre_norm`): LayerNorm
    subtracts a mean, which rotations change.
    Source: Ashkboos et al. 2024 (SliceGPT), section 3.
    """
    if model.config.norm != "rms" or model.config.sublayer_output_norm or not model.config.pre_norm:
        raise ConfigError("only a residual stream that nothing but RMS norms read can be rotated")
    model = fold_gains(untie(model))
    Q = np.linalg.qr(rng.standard_normal((model.config.hidden_size,) * 2))[0].astype(model.embedding.table.dtype)

    def turn(path, linear):
        if path.endswith(("output", "down")):
            return linear.replace(weight=Q.T @ linear.weight, bias=None if linear.bias is None else linear.bias @ Q)
        return linear.replace(weight=linear.weight @ Q)

    model = map_modules(turn, model, Linear)
    model = model.replace(embedding=model.embedding.replace(table=model.embedding.table @ Q))
    if model.position_embedding is not None:
        table = model.position_embedding.table @ Q
        model = model.replace(position_embedding=model.position_embedding.replace(table=table))
    return model


def positive(rng, size):
    """Factors from 1/4 to 4."""
    return 4.0 ** rng.uniform(-1, 1, size)


def gain_of(norm):
    """What a norm multiplies by."""
    return norm.weight + getattr(norm, "offset", 0.0)


def scale_norm(norm, c):
    """The norm whose outputs are c times as large."""
    weight = (gain_of(norm) * c - getattr(norm, "offset", 0.0)).astype(norm.weight.dtype)
    bias = getattr(norm, "bias", None)
    return (
        norm.replace(weight=weight) if bias is None else norm.replace(weight=weight, bias=bias * c.astype(bias.dtype))
    )


def take_features(norm, order):
    """These features of a norm."""
    return map_arrays(lambda path, array: array[order], norm)


def scale_outputs(linear, c):
    """The linear layer whose outputs are c times as large."""
    c = c.astype(linear.weight.dtype)
    return linear.replace(weight=linear.weight * c[:, None], bias=None if linear.bias is None else linear.bias * c)


def scale_inputs(linear, c):
    """The linear layer that multiplies its inputs by c first."""
    return linear.replace(weight=linear.weight * c.astype(linear.weight.dtype))


def take_outputs(linear, order):
    """These outputs of a linear layer."""
    return linear.replace(weight=linear.weight[order], bias=None if linear.bias is None else linear.bias[order])


def take_inputs(linear, order):
    """The linear layer for these of its inputs."""
    return linear.replace(weight=linear.weight[:, order])
