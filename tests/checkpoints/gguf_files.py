"""GGUF files of small models, written by the package `gguf` as the converter of llama.cpp writes them."""

import gguf
import numpy as np

from tests.checkpoints.models import small_model
from tinyslm.checkpoints import checkpoint_tensors
from tinyslm.checkpoints.families import gpt2

ARCHITECTURES = {"gemma3_text": "gemma3"}  # where it is not the family's name
FAMILIES = ("gemma", "gemma2", "gemma3_text", "gpt2", "granite", "llama", "olmo2", "phi3", "qwen2", "qwen3", "smollm3")
CHOICES = {  # what GGUF files of an architecture cannot say
    "gemma": {"attention_bias": False},
    "gemma2": {"attention_bias": False, "query_pre_attn_scalar": 10, "num_hidden_layers": 2},
    "gemma3_text": {"query_pre_attn_scalar": 10, "sliding_window_pattern": 6, "final_logit_softcapping": None},
    "granite": {"mlp_bias": False},
    "smollm3": {"attention_bias": False, "mlp_bias": False, "no_rope_layers": None, "num_hidden_layers": 5},
    "qwen2": {"use_sliding_window": False},
    "qwen3": {"use_sliding_window": False},
}
INTERLEAVED = ("granite", "llama", "smollm3")  # rotary pairs are neighbours
NORMS_AFTER = ("gemma2", "gemma3_text", "olmo2")
LLAMA_NAMES = {
    "model.embed_tokens": "token_embd",
    "model.norm": "output_norm",
    "lm_head": "output",
    "model.layers.": "blk.",
    "input_layernorm": "attn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.qkv_proj": "attn_qkv",
    "self_attn.q_norm": "attn_q_norm",
    "self_attn.k_norm": "attn_k_norm",
    "self_attn.o_proj": "attn_output",
    "post_feedforward_layernorm": "post_ffw_norm",
    "pre_feedforward_layernorm": "ffn_norm",
    "mlp.gate_up_proj": "ffn_up",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}
GPT2_NAMES = {
    "transformer.wte": "token_embd",
    "transformer.wpe": "position_embd",
    "transformer.ln_f": "output_norm",
    "transformer.h.": "blk.",
    "lm_head": "output",
    "ln_1": "attn_norm",
    "ln_2": "ffn_norm",
    "attn.c_attn": "attn_qkv",
    "attn.c_proj": "attn_output",
    "mlp.c_fc": "ffn_up",
    "mlp.c_proj": "ffn_down",
}


def gguf_name(name, family):
    """The name of a tensor of a checkpoint in a GGUF file."""
    names = GPT2_NAMES if family == "gpt2" else LLAMA_NAMES
    names = names | {"post_attention_layernorm": "post_attention_norm" if family in NORMS_AFTER else "ffn_norm"}
    for old, new in names.items():
        name = name.replace(old, new)
    return name


