"""Build a model from a configuration: with random weights, or with shapes only."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

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
    """Model with the given configuration. make(shape, kind) returns each array; `ModuleFactory` lists the kinds."""
    return BUILDERS[type(config)](config, make)


def random_model(config: Config, seed: int = 0, dtype: Any = np.float32, deviation: float | None = None) -> Module:
    """Model with random initial weights: normal with standard deviation `deviation`, gains 1, biases 0.

    The model came from no file, so its configuration has no `source`.
    deviation: 1 / sqrt(C) by default. The usual value 0.02 is about 1 / sqrt(C) for C = 2048. In a narrow model, 0.02
    makes queries and keys so small that attention stays nearly uniform, and the model learns late to copy from the
    context. Projections whose output is added to the residual stream get `deviation` / sqrt(2 * layers), where `layers`
    is the depth of the deeper stack. So the variance of the residual stream does not grow with depth.
    Source of this factor: Radford et al. 2019 (GPT-2), section 2.3.
    """
    deviation = deviation or config.hidden_size**-0.5
    rng = np.random.default_rng(seed)
    depth = max(config.num_hidden_layers, config.num_decoder_layers)
    deviations = {
        "residual": deviation / np.sqrt(2 * depth),
        "query": deviation * (config.head_dim**-0.5 / config.scale),  # score variance independent of `scale`
    }

    def make(shape, kind):
        if kind == "gain":
            return np.full(shape, 1 - config.norm_offset, dtype)
        if kind == "bias":
            return np.zeros(shape, dtype)
        weights = rng.standard_normal(shape, np.float32)
        return (weights * np.float32(deviations.get(kind, deviation))).astype(dtype)

    return build_model(replace(config, source=None), make)


def shape_model(config: Config) -> Module:
    """Model of zeros that uses almost no memory: each array is one zero, broadcast to the array's shape."""
    return build_model(config, lambda shape, kind: np.broadcast_to(np.float32(0), shape))
