"""The tiny models that are trained on the built-in corpus."""

from tinyslm.models.config import DecoderConfig
from tinyslm.ops import Rope


def llama_shape(
    vocab_size,
    hidden_size,
    intermediate_size,
    num_hidden_layers,
    num_attention_heads,
    num_key_value_heads,
    max_position_embeddings=256,
    end_id=0,
) -> DecoderConfig:
    """A Llama with tied embeddings whose heads divide its width; `end_id` begins, ends and pads documents."""
    head_dim = hidden_size // num_attention_heads
    return DecoderConfig(
        family="llama",
        vocab_size=vocab_size,
        hidden_size=hidden_size,
        intermediate_size=intermediate_size,
        num_hidden_layers=num_hidden_layers,
        num_attention_heads=num_attention_heads,
        num_key_value_heads=num_key_value_heads,
        head_dim=head_dim,
        max_position_embeddings=max_position_embeddings,
        ropes=(Rope(theta=10000.0, dimension=head_dim),) * num_hidden_layers,
        norm_eps=1e-5,
        bos_token_id=end_id,
        eos_token_id=end_id,
        pad_token_id=end_id,
    )


TINY_SHAPES = {  # width, feed-forward width, layers, heads, key/value heads
    "teacher": (256, 512, 6, 8, 4),
    "small": (128, 352, 4, 4, 2),
    "smallest": (64, 176, 2, 4, 2),
}


def tiny_config(name, vocab_size, max_position_embeddings=256) -> DecoderConfig:
    """One of TINY_SHAPES for a vocabulary."""
    return llama_shape(vocab_size, *TINY_SHAPES[name], max_position_embeddings=max_position_embeddings)
