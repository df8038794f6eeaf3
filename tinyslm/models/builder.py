"""A model of a configuration: with random numbers to train, or of shapes alone."""

import numpy as np

from tinyslm.models.config import DecoderConfig
from tinyslm.models.decoder import build_decoder
from tinyslm.models.encoder import build_encoder
from tinyslm.models.encoder_config import EncoderConfig
from tinyslm.models.encoder_decoder import build_encoder_decoder
from tinyslm.models.encoder_decoder_config import EncoderDecoderConfig

BUILDERS = {
    DecoderConfig: build_decoder,
    EncoderConfig: build_encoder,
    EncoderDecoderConfig: build_encoder_decoder,
}


def build_model(config, make):
    """The model of a configuration, with every array by `make(shape, kind)`; the kinds are those of `ModuleFactory`."""
    return BUILDERS[type(config)](config, make)


def random_model(config, seed=0, dtype=np.float32, deviation=None):
    """A model to start training from: normal weights of standard deviation 1 / sqrt(C), gains 1, shifts 0.

    The usual 0.02 is about that for C = 2048. In a narrow model it makes queries and keys so small that attention
    stays nearly uniform, and copying from the context is learned late. Weights that write to the residual stream are
    smaller by sqrt(2 * layers), of the deeper stack where there are two, so that its size does not grow with depth.
    Source: Radford et al. 2019 (GPT-2), section 2.3, for the latter.
    """
    deviation = deviation or config.hidden_size**-0.5
    rng = np.random.default_rng(seed)

    def make(shape, kind):
        if kind == "gain":
            return np.full(shape, 1 - config.norm_offset, dtype)
        if kind == "shift":
            return np.zeros(shape, dtype)
        spread = deviation
        if kind == "residual":
            spread = deviation / np.sqrt(2 * max(config.num_hidden_layers, config.num_decoder_layers))
        if kind == "query":  # scores are then of the same size however they are scaled
            spread = deviation * (config.head_dim**-0.5 / config.scale)
        return (rng.standard_normal(shape, np.float32) * np.float32(spread)).astype(dtype)

    return build_model(config, make)


def shape_model(config):
    """A model of zeros that take no memory: every array has its shape, and all its entries are one number."""
    return build_model(config, lambda shape, kind: np.broadcast_to(np.float32(0), shape))
