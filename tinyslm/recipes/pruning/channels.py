"""Structured pruning of the residual stream applied to a model: a smaller hidden_size everywhere."""

from dataclasses import dataclass, replace

import numpy as np

from tinyslm.compression.argument_checks import require_ratio
from tinyslm.compression.pruning import most_important, slice_channels, slice_rms_norm
from tinyslm.models import shape_model
from tinyslm.modules import Attention, FeedForward, MixtureOfExperts, RMSNorm
from tinyslm.recipes.linear_layers import require_dense
from tinyslm.recipes.pruning.importance import (
    FOR_ALL_UNITS,
    gather_statistics,
    minitron_inputs,
    require_method,
)
from tinyslm.recipes.step import ignore_progress
from tinyslm.tree import map_arrays, map_modules, named_arrays, named_modules

CHANNEL_METHODS = ("minitron", *FOR_ALL_UNITS)


@dataclass(frozen=True)
class SliceChannels:
    """Keep the fraction `ratio` of the channels of the residual stream, the same in every layer.

    importance: "minitron" (what the norms give out, summed over layers), "magnitude", "taylor_vector",
    "taylor_element", "taylor_second" or "random".
    RMS norms are corrected, so that the result is the model with the other channels at 0; with norms of queries and
    keys, whose eps has the same place in a configuration, all but for eps. LayerNorm has no such correction: what is
    left is sliced as it is. Sizes of heads and of feed-forward layers stay.
    """

    ratio: float
    importance: str = "minitron"

    def __call__(self, model, calibration=None, progress=ignore_progress):
        require_ratio(self.ratio, "channels")
        require_method(self.importance, CHANNEL_METHODS)
        require_dense(model)
        count = max(1, round(self.ratio * model.config.hidden_size))
        keep = most_important(channel_scores(model, calibration, self.importance), count)
        return with_channels(model, keep)


def channel_scores(model, calibration, method):
    """(C,) importance of the channels of the residual stream."""
    if method == "minitron":
        readers = first_readers(model)
        return sum(minitron_inputs(model, calibration, readers).values())
    evidence = gather_statistics(model, calibration, method)
    return evidence.importance("", model, lambda tree: channel_parts(tree, channel_axes(model.config)))


def first_readers(model) -> list[str]:
    """One linear layer behind every norm of the blocks: what enters it is what the norm gives out."""
    found = [f"{path}.query" for path in named_modules(model, Attention)]
    mixtures = named_modules(model, MixtureOfExperts)
    found += [f"{path}.router" for path in mixtures]
    return found + [f"{path}.up" for path in named_modules(model, FeedForward) if ".experts." not in path]


def channel_axes(config) -> dict:
    """{path: axes along which an array has the channels}: those that grow with hidden_size."""
    small, large = (
        named_arrays(shape_model(replace(config, hidden_size=config.hidden_size + more))) for more in (0, 1)
    )
    return {
        path: tuple(np.flatnonzero(np.not_equal(array.shape, large[path].shape)).tolist())
        for path, array in small.items()
    }


def channel_parts(tree, axes):
    """All arrays that have channels, channels first; a square one twice."""
    arrays = named_arrays(tree)
    return [np.moveaxis(arrays[path], axis, 0) for path, along in axes.items() for axis in along]


def with_channels(model, keep):
    """The model with the channels `keep` only. keep: (k,) ascending indices."""
    config, axes = model.config, channel_axes(model.config)
    rms_gains = {f"{path}.weight" for path in named_modules(model, RMSNorm)}
    changes = {"hidden_size": int(keep.size)}
    if config.norm == "rms" and not getattr(config, "query_key_norm", False):
        changes["norm_eps"] = config.norm_eps * (config.hidden_size / keep.size)

    def slice_array(path, array):
        return array if path in rms_gains else slice_channels(array, axes[path], keep)

    def slice_norm(path, norm):
        if not axes[f"{path}.weight"]:  # of queries or keys
            return norm
        weight, _ = slice_rms_norm(norm.weight, norm.eps, keep, offset=norm.offset)
        return norm.replace(weight=weight, eps=changes.get("norm_eps", norm.eps))

    sliced = map_modules(slice_norm, map_arrays(slice_array, model), RMSNorm)
    return derive_scales(sliced.replace(config=replace(config, **changes)), config)


def derive_scales(model, before):
    """The same function with the factors that families derive from hidden_size, which checkpoints do not hold.

    The embedding of a Gemma is multiplied by sqrt(C), what a T5 leaves by 1 / sqrt(C). before: the configuration that
    had more channels. Where they now are different numbers, the table or the last gain makes up for it.
    """
    config = model.config
    root, wider = config.hidden_size**0.5, (before.hidden_size / config.hidden_size) ** 0.5
    if getattr(before, "embedding_scale", 1.0) == before.hidden_size**0.5:
        table = model.embedding.table * model.embedding.table.dtype.type(wider)
        model = model.replace(
            embedding=model.embedding.replace(table=table),
            norm=_times(model.norm, 1 / wider) if model.head is None else model.norm,
            config=replace(config, embedding_scale=root),
        )
    if getattr(before, "output_scale", 1.0) == before.hidden_size**-0.5:
        decoder = model.decoder.replace(norm=_times(model.decoder.norm, 1 / wider))
        model = model.replace(decoder=decoder, config=replace(config, output_scale=config.hidden_size**-0.5))
    return model


def _times(norm, factor):
    """The RMS norm that gives `factor` times as much."""
    factor = norm.weight.dtype.type(factor)
    return norm.replace(weight=norm.weight * factor + norm.weight.dtype.type(norm.offset) * (factor - 1))
