"""The parts of a transformer as dataclasses of arrays. Calling a part computes it; nothing is remembered in it."""

from tinyslm.modules.attention import Attention
from tinyslm.modules.block import Block
from tinyslm.modules.context import Context, ignore
from tinyslm.modules.cross_attention import CrossAttention
from tinyslm.modules.embedding import Embedding
from tinyslm.modules.feed_forward import FeedForward
from tinyslm.modules.linear import Linear
from tinyslm.modules.mixture import MixtureOfExperts
from tinyslm.modules.normalization import LayerNorm, RMSNorm
from tinyslm.modules.post_norm_block import PostNormBlock
from tinyslm.modules.prediction import Prediction
from tinyslm.modules.relative_positions import RelativePositions
from tinyslm.modules.weighted import LinearLayer, Weighted

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
    "MixtureOfExperts",
    "PostNormBlock",
    "Prediction",
    "RMSNorm",
    "RelativePositions",
    "Weighted",
    "ignore",
]
