"""Structured pruning of attention applied to a model: fewer query heads, or fewer key/value heads."""

from dataclasses import dataclass, replace

from tinyslm.compression.pruning import (
    group_importance,
    most_important,
    most_important_heads,
    slice_groups,
    slice_heads,
)
from tinyslm.compression.pruning.heads import by_head
from tinyslm.modules import Attention, CrossAttention, RelativePositions
from tinyslm.recipes.linear_layers import require_dense
from tinyslm.recipes.pruning.importance import (
    FOR_ALL_UNITS,
    count_to_keep,
    gather_statistics,
    minitron_heads,
    require_method,
)
from tinyslm.recipes.step import ignore_progress
from tinyslm.tree import map_modules, named_modules

HEAD_METHODS = ("minitron", *FOR_ALL_UNITS)
ATTENTION = Attention | CrossAttention


@dataclass(frozen=True)
class SliceHeads:
    """Keep the fraction `ratio` of the query heads that share each key/value head: as many of every group.

    importance: "minitron" (the norm of what a head gives out), "magnitude", "taylor_vector", "taylor_element",
    "taylor_second" or "random". Head size, scale and positions stay. Raises ConfigError where nothing would go: where
    every query head has a key/value head of its own, `SliceGroups` removes both.
    """

    ratio: float
    importance: str = "minitron"

    def __call__(self, model, calibration=None, progress=ignore_progress):
        require_method(self.importance, HEAD_METHODS)
        require_dense(model)
        config = model.config
        H, G, D = config.num_attention_heads, config.num_key_value_heads, config.head_dim
        count = count_to_keep(
            self.ratio, H // G, "query heads per key/value head", "; SliceGroups removes whole groups"
        )
        importance = head_scores(model, calibration, self.importance, head_parts(D))

        def slice_layer(path, layer):
            keep = most_important_heads(importance[path], G, count)
            query, output = slice_heads(layer.query, layer.output, keep, groups=G, head_dim=D)
            return layer.replace(query=query, output=output)

        sliced = map_modules(slice_layer, model, ATTENTION)
        return sliced.replace(config=replace(config, num_attention_heads=count * G))


@dataclass(frozen=True)
class SliceGroups:
    """Keep the fraction `ratio` of the key/value heads of every layer, with the query heads that read them.

    importance: as of `SliceHeads`, of the whole group. Layers that share a table of relative positions keep the same
    heads, those that matter most to them together. Raises ConfigError where nothing would go, as in multi-query
    attention, where all heads read one key/value head.
    """

    ratio: float
    importance: str = "minitron"

    def __call__(self, model, calibration=None, progress=ignore_progress):
        require_method(self.importance, HEAD_METHODS)
        require_dense(model)
        config = model.config
        H, G, D = config.num_attention_heads, config.num_key_value_heads, config.head_dim
        count = count_to_keep(self.ratio, G, "key/value heads", "; SliceHeads removes query heads within groups")
        scores = head_scores(model, calibration, self.importance, group_parts(H // G * D, D))
        if self.importance == "minitron":
            scores = {path: group_importance(of_heads, G) for path, of_heads in scores.items()}
        keep = {path: most_important(each, count) for path, each in shared_by_stacks(model, scores).items()}

        def slice_layer(path, layer):
            if isinstance(layer, RelativePositions):  # one column per head, for all layers of a stack
                return layer.replace(table=layer.table[:, keep[_first_attention(path)]])
            arrays = (layer.query, layer.key, layer.value, layer.output)
            query, key, value, output = slice_groups(*arrays, keep[path], head_dim=D)
            return layer.replace(query=query, key=key, value=value, output=output)

        sliced = map_modules(slice_layer, model, ATTENTION | RelativePositions)
        changes = {"num_attention_heads": H // G * count}
        if "num_key_value_heads" in vars(config):  # elsewhere it is the number of query heads
            changes["num_key_value_heads"] = count
        return sliced.replace(config=replace(config, **changes))


def head_scores(model, calibration, method, parts) -> dict:
    """{path of an attention: importance of its heads (H,)}; of what `parts` says, other than by "minitron"."""
    layers = named_modules(model, ATTENTION)
    if method == "minitron":
        norms = minitron_heads(model, calibration, [f"{path}.output" for path in layers])
        return {path: norms[f"{path}.output"] for path in layers}
    evidence = gather_statistics(model, calibration, method)
    return {path: evidence.importance(path, layer, parts) for path, layer in layers.items()}


def shared_by_stacks(model, scores) -> dict:
    """The scores, in their place the sum over all layers where these share relative positions."""
    for stack in named_modules(model, RelativePositions):
        first = _first_attention(stack)
        prefix, _, suffix = first.partition(".layers.0.")
        paths = [path for path in scores if path.startswith(f"{prefix}.layers.") and path.endswith(f".{suffix}")]
        scores = scores | dict.fromkeys(paths, sum(scores[path] for path in paths))
    return scores


def _first_attention(relative_positions):
    return relative_positions.rpartition(".")[0] + ".layers.0.attention"


def head_parts(head_dim):
    """A function of an attention: the arrays that only query heads share, heads first."""
    return lambda layer: by_head([*_rows(layer.query), layer.output.weight.T], head_dim)


def group_parts(query_rows, head_dim):
    """A function of an attention: all its arrays, groups first. query_rows: of one group."""

    def parts(layer):
        queries = by_head([*_rows(layer.query), layer.output.weight.T], query_rows)
        return queries + by_head(_rows(layer.key) + _rows(layer.value), head_dim)

    return parts


def _rows(linear):
    return [linear.weight] if linear.bias is None else [linear.weight, linear.bias]
