"""The settings of a model in the metadata of a GGUF file, as the keys of a config.json.

Each key begins with the name of the architecture, such as "llama.block_count". Settings that llama.cpp does not store,
because it knows them by architecture, are added here.
Source: https://github.com/ggml-org/llama.cpp, convert_hf_to_gguf.py and src/llama-model.cpp.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

from tinyslm.checkpoints.encoded_tensor import EncodedTensor
from tinyslm.checkpoints.families.config_reader import ConfigReader
from tinyslm.checkpoints.families.rope import ORIGINAL
from tinyslm.checkpoints.gguf.container import Container, shortest_decimal
from tinyslm.checkpoints.json_files import shown
from tinyslm.checkpoints.safetensors import StoredTensor
from tinyslm.errors import CheckpointError, ConfigError

SIZES = {  # {key without the architecture: key of config.json}
    "embedding_length": "hidden_size",
    "feed_forward_length": "intermediate_size",
    "attention.head_count": "num_attention_heads",
    "context_length": "max_position_embeddings",
}
TOKENS = {"bos": "bos_token_id", "eos": "eos_token_id", "padding": "pad_token_id"}
SCALINGS = ("linear", "yarn", "longrope")  # of rotary positions, named as in config.json
MOST_SHOWN = 100  # numbers of an array, in messages
Settings = dict[str, Any]


class Metadata:
    """The metadata of one architecture, with the tensors that hold settings. Methods raise ConfigError."""

    def __init__(self, container: Container, tensors: dict[str, StoredTensor | EncodedTensor]):
        values = {key: _as_list(value) for key, value in container.metadata.items()}
        self.keys = ConfigReader(values, {}, container.path)
        self.tensors = tensors
        self.architecture = self.keys.get("general.architecture")

    def key(self, name: str) -> str:
        """The whole key of a setting of the architecture."""
        return f"{self.architecture}.{name}"

    def has(self, name: str) -> bool:
        """Whether the file has this setting."""
        return self.keys.get(self.key(name)) is not None

    def count(self, name: str) -> int:
        """A size."""
        return self.keys.count(self.key(name))

    def head_dim(self) -> int:
        """The size of a head. Keys and values must have the same."""
        if not self.has("attention.key_length"):
            return self.keys.head_dim(self.key("embedding_length"), self.key("attention.head_count"))
        size = self.count("attention.key_length")
        if self.has("attention.value_length") and self.count("attention.value_length") != size:
            self.keys.refuse(self.key("attention.value_length"), f"{size}, as attention.key_length")
        return size

    def rotated(self) -> int:
        """The number of rotary dimensions of a head."""
        return self.count("rope.dimension_count") if self.has("rope.dimension_count") else self.head_dim()

    def optional_factors(self, names: dict[str, str]) -> Settings:
        """{key of config.json: factor} of the settings that the file has. names: {setting: key of config.json}."""
        return {key: self.keys.factor(self.key(name)) for name, key in names.items() if self.has(name)}

    def factors(self, name: str) -> list[float]:
        """The numbers of a tensor, one divisor of a frequency for each pair of rotary dimensions."""
        tensor = self.tensors[name]
        if tensor.shape != (self.rotated() // 2,):
            raise CheckpointError(
                f"{tensor.file}: tensor {shown(name)}: shape is {tensor.shape}, expected {(self.rotated() // 2,)}"
            )
        return [shortest_decimal(factor) for factor in tensor.read(np.float32)]


def _as_list(value):
    """An array of numbers as a list, for comparisons; no setting is read from one."""
    return value[:MOST_SHOWN].tolist() if isinstance(value, np.ndarray) else value


def read_settings(container: Container, tensors: dict[str, StoredTensor | EncodedTensor]) -> Settings:
    """The keys of a config.json for a GGUF file. tensors: those of the file.

    Raises ConfigError, naming the file and the key, for an architecture that is not supported or a wrong value.
    """
    metadata = Metadata(container, tensors)
    architecture = metadata.architecture
    if not isinstance(architecture, str) or architecture not in ARCHITECTURES:
        metadata.keys.refuse("general.architecture", f"one of {', '.join(ARCHITECTURES)} (others are not supported)")
    if metadata.keys.get("split.count") not in (None, 0, 1):
        raise ConfigError(
            f"{container.path}: is one of {shown(metadata.keys.get('split.count'))} parts of a model; join them with "
            "llama-gguf-split --merge"
        )
    if "token_embd.weight" not in tensors:
        raise CheckpointError(f"{container.path}: tensor 'token_embd.weight' is missing")
    settings = {
        "vocab_size": tensors["token_embd.weight"].shape[0],
        "tie_word_embeddings": "output.weight" not in tensors,
        "num_hidden_layers": metadata.keys.layers(metadata.key("block_count")),
        "attention_bias": "blk.0.attn_q.bias" in tensors,
        "mlp_bias": "blk.0.ffn_up.bias" in tensors,
    }
    settings |= {key: metadata.count(name) for name, key in SIZES.items()}
    settings |= {key: metadata.keys.token(f"tokenizer.ggml.{name}_token_id") for name, key in TOKENS.items()}
    return settings | ARCHITECTURES[architecture](metadata)


def _read_rotary(metadata, model_type) -> Settings:
    """The settings that all families with rotary positions and RMS norms have."""
    metadata.keys.values.setdefault(metadata.key("rope.freq_base"), 10000.0)
    heads = "attention.head_count_kv"
    return {
        "model_type": model_type,
        "num_key_value_heads": metadata.count(heads if metadata.has(heads) else "attention.head_count"),
        "head_dim": metadata.head_dim(),
        "rms_norm_eps": metadata.keys.norm_eps(metadata.key("attention.layer_norm_rms_epsilon")),
        "rope_theta": metadata.keys.theta(metadata.key("rope.freq_base")),
        "rope_scaling": _read_rope_scaling(metadata),
    }


def _read_rope_scaling(metadata) -> Settings | None:
    """The table of the scaling of rotary positions, or None.

    The tensor "rope_freqs.weight" holds divisors of the frequencies, such as those of Llama 3.1. They are read as
    longrope with equal factors for short and long texts.
    """
    if "rope_freqs.weight" in metadata.tensors:
        factors = metadata.factors("rope_freqs.weight")
        table = {"rope_type": "longrope", "short_factor": factors, "long_factor": factors, "attention_factor": 1.0}
        return table | {ORIGINAL: metadata.count("context_length")}
    kind = metadata.key("rope.scaling.type")
    if metadata.keys.get(kind) in (None, "none"):
        return None
    return _scaling_table(metadata, metadata.keys.choice(kind, SCALINGS))


def _scaling_table(metadata, kind) -> Settings:
    """The settings of the scaling that the file has."""
    table = {"rope_type": kind}
    if metadata.has("rope.scaling.factor"):
        table["factor"] = metadata.keys.factor(metadata.key("rope.scaling.factor"))
    if metadata.has("rope.scaling.original_context_length"):
        table[ORIGINAL] = metadata.count("rope.scaling.original_context_length")
    if metadata.has("rope.scaling.attn_factor"):
        table["attention_factor"] = metadata.keys.factor(metadata.key("rope.scaling.attn_factor"))
    return table


def _read_whole_rotary(metadata, model_type) -> Settings:
    """`_read_rotary` of a family that rotates whole heads."""
    if metadata.rotated() != metadata.head_dim():
        metadata.keys.refuse(metadata.key("rope.dimension_count"), f"{metadata.head_dim()}, the size of a head")
    return _read_rotary(metadata, model_type)


def _read_llama(metadata) -> Settings:
    if metadata.has("expert_count") and metadata.keys.get(metadata.key("expert_count")) != 0:
        metadata.keys.refuse(metadata.key("expert_count"), "0 (a mixture of experts is not supported)")
    return _read_whole_rotary(metadata, "llama")


def _read_qwen2(metadata) -> Settings:
    return _read_whole_rotary(metadata, "qwen2")


def _read_qwen3(metadata) -> Settings:
    return _read_whole_rotary(metadata, "qwen3")


def _read_phi3(metadata) -> Settings:
    settings = _read_rotary(metadata, "phi3")
    settings["partial_rotary_factor"] = metadata.rotated() / metadata.head_dim()
    if "rope_factors_long.weight" in metadata.tensors and "rope_factors_short.weight" in metadata.tensors:
        table = _scaling_table(metadata, "longrope")
        settings[ORIGINAL] = table.pop(ORIGINAL, None)
        settings["rope_scaling"] = table | {
            "short_factor": metadata.factors("rope_factors_short.weight"),
            "long_factor": metadata.factors("rope_factors_long.weight"),
        }
    if metadata.has("attention.sliding_window") and metadata.keys.get(metadata.key("attention.sliding_window")) != 0:
        settings["sliding_window"] = metadata.count("attention.sliding_window")
    return settings


def _read_gemma(metadata) -> Settings:
    return _read_whole_rotary(metadata, "gemma")


def _read_scale(metadata, large):
    """The divisor of the attention scores, squared: the size of a head, but C / H in the models of `large` layers."""
    if metadata.count("block_count") == large:
        return metadata.keys.head_dim(metadata.key("embedding_length"), metadata.key("attention.head_count"))
    return metadata.head_dim()


def _read_gemma2(metadata) -> Settings:
    settings = _read_whole_rotary(metadata, "gemma2") | {"query_pre_attn_scalar": _read_scale(metadata, large=46)}
    caps = {"attn_logit_softcapping": "attn_logit_softcapping", "final_logit_softcapping": "final_logit_softcapping"}
    settings |= metadata.optional_factors(caps)
    if metadata.has("attention.sliding_window"):
        settings["sliding_window"] = metadata.count("attention.sliding_window")
    return settings


def _read_gemma3(metadata) -> Settings:
    local = "rope.freq_base_swa"
    settings = _read_whole_rotary(metadata, "gemma3_text") | {"query_pre_attn_scalar": _read_scale(metadata, large=62)}
    settings["sliding_window"] = metadata.count("attention.sliding_window")
    if metadata.has(local):
        settings["rope_local_base_freq"] = metadata.keys.theta(metadata.key(local))
    return settings


def _read_granite(metadata) -> Settings:
    scales = {
        "embedding_scale": "embedding_multiplier",
        "attention.scale": "attention_multiplier",
        "residual_scale": "residual_multiplier",
        "logit_scale": "logits_scaling",
    }
    return _read_whole_rotary(metadata, "granite") | metadata.optional_factors(scales)


def _read_olmo2(metadata) -> Settings:
    return _read_whole_rotary(metadata, "olmo2")


def _read_smollm3(metadata) -> Settings:
    """Every fourth layer has no positions, which is the default of the family."""
    return _read_whole_rotary(metadata, "smollm3")


def _read_gpt2(metadata) -> Settings:
    return {
        "model_type": "gpt2",
        "n_embd": metadata.count("embedding_length"),
        "n_head": metadata.count("attention.head_count"),
        "n_layer": metadata.keys.layers(metadata.key("block_count")),
        "n_inner": metadata.count("feed_forward_length"),
        "n_positions": metadata.count("context_length"),
        "layer_norm_epsilon": metadata.keys.norm_eps(metadata.key("attention.layer_norm_epsilon")),
    }


ARCHITECTURES: dict[str, Callable[[Metadata], Settings]] = {
    "gemma": _read_gemma,
    "gemma2": _read_gemma2,
    "gemma3": _read_gemma3,
    "gpt2": _read_gpt2,
    "granite": _read_granite,
    "llama": _read_llama,
    "olmo2": _read_olmo2,
    "phi3": _read_phi3,
    "qwen2": _read_qwen2,
    "qwen3": _read_qwen3,
    "smollm3": _read_smollm3,
}
