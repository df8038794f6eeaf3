"""Smoothing applied to a model: outlier features are moved from activations into the weights that read them."""

from dataclasses import dataclass

import numpy as np

from tinyslm.compression.quantization import column_maxima, smooth_gain, smooth_weight, smoothing_scales
from tinyslm.errors import ConfigError
from tinyslm.modules import Attention, Block, CrossAttention, FeedForward, LayerNorm, Linear, RMSNorm
from tinyslm.recipes.linear_layers import require_dense
from tinyslm.recipes.statistics import input_maxima
from tinyslm.recipes.step import ignore_progress
from tinyslm.tree import map_modules, named_modules


@dataclass(frozen=True)
class Smooth:
    """Divide the output of every norm by a scale per feature, and multiply the columns that read it: the model computes
    the same, and rounds better. To be followed by `Quantize(dynamic_activations=True)`.

    alpha: how much moves from activations to weights, see `smoothing_scales`;  inner: the same between values and the
    output projection, and between up and down where what lies between them is proportional to up. Where norms stand
    after the addition (BERT), what they give is also added to what follows: only the inner pairs remain there.
    Source: Xiao et al. 2023 (SmoothQuant), section 4; the inner pairs as in Lin et al. 2024 (AWQ).
    """

    alpha: float = 0.5
    inner: bool = False

    def __call__(self, model, calibration=None, progress=ignore_progress):
        require_dense(model)
        readers = norm_readers(model)
        if not (readers or self.inner):
            raise ConfigError(f"no norm of a {model.config.family} model is read by linear layers only: use inner=True")
        pairs = inner_pairs(model) if self.inner else []
        watched = {path for _, paths in readers for path in paths} | {consumer for _, consumer, _ in pairs}
        maxima = input_maxima(model, calibration.sample(), watched)
        modules = named_modules(model, Linear | RMSNorm | LayerNorm)
        for norm, paths in readers:
            largest = np.max([maxima[path] for path in paths], axis=0)  # (C,): each expert sees some tokens only
            scales = smoothing_scales(largest, column_maxima(*[modules[path].weight for path in paths]), self.alpha)
            modules[norm] = divided_norm(modules[norm], scales)
            modules |= {path: multiplied_columns(modules[path], scales) for path in paths}
        for producer, consumer, (groups, times, size) in pairs:

            def shared(maxima, shape=(groups, times, size)):
                return np.max(maxima.reshape(shape), axis=1).reshape(-1)  # (rows of the producer,)

            columns = column_maxima(modules[consumer].weight)
            scales = smoothing_scales(shared(maxima[consumer]), shared(columns), self.alpha)
            modules[producer] = divided_rows(modules[producer], scales)
            spread = np.repeat(scales.reshape(groups, 1, size), times, axis=1).reshape(-1)  # (columns of the consumer,)
            modules[consumer] = multiplied_columns(modules[consumer], spread)
        return map_modules(lambda path, module: modules[path], model, Linear | RMSNorm | LayerNorm)


def norm_readers(model) -> list[tuple[str, list[str]]]:
    """(path of a norm, paths of all that read it) for every norm in the blocks that only linear layers read, and for
    the encoder's last one, which every cross attention reads. Routers are among the readers: they stay exact."""
    found, source_readers = [], []
    for path, block in named_modules(model, Block).items():
        found.append((f"{path}.attention_norm", [f"{path}.attention.{name}" for name in ("query", "key", "value")]))
        if block.cross_attention is not None:
            found.append((f"{path}.cross_attention_norm", [f"{path}.cross_attention.query"]))
            source_readers += [f"{path}.cross_attention.{name}" for name in ("key", "value")]
        below = named_modules(block.feed_forward, Linear, f"{path}.feed_forward")
        found.append((f"{path}.feed_forward_norm", [name for name in below if not name.endswith(".down")]))
    return [*found, ("encoder.norm", source_readers)] if source_readers else found


def inner_pairs(model) -> list[tuple[str, str, tuple[int, int, int]]]:
    """(path of a linear layer, path of the one that reads it through something proportional, shape).

    shape: of the reader's columns; those that differ in the middle axis only read the same row of the first layer. Of
    attention these are the query heads of one key/value head.
    """
    found = []
    for path, layer in named_modules(model, Attention | CrossAttention).items():
        groups = layer.value.out_features // layer.head_dim
        times = layer.output.in_features // layer.value.out_features
        found.append((f"{path}.value", f"{path}.output", (groups, times, layer.head_dim)))
    for path, layer in named_modules(model, FeedForward).items():
        if layer.gate is not None or layer.activation == "relu":
            found.append((f"{path}.up", f"{path}.down", (layer.up.out_features, 1, 1)))
    return found


def divided_norm(norm, scales):
    """The norm whose output is divided by the scales (C,)."""
    if isinstance(norm, RMSNorm):
        return norm.replace(weight=smooth_gain(norm.weight, scales, norm.offset))
    bias = None if norm.bias is None else smooth_gain(norm.bias, scales)
    return norm.replace(weight=smooth_gain(norm.weight, scales), bias=bias)


def divided_rows(linear, scales):
    """The linear layer whose output is divided by the scales (out,)."""
    bias = None if linear.bias is None else linear.bias / scales
    return linear.replace(weight=linear.weight / scales[:, None], bias=bias)


def multiplied_columns(linear, scales):
    """The linear layer that reads features divided by the scales (in,)."""
    return linear.replace(weight=smooth_weight(linear.weight, scales))
