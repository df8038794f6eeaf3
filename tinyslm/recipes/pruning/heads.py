"""Structured pruning of attention: query heads, or key/value heads with their query heads.

Mathematics: `tinyslm/compression/pruning/heads.py`. Lesson: `lessons/08_pruning_structure.py`.
"""

from dataclasses import dataclass, replace

from tinyslm.compression.argument_checks import require_choice
from tinyslm.compression.pruning import (
    group_importance,
    most_important,
    most_important_heads,
    slice_groups,
    slice_heads,
)
from tinyslm.compression.pruning.heads import by_head, head_features, head_norms
from tinyslm.compression.pruning.importance import minitron_square
from tinyslm.modules import Attention, CrossAttention, RelativePositions
from tinyslm.recipes.calibration import Calibration
from tinyslm.recipes.linear_layers import require_dense
from tinyslm.recipes.pruning.importance import HEAD_METHODS, count_to_keep, minitron_inputs, unit_importance
from tinyslm.recipes.step import Progress, ignore_progress
from tinyslm.tree import Module, map_arrays, map_modules, named_arrays, named_modules

ATTENTION = Attention | CrossAttention


@dataclass(frozen=True)
class SliceHeads:
    """Remove the least important query heads of each key/value head. Each key/value head keeps the same number.

    Head size, scale and positions do not change. A norm over all heads together (OLMo 2) then covers the kept heads.

    Parameters
    ----------
    ratio : float
        Fraction of the query heads kept per key/value head, above 0 and up to 1; at least one is kept.
    importance : str
        Method, default "minitron": "minitron", "magnitude", "taylor_vector", "taylor_element", "taylor_second" or
        "random" (see `tinyslm.recipes.pruning.importance`).

    Raises
    ------
    ConfigError
        When applied: for an invalid ratio or method, if a layer is already compressed, or if a ratio below 1 removes no
        head. If each query head has its own key/value head, use `SliceGroups`.

    References
    ----------
    Muralidharan et al. 2024 (Minitron, arXiv 2407.14679). For "minitron", `head_importance` states the difference from
    NVIDIA Model Optimizer.

    Examples
    --------
    >>> SliceHeads(ratio=0.5)
    SliceHeads(ratio=0.5, importance='minitron')
    """

    ratio: float
    importance: str = "minitron"

    def __call__(
        self, model: Module, calibration: Calibration | None = None, progress: Progress = ignore_progress
    ) -> Module:
        H, G, D = attention_sizes(self, model)
        count = count_to_keep(self.ratio, H // G, "query heads per key/value head", "SliceGroups removes whole groups")
        importance = head_scores(model, calibration, self.importance, head_parts(D))

        def slice_layer(path, layer):
            keep = most_important_heads(importance[path], G, count)
            query, output = slice_heads(layer.query, layer.output, keep, groups=G, head_dim=D)
            layer = layer.replace(query=query, output=output)
            return with_joint_norms(layer, query_norm=head_features(keep, D))

        sliced = map_modules(slice_layer, model, ATTENTION)
        return sliced.replace(config=replace(model.config, num_attention_heads=count * G))


@dataclass(frozen=True)
class SliceGroups:
    """Remove the least important key/value heads of each layer, with their query heads.

    Layers that share a table of relative positions keep the same heads, by the sum of their importance.

    Parameters
    ----------
    ratio : float
        Fraction of the key/value heads kept in each layer, above 0 and up to 1; at least one is kept.
    importance : str
        Method for the whole group, default "minitron" (the sum over its query heads), as for `SliceHeads`.

    Raises
    ------
    ConfigError
        When applied: for an invalid ratio or method, if a layer is already compressed, or if a ratio below 1 removes no
        head. In multi-query attention there is only one key/value head: use `SliceHeads`.

    References
    ----------
    Muralidharan et al. 2024 (Minitron, arXiv 2407.14679), as for `SliceHeads`.

    Examples
    --------
    >>> SliceGroups(ratio=0.5, importance="magnitude")
    SliceGroups(ratio=0.5, importance='magnitude')
    """

    ratio: float
    importance: str = "minitron"

    def __call__(
        self, model: Module, calibration: Calibration | None = None, progress: Progress = ignore_progress
    ) -> Module:
        H, G, D = attention_sizes(self, model)
        count = count_to_keep(self.ratio, G, "key/value heads", "SliceHeads removes query heads within groups")
        scores = head_scores(model, calibration, self.importance, group_parts(H // G * D, D))
        if self.importance == "minitron":
            scores = {path: group_importance(of_heads, G) for path, of_heads in scores.items()}
        keep = {path: most_important(each, count) for path, each in shared_by_stacks(model, scores).items()}

        def slice_layer(path, layer):
            if isinstance(layer, RelativePositions):  # one column per head, for all layers of a stack
                return layer.replace(table=layer.table[:, keep[_first_attention(path)]])
            arrays = (layer.query, layer.key, layer.value, layer.output)
            query, key, value, output = slice_groups(*arrays, keep[path], head_dim=D)
            layer = layer.replace(query=query, key=key, value=value, output=output)
            features = {"query_norm": head_features(keep[path], H // G * D), "key_norm": head_features(keep[path], D)}
            return with_joint_norms(layer, **features)

        sliced = map_modules(slice_layer, model, ATTENTION | RelativePositions)
        changes = {"num_attention_heads": H // G * count}
        if "num_key_value_heads" in vars(model.config):  # otherwise it equals the number of query heads
            changes["num_key_value_heads"] = count
        return sliced.replace(config=replace(model.config, **changes))


def with_joint_norms(layer, **features):
    """The attention layer with norms over the given features, if its norms are over all heads together.

    features: {name of the norm: ascending indices of the features that it keeps}.
    """
    if not getattr(layer, "joint_norms", False):
        return layer

    def sliced(norm, keep):
        return map_arrays(lambda path, array: array[keep], norm)

    return layer.replace(**{name: sliced(getattr(layer, name), keep) for name, keep in features.items()})


def attention_sizes(step, model) -> tuple[int, int, int]:
    """Query heads H, key/value heads G, head size D. ConfigError for an unknown method or compressed layers."""
    require_choice("importance", step.importance, HEAD_METHODS)
    require_dense(model)
    return model.config.num_attention_heads, model.config.num_key_value_heads, model.config.head_dim


def head_scores(model, calibration, method, parts) -> dict:
    """{path of an attention layer: importance of its units}: of query heads (H,) by "minitron", otherwise of `parts`.

    parts: `head_parts` (query heads) or `group_parts` (groups).
    """
    layers = named_modules(model, ATTENTION)
    if method != "minitron":
        return unit_importance(model, calibration, method, layers, parts)
    outputs = {path: f"{path}.output" for path in layers}
    D = model.config.head_dim
    return minitron_inputs(model, calibration, outputs, lambda rows: minitron_square(head_norms(rows, D)))


def shared_by_stacks(model, scores) -> dict:
    """The scores; layers that share relative positions all get the sum of their scores."""
    for stack in named_modules(model, RelativePositions):
        prefix, _, suffix = _first_attention(stack).partition("layers.0.")
        paths = [path for path in scores if path.startswith(f"{prefix}layers.") and path.endswith(f".{suffix}")]
        scores = scores | dict.fromkeys(paths, sum(scores[path] for path in paths))
    return scores


def _first_attention(relative_positions):
    """Path of the first attention layer of the stack with these relative positions."""
    return relative_positions.removesuffix("relative_positions") + "layers.0.attention"


def head_parts(head_dim):
    """A function of an attention layer: the coupled arrays of its query heads, heads first."""
    return lambda layer: by_head([*_rows(layer, "query"), layer.output.weight.T], head_dim)


def group_parts(query_rows, head_dim):
    """A function of an attention layer: the coupled arrays of its groups, groups first. query_rows: of one group."""
    queries = head_parts(query_rows)
    return lambda layer: queries(layer) + by_head(_rows(layer, "key") + _rows(layer, "value"), head_dim)


def _rows(layer, name):
    """The arrays with one row per output of a projection: its weight and bias, and the norm over all its outputs."""
    norm = getattr(layer, f"{name}_norm", None) if getattr(layer, "joint_norms", False) else None
    modules = [getattr(layer, name)] + ([] if norm is None else [norm])
    return [array for module in modules for array in named_arrays(module).values()]
