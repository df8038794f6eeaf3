"""The configuration of a model as the metadata of a GGUF file: the reverse of `settings`.

llama.cpp knows some settings by architecture, such as the activation, and does not store them. `check_settings` reads
the metadata back and refuses a model for which this gives other settings.
"""

from collections.abc import Callable
from dataclasses import astuple, fields, is_dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from tinyslm.checkpoints.families import find_family
from tinyslm.checkpoints.gguf.container import Container
from tinyslm.checkpoints.gguf.settings import read_settings
from tinyslm.checkpoints.safetensors import StoredTensor
from tinyslm.errors import ConfigError
from tinyslm.models import DecoderConfig
from tinyslm.ops import Rope
from tinyslm.ops.rotary import inverse_frequencies
from tinyslm.tree import Array

Metadata = dict[str, Any]
FREQUENCIES, LONG, SHORT = "rope_freqs.weight", "rope_factors_long.weight", "rope_factors_short.weight"
TOKENS = ("bos_token_id", "eos_token_id", "pad_token_id")  # fields that the metadata of the tokenizer hold
NOT_COMPARED = (*TOKENS, "ropes", "source", "without_prefix")


def _none(config) -> Metadata:
    return {}


def _window(config) -> Metadata:
    window = next(filter(None, config.windows), None)
    return {} if window is None else {"attention.sliding_window": window}


def _gemma2(config) -> Metadata:
    caps = {
        "attn_logit_softcapping": config.attention_softcap,
        "final_logit_softcapping": config.logit_softcap,
    }
    return _window(config) | {key: float(cap) for key, cap in caps.items() if cap is not None}


def _gemma3(config) -> Metadata:
    local = next((rope for rope, window in zip(config.ropes, config.windows, strict=True) if window), None)
    return _window(config) | ({"rope.freq_base_swa": float(local.theta)} if local else {})


def _granite(config) -> Metadata:
    return {
        "embedding_scale": float(config.embedding_scale),
        "attention.scale": float(config.scale),
        "residual_scale": float(config.residual_multiplier),
        "logit_scale": float(config.logits_scaling),
    }


ARCHITECTURES: dict[str, tuple[str, Callable[[Any], Metadata]]] = {  # {family: (architecture, further settings)}
    "gemma": ("gemma", _none),
    "gemma2": ("gemma2", _gemma2),
    "gemma3_text": ("gemma3", _gemma3),
    "gpt2": ("gpt2", _none),
    "granite": ("granite", _granite),
    "llama": ("llama", _none),
    "mistral": ("llama", _none),
    "olmo2": ("olmo2", _none),
    "phi3": ("phi3", _window),
    "qwen2": ("qwen2", _none),
    "qwen3": ("qwen3", _none),
    "smollm3": ("smollm3", _none),
}
WITH_WINDOWS = ("gemma2", "gemma3_text", "phi3")
WITH_BIASES = ("gpt2", "granite", "llama", "mistral", "qwen2")


def exported_config(config: Any, where: str | Path) -> DecoderConfig:
    """The configuration that a GGUF file of this model has.

    Mistral is written as Llama. A sliding window of an architecture without windows becomes the longest context: up to
    this length, the model is the same. Raises ConfigError for a family that cannot be written.
    """
    family = config.family
    if family not in ARCHITECTURES:
        raise ConfigError(
            f"{where}: a model of the family {family} cannot be written as GGUF, expected one of "
            f"{', '.join(ARCHITECTURES)}"
        )
    has_biases = config.attention_bias or config.attention_output_bias or config.feed_forward_bias
    if has_biases and family not in WITH_BIASES:
        raise ConfigError(f"{where}: this {family} model has biases, which llama.cpp does not read in this family")
    if family not in WITH_WINDOWS and any(config.windows):
        context = min(config.max_position_embeddings, *filter(None, config.windows))
        config = replace(config, windows=(), max_position_embeddings=context)
    return replace(config, family="llama" if family == "mistral" else family)


def settings_metadata(config: DecoderConfig) -> Metadata:
    """{key: value} of the settings of a configuration as of `exported_config`, with the name of the architecture."""
    architecture, further = ARCHITECTURES[config.family]
    values: Metadata = {
        "vocab_size": config.vocab_size,
        "context_length": config.max_position_embeddings,
        "embedding_length": config.hidden_size,
        "block_count": config.num_hidden_layers,
        "feed_forward_length": config.intermediate_size,
        "attention.head_count": config.num_attention_heads,
    }
    if config.norm == "layer":
        values["attention.layer_norm_epsilon"] = float(config.norm_eps)
    else:
        values |= _rotary(config)
    values |= further(config)
    return {"general.architecture": architecture} | {f"{architecture}.{key}": value for key, value in values.items()}


