"""What student and teacher think: their states, attention and values, layer by layer."""

import re

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
from tinyslm.errors import ConfigError
from tinyslm.models import Encoder, layer_stacks
from tinyslm.modules import Linear
from tinyslm.ops import IGNORED
from tinyslm.ops.attention import allowed_keys

MAPS = ("last", *LAYER_MAPS)
USED = re.compile(r"hidden_states\.\d+$|\.attention\.(queries|keys|values)$")


def observer(seen):
    """An observer that keeps what the losses below compare."""

    def observe(name, value):
        if USED.search(name):
            seen[name] = value

    return observe


def matched_layers(strategy, student, teacher):
    """The pairs (layer of the student, layer of the teacher) of two stacks: those of `layer_map`, or the last only."""
    M, N = len(student.layers), len(teacher.layers)
    return [(M - 1, N - 1)] if strategy == "last" else list(enumerate(layer_map(strategy, M, N)))


def real_positions(model, inputs, targets, prefix=""):
    """The positions of a stack that are no padding: (B, T) booleans. A decoder's are those that predict something."""
    reads = isinstance(model, Encoder) or prefix == "encoder."
    return inputs["attention_mask"] != 0 if reads else targets != IGNORED


def require_comparable(settings, model, calibration):
    """A projection from the student's states to the teacher's width, None where none is needed.

    Raises ConfigError if the settings of a `Distill` compare what cannot be compared.
    """
    teacher = calibration.teacher
    if type(model) is not type(teacher):
        raise ConfigError(f"a {type(model).__name__} cannot learn from a {type(teacher).__name__}")
    for path, stack in layer_stacks(model).items():
        matched_layers(settings.layers, stack, layer_stacks(teacher)[path])
    kinds = {"num_attention_heads": ("attention_weight", "relation_weight"), "num_key_value_heads": ("value_weight",)}
    for heads, weights in kinds.items():
        found, expected = getattr(model.config, heads), getattr(teacher.config, heads)
        if found != expected and any(getattr(settings, weight) for weight in weights):
            raise ConfigError(f"{' and '.join(weights)} compare head with head: {heads} is {found}, not {expected}")
    width, target = model.config.hidden_size, teacher.config.hidden_size
    if width == target:
        return None
    if settings.cosine_weight:
        raise ConfigError(f"cosine_weight compares states of one width, found {width}, the teacher has {target}")
    if not settings.hidden_weight:
        return None
    rng = np.random.default_rng(calibration.seed)
    return Linear((rng.standard_normal((target, width)) * width**-0.5).astype(np.float32))


def inner_losses(settings, student, teacher, seen_student, seen_teacher, inputs, targets, projection=None):
    """[(weight, loss)] of the states, scores, attention and values of all matched layers, each a mean over layers.

    Attention is compared without T5's bias of distances and without a cap on scores: only by queries and keys.
    """
    terms = []
    for path, stack in layer_stacks(student).items():
        other = layer_stacks(teacher)[path]
        prefix = f"{path}." if path else ""
        real = real_positions(student, inputs, targets, prefix)  # (B, T)
        pairs = matched_layers(settings.layers, stack, other)

        def compare(weight, compute, pairs=pairs):
            if weight > 0:
                terms.extend((weight / len(pairs), compute(m, n)) for m, n in pairs)

        def hidden(m, n, prefix=prefix, real=real):
            states = seen_student[f"{prefix}hidden_states.{m + 1}"]  # what layer m leaves
            states = states if projection is None else projection(states)
            return hidden_state_loss(states, seen_teacher[f"{prefix}hidden_states.{n + 1}"], mask=real)

        def values(m, n, prefix=prefix, real=real):
            found = (seen[f"{prefix}layers.{i}.attention.values"] for seen, i in ((seen_student, m), (seen_teacher, n)))
            return value_relation_loss(*found, mask=real)

        def scores(loss, prefix=prefix, stack=stack, other=other, real=real):
            def compute(m, n):
                seen = _scores(seen_student, prefix, stack, m), _scores(seen_teacher, prefix, other, n)
                return loss(*seen, mask=_visible_pairs(stack.layers[m].attention, real))

            return compute

        compare(settings.hidden_weight, hidden)
        compare(settings.attention_weight, scores(attention_transfer_loss))
        compare(settings.relation_weight, scores(attention_relation_loss))
        compare(settings.value_weight, values)
    return terms


def _scores(seen, prefix, stack, layer):
    """The unnormalized attention scores of a layer: (B, H, T, T)."""
    name = f"{prefix}layers.{layer}.attention"
    return attention_scores(seen[f"{name}.queries"], seen[f"{name}.keys"], scale=stack.layers[layer].attention.scale)


def _visible_pairs(attention, real):
    """Which pairs of tokens count: neither is padding, and the query may see the key. real: (B, T) -> (B, 1, T, T)."""
    slots = np.arange(real.shape[1])
    allowed = allowed_keys(slots, slots, attention.causal, attention.window)  # (T, T)
    return (real[:, :, None] & real[:, None, :] & allowed)[:, None]
