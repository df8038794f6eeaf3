"""Models of every family with drawn sizes, calibration data for them, and comparisons of their outputs."""

import math
from dataclasses import replace
from typing import NamedTuple

import numpy as np
from hypothesis import strategies as st

from tests.checkpoints.models import ALL_FAMILIES, small_model
from tests.strategies import generic_model, seeds
from tinyslm.models import EncoderDecoder, shape_model
from tinyslm.recipes import (
    Calibration,
    compress,
)
from tinyslm.recipes.linear_layers import is_compressible
from tinyslm.tree import named_arrays, named_modules

MASK_TOKEN = 3


class Drawn(NamedTuple):
    """A config and a seed: they determine a model, and are shorter to print."""

    config: object
    seed: int

    def model(self):
        """The model, in generic position."""
        return generic_model(self.config, self.seed, np.float32)


@st.composite
def drawn(draw, families=ALL_FAMILIES):
    """A model of any family, of drawn sizes."""
    family = draw(st.sampled_from(families))
    config = small_model(family).config
    layers = draw(st.integers(1, 3))
    sizes = {
        "vocab_size": draw(st.integers(20, 33)),
        "intermediate_size": draw(st.integers(3, 17)),
        "num_hidden_layers": layers,
    }
    for field in ("ropes", "windows", "dense_layers"):  # the two layers of the small model, in turn
        if hasattr(config, field):
            sizes[field] = tuple(getattr(config, field)[i % 2] for i in range(layers))
    if config.num_decoder_layers:
        sizes["num_decoder_layers"] = draw(st.integers(1, 3))
    if getattr(config, "num_experts", 0):
        sizes["num_experts"] = draw(st.integers(2, 4))
    if hasattr(config, "tie_word_embeddings"):
        sizes["tie_word_embeddings"] = draw(st.booleans()) and not getattr(config, "head_bias", False)
    return Drawn(replace(config, **sizes), draw(seeds))


def calibrated(model, count=6):
    """Documents of random tokens of different lengths."""
    rng = np.random.default_rng(0)
    documents = [rng.integers(0, model.config.vocab_size, length).astype(np.int32) for length in range(4, 4 + count)]
    return Calibration(documents, model, mask_token_id=MASK_TOKEN)


def outputs(model, calibration):
    """The outputs of a model of any kind for the first three documents."""
    return [model(**task.inputs) for task in calibration.sample()[:3]]


def apply(model, *steps):
    """(compressed model, its outputs, outputs of the model itself)."""
    calibration = calibrated(model)
    smaller, _ = compress(model, list(steps), calibration)
    return smaller, outputs(smaller, calibration), outputs(model, calibration)


def assert_outputs(found, wanted, **tolerance):
    for one, other in zip(found, wanted, strict=True):
        np.testing.assert_allclose(one, other, **tolerance)


def assert_config_equals_shapes(model):
    shapes = {path: array.shape for path, array in named_arrays(shape_model(model.config)).items()}
    assert {path: array.shape for path, array in named_arrays(model).items()} == shapes


def layer_numbers(model):
    """(all layers, all layers of the decoder of an encoder-decoder or None)."""
    if isinstance(model, EncoderDecoder):
        return tuple(range(len(model.encoder.layers))), tuple(range(len(model.decoder.layers)))
    return tuple(range(len(model.layers))), None


def layer_parameters(model):
    """Number of parameters of the linear layers in the blocks, without biases and routers."""
    return sum(
        sum(math.prod(shape) for shape in layer.shapes())
        for path, layer in named_modules(model).items()
        if hasattr(layer, "shapes") and is_compressible(path)
    )
