"""Losses on intermediate features of student and teacher: hidden states, attention and values of matched layers.

Mathematics: `tinyslm/compression/distillation`. Lesson: `lessons/06_distillation.py`.
"""

from typing import Any, NamedTuple

import numpy as np

from tinyslm.compression.distillation import (
    attention_relation_loss,
    attention_scores,
    attention_transfer_loss,
    hidden_state_loss,
    layer_map,
    value_relation_loss,
)
from tinyslm.compression.distillation.layer_maps import LAYER_MAPS
from tinyslm.compression.distillation.masked_positions import unmasked_pairs
from tinyslm.errors import ConfigError
from tinyslm.models import Encoder, layer_stacks
from tinyslm.modules import Attention, Linear, SelectiveObserver
from tinyslm.ops import IGNORED
from tinyslm.ops.attention import allowed_keys

MATCHES = ("last", *LAYER_MAPS)


class Features(NamedTuple):
    """Intermediates of one layer: its output (B, T, C), queries (B, T, H, D), keys and values (B, T, G, D)."""

    hidden_state: Any
    queries: Any
    keys: Any
    values: Any
    attention: Attention

    def scores(self):
        """The attention scores (B, H, T, T), without cap, position bias or mask: of queries and keys only."""
        return attention_scores(self.queries, self.keys, scale=self.attention.scale)


def feature_names(path, layer) -> list[str]:
    """Names of the observed `Features` of a layer, in their order. path: of the stack, see `layer_stacks`."""
    prefix = f"{path}." if path else ""
    attention = f"{prefix}layers.{layer}.attention"
    return [f"{prefix}hidden_states.{layer + 1}", f"{attention}.queries", f"{attention}.keys", f"{attention}.values"]


def feature_observer(model, seen) -> SelectiveObserver:
    """Observer that stores the features of all layers in the dictionary `seen`."""
    stacks = layer_stacks(model).items()
    names = {name for path, stack in stacks for i in range(len(stack.layers)) for name in feature_names(path, i)}
    return SelectiveObserver(names, seen.__setitem__)


def matched_layers(strategy, student, teacher) -> list[tuple[int, int]]:
    """Pairs (student layer, teacher layer) of two stacks, by `layer_map`; "last" is the pair of the last layers."""
    M, N = len(student.layers), len(teacher.layers)
    return [(M - 1, N - 1)] if strategy == "last" else list(enumerate(layer_map(strategy, M, N)))


def real_positions(model, inputs, targets, path=""):
    """Positions of a stack without padding, (B, T) booleans. For a decoder: the positions with a target."""
    reads = isinstance(model, Encoder) or path == "encoder"
    return inputs["attention_mask"] != 0 if reads else targets != IGNORED


def require_comparable(settings, model, calibration):
    """Raise ConfigError if a loss in the settings of `Distill` cannot compare this student with the teacher."""
    teacher = calibration.teacher
    if type(model) is not type(teacher):
        raise ConfigError(f"a {type(model).__name__} cannot learn from a {type(teacher).__name__}")
    for path, stack in layer_stacks(model).items():
        matched_layers(settings.layers, stack, layer_stacks(teacher)[path])
    kinds = {"num_attention_heads": ("attention_weight", "relation_weight"), "num_key_value_heads": ("value_weight",)}
    for heads, weights in kinds.items():
        found, expected = getattr(model.config, heads), getattr(teacher.config, heads)
        if found != expected and any(getattr(settings, weight) for weight in weights):
            raise ConfigError(
                f"{' and '.join(weights)} need equal numbers of heads: {heads} is {found}, expected {expected}"
            )
    width, target = model.config.hidden_size, teacher.config.hidden_size
    if settings.cosine_weight and width != target:
        raise ConfigError(f"cosine_weight needs states of the teacher's width {target}, found {width}")


