"""Whole models, built from a configuration: decoder, encoder, encoder-decoder, and their losses."""

from tinyslm.models.builder import build_model, random_model, shape_model
from tinyslm.models.config import DecoderConfig
from tinyslm.models.decoder import Decoder
from tinyslm.models.encoder import Encoder
from tinyslm.models.encoder_config import EncoderConfig
from tinyslm.models.encoder_decoder import EncoderDecoder
from tinyslm.models.encoder_decoder_config import EncoderDecoderConfig
from tinyslm.models.layer_stacks import layer_stacks
from tinyslm.models.losses import (
    masked_token_loss,
    next_token_loss,
    next_token_losses,
    sequence_to_sequence_loss,
)
from tinyslm.models.sentence_embeddings import sentence_embeddings
from tinyslm.models.trace import trace

__all__ = [
    "Decoder",
    "DecoderConfig",
    "Encoder",
    "EncoderConfig",
    "EncoderDecoder",
    "EncoderDecoderConfig",
    "build_model",
    "layer_stacks",
    "masked_token_loss",
    "next_token_loss",
    "next_token_losses",
    "random_model",
    "sentence_embeddings",
    "sequence_to_sequence_loss",
    "shape_model",
    "trace",
]
