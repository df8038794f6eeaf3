"""Build a model from a configuration: with random weights, or with shapes only."""

from collections.abc import Callable

import numpy as np

from tinyslm.models.config import DecoderConfig
from tinyslm.models.decoder import build_decoder
from tinyslm.models.encoder import build_encoder
from tinyslm.models.encoder_config import EncoderConfig
from tinyslm.models.encoder_decoder import build_encoder_decoder
from tinyslm.models.encoder_decoder_config import EncoderDecoderConfig
from tinyslm.tree import Module

BUILDERS: dict[type, Callable] = {
    DecoderConfig: build_decoder,
    EncoderConfig: build_encoder,
    EncoderDecoderConfig: build_encoder_decoder,
}
Config = DecoderConfig | EncoderConfig | EncoderDecoderConfig


def build_model(config: Config, make: Callable) -> Module:
    """The model of a configuration. `make(shape, kind)` makes every array; `ModuleFactory` lists the kinds."""
    return BUILDERS[type(config)](config, make)


def random_model(config: Config, seed: int = 0, dtype=np.float32, deviation: float | None = None) -> Module:
    """A model with random initial weights: normal with standard deviation `deviation`, gains 1, biases 0.

    deviation: 1 / sqrt(C) by default. The usual 0.02 is about that for C = 2048. In a narrow model, 0.02 makes queries
    and keys so small that attention stays nearly uniform, and copying from the context is learned late. Weights that
    write to the residual stream are divided by sqrt(2 * layers), with the layers of the deeper stack, so that its
    variance does not grow with depth.
    Source: Radford et al. 2019 (GPT-2), section 2.3, for the division.
    """
    deviation = deviation or config.hidden_size**-0.5
    rng = np.random.default_rng(seed)
    depth = max(config.num_hidden_layers, config.num_decoder_layers)
    deviations = {
        "residual": deviation / np.sqrt(2 * depth),
        "query": deviation * (config.head_dim**-0.5 / config.scale),  # scores have one variance for every `scale`
    }

    def make(shape, kind):
        if kind == "gain":
            return np.full(shape, 1 - config.norm_offset, dtype)
        if kind == "bias":
            return np.zeros(shape, dtype)
        weights = rng.standard_normal(shape, np.float32)
        return (weights * np.float32(deviations.get(kind, deviation))).astype(dtype)

    return build_model(config, make)


def shape_model(config: Config) -> Module:
    """A model of zeros that need no memory: each array has its shape, and all its entries share one number."""
    return build_model(config, lambda shape, kind: np.broadcast_to(np.float32(0), shape))
