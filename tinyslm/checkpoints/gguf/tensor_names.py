"""The names of tensors in GGUF files, the same for all architectures: a `Family` with these names.

Differences from safetensors files, besides the names:
- no tensor is transposed;
- the rows of query and key of REORDERED_FAMILIES are stored in another order (`row_order`);
- the gains of the norms of Gemma are stored as they are used, not as w - 1.
Source: https://github.com/ggml-org/llama.cpp, gguf-py/gguf/constants.py and convert_hf_to_gguf.py.
"""

from dataclasses import replace

import numpy as np

from tinyslm.checkpoints.families import Family, gpt2, phi3
from tinyslm.tree import Array

BLOCK = "blk.{i}."
NAMES = {  # {module or modules: name of the tensor without ".weight" or ".bias"}
    "embedding": "token_embd",
    "position_embedding": "position_embd",
    "norm": "output_norm",
    "head": "output",
    "layers.{i}.attention_norm": BLOCK + "attn_norm",
    "layers.{i}.attention.query": BLOCK + "attn_q",
    "layers.{i}.attention.key": BLOCK + "attn_k",
    "layers.{i}.attention.value": BLOCK + "attn_v",
    gpt2.QUERY_KEY_VALUE: BLOCK + "attn_qkv",
    "layers.{i}.attention.query_norm": BLOCK + "attn_q_norm",
    "layers.{i}.attention.key_norm": BLOCK + "attn_k_norm",
    "layers.{i}.attention.output": BLOCK + "attn_output",
    "layers.{i}.attention_output_norm": BLOCK + "post_attention_norm",
    "layers.{i}.feed_forward_norm": BLOCK + "ffn_norm",
    "layers.{i}.feed_forward.gate": BLOCK + "ffn_gate",
    "layers.{i}.feed_forward.up": BLOCK + "ffn_up",
    phi3.GATE_UP: BLOCK + "ffn_up",
    "layers.{i}.feed_forward.down": BLOCK + "ffn_down",
    "layers.{i}.feed_forward_output_norm": BLOCK + "post_ffw_norm",
}
SETTINGS = ("rope_freqs.weight", "rope_factors_long.weight", "rope_factors_short.weight")  # hold no parameters
REORDERED = ("attn_q.weight", "attn_q.bias", "attn_k.weight", "attn_k.bias")  # endings of names
REORDERED_FAMILIES = ("granite", "llama", "smollm3")


def with_gguf_names(family: Family) -> Family:
    """The family with the names of its tensors in GGUF files."""
    names = {modules: NAMES[modules] for modules in family.tensors}
    return replace(family, tensors=names, base="", transposed=frozenset(), ignored=SETTINGS)


def row_order(rows: int, head_dim: int) -> Array:
    """The rows of a query or key matrix of REORDERED_FAMILIES, in the order of this library: (rows,) indices.

    Rotary pairs are (2i, 2i + 1) in the file, and (i, i + D / 2) here.
    """
    pairs = np.arange(rows).reshape(-1, head_dim // 2, 2)  # (heads, D / 2, 2)
    return pairs.swapaxes(1, 2).reshape(rows)
