"""Whole models, built from a configuration."""

from tinyslm.models.config import DecoderConfig
from tinyslm.models.decoder import Decoder, build_decoder, random_decoder, shape_decoder
from tinyslm.models.loss import next_token_loss
from tinyslm.models.trace import trace

__all__ = ["Decoder", "DecoderConfig", "build_decoder", "next_token_loss", "random_decoder", "shape_decoder", "trace"]
