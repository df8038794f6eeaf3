"""Structured pruning of the residual stream: a smaller hidden_size in all layers.

Mathematics: `tinyslm/compression/pruning/channels.py`. Lesson: `lessons/08_pruning_structure.py`.
"""

from dataclasses import dataclass, replace

import numpy as np

from tinyslm.compression.argument_checks import require_choice
from tinyslm.compression.pruning import most_important, slice_channels, slice_rms_norm
from tinyslm.models import shape_model
from tinyslm.models.width_scales import width_scales
from tinyslm.modules import Attention, FeedForward, LinearLayer, MixtureOfExperts, ParallelBlock, RMSNorm
from tinyslm.recipes.calibration import Calibration
from tinyslm.recipes.linear_layers import require_dense
from tinyslm.recipes.pruning.importance import CHANNEL_METHODS, count_to_keep, minitron_inputs, unit_importance
from tinyslm.recipes.step import Progress, ignore_progress
from tinyslm.tree import Module, map_arrays, map_modules, named_arrays, named_modules


@dataclass(frozen=True)
class SliceChannels:
    """Remove the least important channels of the residual stream, the same in all layers.

    RMS norms are corrected (`slice_rms_norm`), so that the result equals the model with the removed channels set to 0.
    With query and key norms, which share eps in the configuration, eps is not corrected. LayerNorm has no such
    correction: its gain and bias are sliced. Head size and `intermediate_size` do not change.

    Parameters
    ----------
    ratio : float
        Fraction of the channels kept, above 0 and up to 1; at least one is kept.
    importance : str
        Method, default "minitron" (outputs of the norms, summed over layers): "minitron", "magnitude",
        "taylor_vector", "taylor_element", "taylor_second" or "random" (see `tinyslm.recipes.pruning.importance`).

    Raises
    ------
    ConfigError
        When applied: for an invalid ratio or method, or if a layer is already compressed.

    References
    ----------
    Muralidharan et al. 2024 (Minitron, arXiv 2407.14679).

    Examples
    --------
    >>> SliceChannels(ratio=0.75)
    SliceChannels(ratio=0.75, importance='minitron')
    """

    ratio: float
    importance: str = "minitron"

    def __call__(
        self, model: Module, calibration: Calibration | None = None, progress: Progress = ignore_progress
    ) -> Module:
        count = count_to_keep(self.ratio, model.config.hidden_size, "channels")
        require_choice("importance", self.importance, CHANNEL_METHODS)
        require_dense(model)
        keep = most_important(channel_scores(model, calibration, self.importance), count)
        return with_channels(model, keep)


def channel_scores(model, calibration, method):
    """(C,) importance of the channels of the residual stream."""
    if method == "minitron":
        return sum(minitron_inputs(model, calibration, {path: path for path in first_readers(model)}).values())
    axes = channel_axes(model.config)
    return unit_importance(model, calibration, method, {"": model}, lambda tree: channel_parts(tree, axes))[""]


def first_readers(model) -> list[str]:
    """Paths of linear layers, one for each norm of the sublayer inputs: its input is the output of the norm.

    In a model without these norms (OLMo 2), the inputs are the residual stream itself.
    """
    readers = {f"{path}.query" for path in named_modules(model, Attention)}
    readers |= {f"{path}.router" for path in named_modules(model, MixtureOfExperts)}
    readers |= {f"{path}.up" for path in named_modules(model, FeedForward) if ".experts." not in path}
    for path, block in named_modules(model, ParallelBlock).items():
        if block.feed_forward_norm is None:  # it reads the output of the norm of the attention
            readers -= {f"{path}.feed_forward.up", f"{path}.feed_forward.router"}
    return [path for path in named_modules(model, LinearLayer) if path in readers]  # in the order of computation


def channel_axes(config) -> dict:
    """{path: axes along which an array has the channels}: the axes that grow with hidden_size."""
    small, large = (
        named_arrays(shape_model(replace(config, hidden_size=config.hidden_size + more))) for more in (0, 1)
    )
    return {
        path: tuple(np.flatnonzero(np.not_equal(array.shape, large[path].shape)).tolist())
        for path, array in small.items()
    }


def channel_parts(tree, axes):
    """All arrays that have channels, channels first; an array with channels along two axes occurs twice."""
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
        if not axes[f"{path}.weight"]:  # a norm of queries or keys
            return norm
        weight, _ = slice_rms_norm(norm.weight, norm.eps, keep, offset=norm.offset)
        return norm.replace(weight=weight, eps=changes.get("norm_eps", norm.eps))

    sliced = map_modules(slice_norm, map_arrays(slice_array, model), RMSNorm)
    return derive_scales(sliced.replace(config=replace(config, **changes)), config)


def derive_scales(model, before):
    """The same function, with the scales that some families derive from hidden_size and do not store in checkpoints.

    A Gemma multiplies its embedding by sqrt(C), a T5 its final hidden states by 1 / sqrt(C). The new C changes these
    numbers; the embedding table or the gain of the last norm compensates.  before: the configuration before slicing.
    """
    scales = width_scales(before, model.config.hidden_size)
    config, wider = replace(model.config, **scales), (before.hidden_size / model.config.hidden_size) ** 0.5
    if "embedding_scale" in scales:
        table = model.embedding.table * model.embedding.table.dtype.type(wider)
        model = model.replace(
            embedding=model.embedding.replace(table=table),
            norm=_scaled(model.norm, 1 / wider) if model.head is None else model.norm,
        )
    if "output_scale" in scales:
        model = model.replace(decoder=model.decoder.replace(norm=_scaled(model.decoder.norm, 1 / wider)))
    return model.replace(config=config)


def _scaled(norm, factor):
    """The RMS norm with its outputs multiplied by a factor."""
    factor = norm.weight.dtype.type(factor)
    return norm.replace(weight=norm.weight * factor + norm.weight.dtype.type(norm.offset) * (factor - 1))
