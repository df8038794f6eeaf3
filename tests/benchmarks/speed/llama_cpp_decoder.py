"""The same model in llama.cpp, through its Python binding, with our weights: a peer for prompts and generation."""

import importlib.util
import tempfile
from pathlib import Path

import numpy as np

from tinyslm.parallel import default_threads

INSTALLED = all(importlib.util.find_spec(name) for name in ("llama_cpp", "gguf"))


def llama_cpp_model(model, context):
    """A `Llama` in float32 on the CPU. Its file is removed again when it has been read into memory."""
    from llama_cpp import Llama

    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "model.gguf"
        write_gguf(path, model)
        threads = default_threads()
        return Llama(
            str(path), n_ctx=context, n_batch=context, n_ubatch=context, n_threads=threads, n_threads_batch=threads,
            n_gpu_layers=0, use_mmap=False, type_k=0, type_v=0, logits_all=False, verbose=False,
        )  # fmt: skip


def write_gguf(path, model):
    """The model as llama.cpp reads it, in float32, without a vocabulary's texts."""
    import gguf

    config = model.config
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.norm_eps)
    writer.add_rope_dimension_count(config.head_dim)
    writer.add_rope_freq_base(config.ropes[0].theta)
    writer.add_vocab_size(config.vocab_size)
    writer.add_tokenizer_model("no_vocab")
    if config.ropes[0].scaling == "llama3":
        writer.add_tensor("rope_freqs.weight", llama3_factors(config.ropes[0]))
    writer.add_tensor("token_embd.weight", model.embedding.table)
    writer.add_tensor("output_norm.weight", model.norm.weight)
    for number, layer in enumerate(model.layers):
        attention, feed_forward = layer.attention, layer.feed_forward
        matrices = {
            "attn_norm": layer.attention_norm.weight,
            "attn_q": interleaved(attention.query.weight, config.head_dim),
            "attn_k": interleaved(attention.key.weight, config.head_dim),
            "attn_v": attention.value.weight,
            "attn_output": attention.output.weight,
            "ffn_norm": layer.feed_forward_norm.weight,
            "ffn_gate": feed_forward.gate.weight,
            "ffn_up": feed_forward.up.weight,
            "ffn_down": feed_forward.down.weight,
        }
        for name, matrix in matrices.items():
            writer.add_tensor(f"blk.{number}.{name}.weight", np.ascontiguousarray(matrix))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def interleaved(weight, head_dim):
    """Rows for pairs (2i, 2i + 1), which llama.cpp turns, from rows for pairs (i, i + D / 2), which we turn."""
    heads = weight.reshape(-1, 2, head_dim // 2, weight.shape[1])
    return heads.transpose(0, 2, 1, 3).reshape(weight.shape)


def llama3_factors(rope):
    """What llama.cpp divides its angles by: one number per pair."""
    from dataclasses import replace

    from tinyslm.ops.rotary import inverse_frequencies

    return inverse_frequencies(replace(rope, scaling="default"), 1) / inverse_frequencies(rope, 1)


def prompt(other, token_ids):
    """A function that reads a prompt, and returns the logits of the token that follows."""
    tokens = token_ids[0].tolist()

    def read():
        other.reset()
        other.eval(tokens)
        return logits_of(other)

    return read


def generation(other, token_ids, new_tokens):
    """A function that continues a prompt greedily, and returns the new tokens."""
    tokens = token_ids[0].tolist()

    def write():
        other.reset()
        other.eval(tokens)
        written = []
        for _ in range(new_tokens):
            written.append(int(logits_of(other).argmax()))
            if len(written) < new_tokens:
                other.eval(written[-1:])
        return np.array([written])

    return write


def logits_of(other):
    """Those of the last token: (1, V)."""
    return np.ctypeslib.as_array(other._ctx.get_logits_ith(-1), (1, other.n_vocab()))
