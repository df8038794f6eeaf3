"""Configurations of the small models that are trained on the built-in corpus."""

from dataclasses import replace

from tinyslm.models.catalogue import decoder
from tinyslm.models.config import DecoderConfig


def llama_shape(
    vocab_size: int,
    hidden_size: int,
    intermediate_size: int,
    num_hidden_layers: int,
    num_attention_heads: int,
    num_key_value_heads: int,
    max_position_embeddings: int = 256,
    end_id: int = 0,
) -> DecoderConfig:
    """Configuration of a Llama with a tied head and head_dim = hidden_size / num_attention_heads.

    end_id: the token id that begins, ends and pads documents.
    """
    head_dim = hidden_size // num_attention_heads
    sizes = (vocab_size, hidden_size, intermediate_size, num_hidden_layers, num_attention_heads, num_key_value_heads)
    tokens = dict.fromkeys(("bos_token_id", "eos_token_id", "pad_token_id"), end_id)
    rope = {"theta": 10000.0}
    return decoder("llama", *sizes, head_dim, max_position_embeddings, ropes=(rope,), norm_eps=1e-5, **tokens)


TINY_SHAPES = {  # C, F, layers, H, G
    "teacher": (256, 512, 6, 8, 4),
    "small": (128, 352, 4, 4, 2),
    "smallest": (64, 176, 2, 4, 2),
}


def tiny_config(
    name: str, vocab_size: int, max_position_embeddings: int = 256, *, biases: bool = False
) -> DecoderConfig:
    """The configuration of TINY_SHAPES[name] for a vocabulary.

    biases: whether it is a Qwen2, which is a Llama with biases of queries, keys and values.
    """
    config = llama_shape(vocab_size, *TINY_SHAPES[name], max_position_embeddings=max_position_embeddings)
    return replace(config, family="qwen2", attention_bias=True) if biases else config
