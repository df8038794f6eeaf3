"""SmoothQuant applied to a model (Xiao et al. 2023).

Mathematics: `tinyslm/compression/quantization/smoothquant.py`. Lesson: `lessons/09_quantization.py`.
"""

from dataclasses import dataclass

import numpy as np

from tinyslm.compression.quantization import column_maxima, smooth_gain, smooth_weight, smoothing_scales
from tinyslm.errors import ConfigError
from tinyslm.modules import (
    Attention,
    Block,
    CrossAttention,
    FeedForward,
    LayerNorm,
    Linear,
    ParallelBlock,
    RMSNorm,
)
from tinyslm.recipes.calibration import Calibration
from tinyslm.recipes.linear_layers import require_dense
from tinyslm.recipes.statistics import input_maxima
from tinyslm.recipes.step import Progress, ignore_progress
from tinyslm.tree import Module, map_modules, named_modules


@dataclass(frozen=True)
class Smooth:
    """SmoothQuant: divide the output of every norm by a scale per feature, and multiply the columns that read it.

    The model computes the same function, with fewer outliers in its activations. Use it before
    `Quantize(dynamic_activations=True)`. In post-norm models (BERT) the residual stream also reads the output of a
    norm, and in OLMo 2 only the residual stream does: only the inner pairs can be smoothed there.

    Parameters
    ----------
    alpha : float, default 0.5
        Migration strength, 0 to 1, see `smoothing_scales`.
    inner : bool, default False
        Also smooth between the value and output projections of attention, and between the up and down projections of a
        feed-forward layer where the input of down is proportional to the output of up.

    Raises
    ------
    ConfigError
        If `alpha` is out of range, a layer in the blocks is already compressed, or nothing can be smoothed.

    References
    ----------
    Xiao et al. 2023 (arXiv 2211.10438), section 4; Lin et al. 2024 (AWQ, arXiv 2306.00978) for the inner pairs.

    Examples
    --------
    >>> Smooth(alpha=0.75)
    Smooth(alpha=0.75, inner=False)
    """

    alpha: float = 0.5
    inner: bool = False

    def __call__(
        self, model: Module, calibration: Calibration | None = None, progress: Progress = ignore_progress
    ) -> Module:
        require_dense(model)
        readers = norm_readers(model)
        if not (readers or self.inner):
            raise ConfigError(
                f"no norm of a {model.config.family} model has only linear layers after it: use inner=True"
            )
        pairs = inner_pairs(model) if self.inner else []
        watched = {path for _, paths in readers for path in paths} | {consumer for _, consumer, _ in pairs}
        maxima = input_maxima(model, calibration.sample(), watched)
        modules = named_modules(model, Linear | RMSNorm | LayerNorm)
        for norm, paths in readers:
            largest = np.max([maxima[path] for path in paths], axis=0)  # (C,): an expert receives some tokens only
            scales = smoothing_scales(largest, column_maxima(*[modules[path].weight for path in paths]), self.alpha)
            modules[norm] = divided_norm(modules[norm], scales)
            modules |= {path: multiplied_columns(modules[path], scales) for path in paths}
        for producer, consumer, shape in pairs:
            columns = column_maxima(modules[consumer].weight)  # (columns of the consumer,)
            rows = (np.max(found.reshape(shape), axis=1).reshape(-1) for found in (maxima[consumer], columns))
            scales = smoothing_scales(*rows, self.alpha)  # (rows of the producer,)
            modules[producer] = divided_rows(modules[producer], scales)
            column_scales = np.broadcast_to(scales.reshape(shape[0], 1, shape[2]), shape).reshape(-1)
            modules[consumer] = multiplied_columns(modules[consumer], column_scales)
        return map_modules(lambda path, module: modules[path], model, Linear | RMSNorm | LayerNorm)


def norm_readers(model: Module) -> list[tuple[str, list[str]]]:
    """(path of a norm, paths of all linear layers that read it) for every norm that only linear layers read.

    These are the norms in the blocks, and the encoder's last norm if cross attention reads it. Routers are among the
    readers: their columns are scaled, and they are not quantized.
    """
    found, source_readers = [], []
    for path, block in named_modules(model, Block | ParallelBlock).items():
        attention = [f"{path}.attention.{name}" for name in ("query", "key", "value")]
        below = named_modules(block.feed_forward, Linear, f"{path}.feed_forward")
        feed_forward = [name for name in below if not name.endswith(".down")]
        if isinstance(block, ParallelBlock) and block.feed_forward_norm is None:
            attention, feed_forward = attention + feed_forward, []
        if block.attention_norm is not None:
            found.append((f"{path}.attention_norm", attention))
        if isinstance(block, Block) and block.cross_attention is not None:
            found.append((f"{path}.cross_attention_norm", [f"{path}.cross_attention.query"]))
            source_readers += [f"{path}.cross_attention.{name}" for name in ("key", "value")]
        if block.feed_forward_norm is not None:
            found.append((f"{path}.feed_forward_norm", feed_forward))
    return [*found, ("encoder.norm", source_readers)] if source_readers else found


def inner_pairs(model: Module) -> list[tuple[str, str, tuple[int, int, int]]]:
    """(path of the producer, path of the consumer, shape) of linear layers where the consumer's input is proportional
    to the producer's output.

    shape: (groups, times, size) of the consumer's columns. Columns that differ only in the middle index read the same
    row of the producer. In attention these are the query heads that share a key/value head.
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


def divided_norm(norm: RMSNorm | LayerNorm, scales: np.ndarray) -> RMSNorm | LayerNorm:
    """The norm with its output divided by the scales (C,)."""
    if isinstance(norm, RMSNorm):
        return norm.replace(weight=smooth_gain(norm.weight, scales, norm.offset))
    bias = None if norm.bias is None else smooth_gain(norm.bias, scales)
    return norm.replace(weight=smooth_gain(norm.weight, scales), bias=bias)


def divided_rows(linear: Linear, scales: np.ndarray) -> Linear:
    """The linear layer with its output divided by the scales (out,)."""
    bias = None if linear.bias is None else linear.bias / scales
    return linear.replace(weight=linear.weight / scales[:, None], bias=bias)


def multiplied_columns(linear: Linear, scales: np.ndarray) -> Linear:
    """The linear layer for input features divided by the scales (in,)."""
    return linear.replace(weight=smooth_weight(linear.weight, scales))
