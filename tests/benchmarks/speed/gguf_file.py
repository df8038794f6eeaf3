"""A decoder as llama.cpp reads it."""

from dataclasses import replace

import numpy as np

from tinyslm.ops.rotary import inverse_frequencies


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
    return inverse_frequencies(replace(rope, scaling="default"), 1) / inverse_frequencies(rope, 1)