def _rotary(config):
    """The settings of families with rotary positions and RMS norms."""
    rope = _global_rope(config)
    values = {
        "attention.head_count_kv": config.num_key_value_heads,
        "attention.key_length": config.head_dim,
        "attention.value_length": config.head_dim,
        "attention.layer_norm_rms_epsilon": float(config.norm_eps),
    }
    if rope is None:
        return values
    values |= {"rope.dimension_count": rope.dimension, "rope.freq_base": float(rope.theta)}
    if rope.scaling in ("linear", "yarn"):
        values |= {"rope.scaling.type": rope.scaling, "rope.scaling.factor": float(rope.factor)}
    if rope.scaling == "yarn":
        values["rope.scaling.original_context_length"] = rope.original_length
    if _has_two_factors(config):
        values["rope.scaling.original_context_length"] = rope.original_length
        values["rope.scaling.attn_factor"] = float(rope.attention_factor)
    return values


def _global_rope(config) -> Rope | None:
    """The rotation of the layers with full attention, or of any layer with a rotation."""
    pairs = list(zip(config.ropes, config.windows, strict=True))
    full = (rope for rope, window in pairs if rope is not None and window is None)
    return next(full, None) or next((rope for rope, _ in pairs if rope is not None), None)


def _has_two_factors(config):
    """Whether short and long texts have their own divisors of frequencies."""
    rope = _global_rope(config)
    return config.family == "phi3" and rope is not None and rope.scaling == "longrope"


def settings_tensors(config: DecoderConfig) -> dict[str, Array]:
    """{name: (D / 2,) float32} of the tensors that hold divisors of the frequencies."""
    rope = _global_rope(config)
    if rope is not None and _has_two_factors(config):
        return {LONG: np.array(rope.long_factors, np.float32), SHORT: np.array(rope.short_factors, np.float32)}
    if rope is not None and rope.scaling in ("llama3", "longrope"):
        length = config.max_position_embeddings
        return {
            FREQUENCIES: inverse_frequencies(replace(rope, scaling="default"), 1) / inverse_frequencies(rope, length)
        }
    return {}


def check_settings(
    config: DecoderConfig, metadata: Metadata, shapes: dict[str, tuple[int, ...]], where: str | Path
) -> None:
    """Raise ConfigError unless the metadata, read back, give the configuration. shapes: of the tensors of the model."""
    arrays = {name: np.broadcast_to(np.zeros((), np.float32), shape) for name, shape in shapes.items()}
    tensors = {
        name: StoredTensor(Path(where), name, "F32", array.shape, array)
        for name, array in (arrays | settings_tensors(config)).items()
    }
    settings = read_settings(Container(Path(where), dict(metadata), {}), {**tensors})
    found = find_family(settings["model_type"], where).read_config(settings, where)
    for field in fields(config):
        wanted, kept = getattr(config, field.name), getattr(found, field.name)
        if field.name not in NOT_COMPARED and _in_float32(wanted) != _in_float32(kept):
            raise ConfigError(
                f"{where}: {field.name} is {wanted!r}, but a GGUF file of the architecture "
                f"{metadata['general.architecture']} can only hold {kept!r}"
            )
    for layer, (rope, kept) in enumerate(zip(config.ropes, found.ropes, strict=True)):
        if not _are_equal(rope, kept, config.max_position_embeddings):
            raise ConfigError(
                f"{where}: rotary positions of layer {layer} with {_different(rope, kept)}, but a GGUF file of the "
                f"architecture {metadata['general.architecture']} can only hold {_different(kept, rope)}"
            )


def _different(rope, other):
    """The settings of a rotation that another one does not have, as text."""
    if rope is None or other is None:
        return "no rotation" if rope is None else f"theta={rope.theta}"
    pairs = {field.name: getattr(rope, field.name) for field in fields(rope)}
    return ", ".join(f"{name}={value!r}" for name, value in pairs.items() if value != getattr(other, name))


def _in_float32(value):
    """A value with its numbers rounded to float32, as a GGUF file holds them."""
    if isinstance(value, tuple):
        return tuple(map(_in_float32, value))
    if is_dataclass(value) and not isinstance(value, type):
        return _in_float32(astuple(value))
    return float(np.float32(value)) if isinstance(value, float) else value


def _are_equal(rope, other, longest):
    """Whether two rotations have the same angles, for short texts and for the longest one."""
    if rope is None or other is None:
        return rope is other
    factors = rope.attention_factor, rope.query_scale_beta
    return (
        np.allclose(factors, (other.attention_factor, other.query_scale_beta), rtol=1e-6)
        and all(
            np.allclose(inverse_frequencies(rope, length), inverse_frequencies(other, length), rtol=1e-6, atol=0)
            for length in (1, longest)
            if rope.dimension == other.dimension
        )
        and rope.dimension == other.dimension
    )
