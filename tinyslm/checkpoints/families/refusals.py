"""Configurations that transformers 5 does not load, although a config.json of the family can hold them.

Slicing leads to them: heads keep their size, and transformers derives other sizes from hidden_size and
num_attention_heads. Each function returns the reason, or "".
"""

from collections.abc import Callable

from tinyslm.checkpoints.families.rope import write_rope
from tinyslm.models import DecoderConfig


def width(config: DecoderConfig) -> str:
    """The width must be a multiple of the number of heads, also if the head size is another one."""
    C, H = config.hidden_size, config.num_attention_heads
    return f"hidden_size {C} must be a multiple of num_attention_heads {H} there" if C % H else ""


def head_norms(config: DecoderConfig) -> str:
    """Norms of query and key heads ignore the key of the head size."""
    C, H, D = config.hidden_size, config.num_attention_heads, config.head_dim
    if not config.query_key_norm or C // H == D:
        return ""
    return f"norms of query and key heads have the size {C} // {H} there, but {D} here"


def longrope(config: DecoderConfig) -> str:
    """The check of the number of longrope factors ignores the key of the head size."""
    rope = next(filter(None, config.ropes), None)
    if rope is None or rope.scaling != "longrope":
        return ""
    C, H = config.hidden_size, config.num_attention_heads
    fraction = write_rope(rope, config.head_dim).get("partial_rotary_factor", 1.0)
    expected, found = int(C // H * fraction) // 2, rope.dimension // 2
    if expected == found:
        return ""
    return f"{expected} longrope factors are expected there, for heads of the size {C} // {H}, but here are {found}"


REFUSALS: dict[str, Callable[[DecoderConfig], str]] = {
    "gemma2": width,
    "gemma3_text": width,
    "llama": width,
    "phi": head_norms,
    "phi3": longrope,
}