def gguf_tensors(model):
    """{name: array} of a model as in a GGUF file: rows of Llama interleaved, gains of Gemma with 1 added."""
    config, tensors = model.config, {}
    gpt2_matrices = tuple(f"{name.removeprefix('transformer.h.{i}')}.weight" for name in gpt2.LINEAR.values())
    for name, array in checkpoint_tensors(model).items():
        if config.family in INTERLEAVED and ("q_proj" in name or "k_proj" in name):
            halves = array.reshape(-1, 2, config.head_dim // 2, *array.shape[1:])  # (heads, 2, D / 2, ...)
            array = halves.swapaxes(1, 2).reshape(array.shape)
        if config.family.startswith("gemma") and "norm" in name:
            array = array + np.float32(1)
        if name.endswith(gpt2_matrices):
            array = array.T
        tensors[gguf_name(name, config.family)] = np.ascontiguousarray(array)
    return tensors


def settings(model):
    """{key: number} of the metadata of a model, without the architecture."""
    config = model.config
    values = {
        "block_count": config.num_hidden_layers,
        "context_length": config.max_position_embeddings,
        "embedding_length": config.hidden_size,
        "feed_forward_length": config.intermediate_size,
        "attention.head_count": config.num_attention_heads,
    }
    if config.family == "gpt2":
        return values | {"attention.layer_norm_epsilon": config.norm_eps}
    full = [rope for rope, window in zip(config.ropes, config.windows, strict=True) if rope and window is None]
    rope = (full or config.ropes)[0]
    values |= {
        "attention.head_count_kv": config.num_key_value_heads,
        "attention.key_length": config.head_dim,
        "attention.value_length": config.head_dim,
        "attention.layer_norm_rms_epsilon": config.norm_eps,
        "rope.dimension_count": rope.dimension,
        "rope.freq_base": rope.theta,
    }
    window = next(filter(None, config.windows), None)
    if window is not None:
        values["attention.sliding_window"] = window
    if config.family == "gemma2":
        values |= {"attn_logit_softcapping": config.attention_softcap, "final_logit_softcapping": config.logit_softcap}
    if config.family == "granite":
        values |= {"embedding_scale": config.embedding_scale, "attention.scale": config.attention_scale}
        values |= {"residual_scale": config.residual_multiplier, "logit_scale": config.logits_scaling}
    if rope.scaling == "longrope":
        values |= {"rope.scaling.original_context_length": rope.original_length}
        values |= {"rope.scaling.attn_factor": rope.attention_factor}
    return values


def write_gguf(path, model, types=None, tensors=None, metadata=None, remove=()):
    """Write a model.

    types: {ending of a name: GGML type} of tensors that are quantized.  tensors: {name: array} beside those of the
    model, or in their place.  metadata: {whole key: value}; a list is an array.  remove: keys and tensors left out.
    """
    family = model.config.family
    architecture = ARCHITECTURES.get(family, family)
    writer = gguf.GGUFWriter(path, architecture)
    values = {f"{architecture}.{key}": value for key, value in settings(model).items()} | (metadata or {})
    ids = {"bos": model.config.bos_token_id, "eos": model.config.eos_token_id, "padding": model.config.pad_token_id}
    values = {f"tokenizer.ggml.{name}_token_id": index for name, index in ids.items() if type(index) is int} | values
    for key, value in values.items():
        if key not in remove:
            add_value(writer, key, value)
    arrays = gguf_tensors(model) | (tensors or {})
    rope = None if family == "gpt2" else next(filter(None, model.config.ropes))
    if rope is not None and rope.scaling == "longrope":
        arrays |= {"rope_factors_long.weight": np.array(rope.long_factors, np.float32)}
        arrays |= {"rope_factors_short.weight": np.array(rope.short_factors, np.float32)}
    for name, array in arrays.items():
        kind = next((kind for ending, kind in (types or {}).items() if name.endswith(ending)), None)
        if name in remove:
            continue
        if array.dtype == np.uint8:  # blocks
            writer.add_tensor(name, array, raw_dtype=kind)
        elif kind is None:
            writer.add_tensor(name, array)
        else:
            writer.add_tensor(name, gguf.quants.quantize(array, kind), raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def add_value(writer, key, value):
    """Add a metadata value of the type of GGUF that files have for it."""
    if isinstance(value, list):
        writer.add_array(key, value)
    elif isinstance(value, str):
        writer.add_string(key, value)
    elif isinstance(value, bool):
        writer.add_bool(key, value)
    elif isinstance(value, float):
        writer.add_float32(key, value)
    else:
        writer.add_uint32(key, value)


def wide_model(family, **values):
    """A small model whose matrices have rows of 64 numbers, two blocks of 32."""
    sizes = {"hidden_size": 64, "intermediate_size": 96, "head_dim": 16}
    if family == "gpt2":
        sizes = {"n_embd": 64, "n_head": 4}
    return small_model(family, **sizes | values)
