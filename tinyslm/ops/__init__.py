"""Layer-level operations of a transformer, each with its output and its vector-Jacobian product (vjp).

`attention` is the definition, `chunked_attention` the fast form that modules call. Inputs and results follow the policy
for numbers in `tinyslm.errors`.
"""

from tinyslm.ops.activation import ACTIVATIONS, gated, gelu, gelu_tanh, relu, silu, softcap, tanh
from tinyslm.ops.attention import attention, attention_probabilities
from tinyslm.ops.chunked_attention import chunked_attention
from tinyslm.ops.cross_entropy import IGNORED, cross_entropy, log_softmax
from tinyslm.ops.embedding import embedding
from tinyslm.ops.linear import linear
from tinyslm.ops.normalization import layer_norm, rms_norm
from tinyslm.ops.relative_positions import relative_position_bias, relative_position_buckets
from tinyslm.ops.rotary import Rope, query_scales, rotary, rotary_tables
from tinyslm.ops.routing import (
    choose_experts,
    combine_experts,
    routing_probabilities,
    routing_weights,
    take_rows,
)

__all__ = [
    "ACTIVATIONS",
    "IGNORED",
    "Rope",
    "attention",
    "attention_probabilities",
    "choose_experts",
    "chunked_attention",
    "combine_experts",
    "cross_entropy",
    "embedding",
    "gated",
    "gelu",
    "gelu_tanh",
    "layer_norm",
    "linear",
    "log_softmax",
    "query_scales",
    "relative_position_bias",
    "relative_position_buckets",
    "relu",
    "rms_norm",
    "rotary",
    "rotary_tables",
    "routing_probabilities",
    "routing_weights",
    "silu",
    "softcap",
    "take_rows",
    "tanh",
]
