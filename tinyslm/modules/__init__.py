"""The modules of a transformer: dataclasses of arrays without hidden state. Calling a module computes its output."""

from tinyslm.modules.attention import Attention
from tinyslm.modules.block import Block
from tinyslm.modules.cross_attention import CrossAttention
from tinyslm.modules.embedding import Embedding
from tinyslm.modules.feed_forward import FeedForward
from tinyslm.modules.forward_context import Context, SelectiveObserver
from tinyslm.modules.linear import Linear
from tinyslm.modules.masked_lm_head import MaskedLMHead
from tinyslm.modules.mixture_of_experts import MixtureOfExperts
from tinyslm.modules.normalization import LayerNorm, RMSNorm
from tinyslm.modules.parallel_block import ParallelBlock
from tinyslm.modules.post_norm_block import PostNormBlock
from tinyslm.modules.relative_positions import RelativePositions
from tinyslm.modules.weight_layers import LinearLayer, WeightLayer

__all__ = [
    "Attention",
    "Block",
    "Context",
    "CrossAttention",
    "Embedding",
    "FeedForward",
    "LayerNorm",
    "Linear",
    "LinearLayer",
    "MaskedLMHead",
    "MixtureOfExperts",
    "ParallelBlock",
    "PostNormBlock",
    "RMSNorm",
    "RelativePositions",
    "SelectiveObserver",
    "WeightLayer",
]
