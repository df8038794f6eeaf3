"""Structured pruning of attention: whole query heads, or key/value heads with all query heads that read them.

H query heads share G key/value heads: head h reads group h // (H / G). Head h is D rows of query and D columns of
output, group g is D rows of key and of value. query: (H D, C);  key, value: (G D, C);  output: (C, H D). Dimensions of
a head are not removed: rotary positions turn them in pairs, and the scale of scores would change.
"""

import numpy as np

from tinyslm.compression.argument_checks import require_integer, require_same_shape
from tinyslm.compression.pruning.importance import magnitude_importance, minitron_importance
from tinyslm.compression.pruning.neurons import take_inputs, take_outputs, weight_of
from tinyslm.compression.pruning.selection import most_important, require_ascending
from tinyslm.errors import ConfigError, DataError


def head_importance(query, output, *, head_dim, method="magnitude", mixed=None):
    """How much each query head matters: (H,), larger is more important.

    query: (H D, C);  output: (C, H D) weights. Methods:
    "magnitude": the L2 norm of the head's rows of query and columns of output.
    "minitron": `minitron_importance` of |a_h|, the norm of the head's D outputs, which enter `output`; mixed is a list
        of them, (T, H D) per document. Source: Muralidharan et al. 2024 (arXiv 2407.14679).
    """
    require_same_shape("output", output, (output.shape[0], len(query)))
    if method == "magnitude":
        return magnitude_importance(by_head([query, output.T], head_dim))
    if method != "minitron":
        raise ConfigError(f'method must be "magnitude" or "minitron", found {method!r}')
    if mixed is None:
        raise ConfigError('method "minitron" needs mixed: what enters the output projection, (T, H D) per document')
    return minitron_importance([head_norms(document, head_dim) for document in mixed])


def head_norms(mixed, head_dim):
    """The norm of every head's output: (T, H D) -> (T, H)."""
    return np.linalg.norm(mixed.reshape(len(mixed), -1, head_dim), axis=-1)


def by_head(weights, head_dim):
    """Arrays of heads of D rows each as arrays with heads along the first axis: (H D, ...) -> (H, D, ...)."""
    for weight in weights:
        if len(weight) % head_dim:
            raise DataError(f"{len(weight)} rows are no whole number of heads of {head_dim}")
    return [weight.reshape(-1, head_dim, *weight.shape[1:]) for weight in weights]


def group_importance(importance, groups):
    """The sum over the query heads of each group: (H,) -> (G,)."""
    return np.sum(_in_groups(importance, groups), axis=1)


def most_important_heads(importance, groups, count):
    """Ascending indices of the `count` most important heads of every group: (H,) -> (G count,)."""
    by_group = _in_groups(importance, groups)  # (G, r)
    return np.concatenate([most_important(row, count) + g * len(row) for g, row in enumerate(by_group)])


def _in_groups(importance, groups):
    require_integer("groups", groups, 1, importance.size)
    if importance.size % groups:
        raise DataError(f"{importance.size} heads cannot share {groups} key/value heads evenly")
    return importance.reshape(groups, -1)


def slice_heads(query, output, keep, *, groups, head_dim):
    """(query, output) with the query heads `keep` only; each a `Linear` or a bare weight.

    keep: ascending indices, as many heads of every group: which group a head reads follows from its place. Raises
    ConfigError for anything else.
    """
    heads = len(weight_of(query)) // head_dim
    keep = require_ascending(keep, heads)
    left = np.bincount(keep // (heads // groups), minlength=groups)  # (G,)
    if np.any(left != left[0]):
        raise ConfigError(f"every key/value head must keep as many query heads, found {left.tolist()}")
    features = head_features(keep, head_dim)
    return take_outputs(query, features), take_inputs(output, features)


def slice_groups(query, key, value, output, keep, *, head_dim):
    """(query, key, value, output) with the key/value heads `keep`, and the query heads that read them, only.

    Each a `Linear` or a bare weight.  keep: (k,) ascending indices.
    """
    heads, groups = (len(weight_of(layer)) // head_dim for layer in (query, key))
    keep = require_ascending(keep, groups)
    r = heads // groups
    features = head_features((keep[:, None] * r + np.arange(r)).reshape(-1), head_dim)  # (k r D,)
    groups_features = head_features(keep, head_dim)  # (k D,)
    return (
        take_outputs(query, features),
        take_outputs(key, groups_features),
        take_outputs(value, groups_features),
        take_inputs(output, features),
    )


def head_features(heads, head_dim):
    """The features of heads: (k,) -> (k D,)."""
    return (np.asarray(heads)[:, None] * head_dim + np.arange(head_dim)).reshape(-1)
