"""Whole models, built from a configuration."""

from tinyslm.models.build import build_model, random_model, shape_model
from tinyslm.models.config import DecoderConfig
from tinyslm.models.decoder import Decoder
from tinyslm.models.loss import next_token_loss
from tinyslm.models.trace import trace

__all__ = ["Decoder", "DecoderConfig", "build_model", "next_token_loss", "random_model", "shape_model", "trace"]