def new_projection(settings, model, calibration) -> Linear | None:
    """Random projection from the student's width to the teacher's, for `hidden_weight`; None for equal widths."""
    width, target = model.config.hidden_size, calibration.teacher.config.hidden_size
    if width == target or not settings.hidden_weight:
        return None
    rng = np.random.default_rng(calibration.seed)
    return Linear((rng.standard_normal((target, width)) * width**-0.5).astype(np.float32))


def _hidden_loss(student, teacher, real):
    return hidden_state_loss(student.hidden_state, teacher.hidden_state, mask=real)


def _attention_loss(student, teacher, real):
    return attention_transfer_loss(student.scores(), teacher.scores(), mask=_visible_pairs(student.attention, real))


def _relation_loss(student, teacher, real):
    return attention_relation_loss(student.scores(), teacher.scores(), mask=_visible_pairs(student.attention, real))


def _value_loss(student, teacher, real):
    return value_relation_loss(student.values, teacher.values, mask=real)


def _count_tokens(attention, real):
    return np.count_nonzero(real)


def _count_pairs(attention, real):
    return np.count_nonzero(_visible_pairs(attention, real))


FEATURE_LOSSES = {  # by the setting of `Distill` that is the weight: a mean, and the number of things it is a mean over
    "hidden_weight": (_hidden_loss, _count_tokens),
    "attention_weight": (_attention_loss, _count_pairs),
    "relation_weight": (_relation_loss, _count_tokens),  # every token that is not padding sees itself
    "value_weight": (_value_loss, _count_tokens),
}


class FeatureTerm(NamedTuple):
    """One term of the loss: the setting of `Distill`, its weight, the path of the stack, and the matched layers."""

    name: str
    weight: float
    path: str
    student_layer: int
    teacher_layer: int


def feature_terms(settings, student, teacher) -> list[FeatureTerm]:
    """The terms of all matched layers; the weight of each kind of loss is divided by the number of layers."""
    terms = []
    for path, stack in layer_stacks(student).items():
        pairs = matched_layers(settings.layers, stack, layer_stacks(teacher)[path])
        for name in FEATURE_LOSSES:
            weight = getattr(settings, name) / len(pairs)
            if weight > 0:
                terms += [FeatureTerm(name, weight, path, m, n) for m, n in pairs]
    return terms


def feature_losses(settings, student, teacher, seen_student, seen_teacher, inputs, targets, projection=None):
    """The weighted losses of all `feature_terms`. seen_student, seen_teacher: stored by `feature_observer`."""

    def features(seen, model, path, layer):
        attention = layer_stacks(model)[path].layers[layer].attention
        return Features(*(seen[name] for name in feature_names(path, layer)), attention)

    losses = []
    for name, weight, path, m, n in feature_terms(settings, student, teacher):
        one, other = features(seen_student, student, path, m), features(seen_teacher, teacher, path, n)
        if projection is not None:
            one = one._replace(hidden_state=projection(one.hidden_state))
        loss, _ = FEATURE_LOSSES[name]
        losses.append(loss(one, other, real_positions(student, inputs, targets, path)) * np.float32(weight))
    return losses


def feature_counts(settings, student, teacher, inputs, targets) -> list[int]:
    """The number of tokens, or of pairs of query and key, that each of the `feature_losses` is a mean over."""
    counts = []
    for name, _, path, m, _ in feature_terms(settings, student, teacher):
        _, count = FEATURE_LOSSES[name]
        attention = layer_stacks(student)[path].layers[m].attention
        counts.append(int(count(attention, real_positions(student, inputs, targets, path))))
    return counts


def _visible_pairs(attention, real):
    """Mask of the (query, key) pairs without padding and with a visible key. real: (B, T) -> (B, 1, T, T)."""
    slots = np.arange(real.shape[1])
    visible = allowed_keys(slots, slots, attention.causal, attention.window, attention.lookahead)  # (T, T)
    return unmasked_pairs(real) & visible
