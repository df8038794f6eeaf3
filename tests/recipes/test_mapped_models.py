"""Compression of a model that stays in its file: equal to one in memory, and no more memory for more blocks."""

import os
import subprocess
import sys

import numpy as np
import pytest

from tests.process_memory import STATUS
from tests.recipes.models import tiny_calibration, tiny_model
from tinyslm.checkpoints import load_model, save_model
from tinyslm.checkpoints.mapped_layers import MappedLayer, MappedLinear
from tinyslm.checkpoints.upcasting import is_mapped
from tinyslm.models import random_model
from tinyslm.models.tiny_shapes import llama_shape
from tinyslm.modules import Linear, LinearLayer
from tinyslm.recipes import FoldMasks, PruneSparseGPT, PruneWanda, Quantize, QuantizeGPTQ, compress
from tinyslm.recipes.linear_layers import compressible_layers
from tinyslm.tree import named_arrays, named_modules

STEPS = [
    QuantizeGPTQ(bits=4),
    PruneWanda(0.5),
    PruneSparseGPT(0.5),
    Quantize(bits=4),
    Quantize(symmetric=False, per_channel=False, dynamic_activations=True),
]


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
@pytest.mark.parametrize("step", STEPS)
def test_weights_that_stay_in_their_file_are_compressed_as_those_in_memory(step, dtype, tmp_path):
    save_model(tmp_path / "model", tiny_model(experts=2), dtype=dtype)
    in_memory, mapped = (load_model(tmp_path / "model", weights) for weights in ("float32", "mapped"))
    calibration = tiny_calibration(in_memory)
    expected, found = (compress(model, [step], calibration)[0] for model in (in_memory, mapped))
    compressed = {path: layer for path, layer in named_modules(found, LinearLayer).items() if "router" not in path}
    assert not any(isinstance(layer, MappedLinear) for path, layer in compressed.items() if "layers" in path)
    tokens = np.arange(20)[None]
    np.testing.assert_allclose(found(tokens), expected(tokens), rtol=1e-5, atol=1e-5)
    for path, layer in compressed.items():
        np.testing.assert_array_equal(layer.dense_weight(), named_modules(expected, LinearLayer)[path].dense_weight())
    for path, array in named_arrays(found).items():  # in a temporary file, or still in that of the model
        assert not array.flags.owndata or "norm" in path, path


@pytest.mark.parametrize("step", STEPS)
def test_the_result_of_a_mapped_model_is_saved_as_that_of_one_in_memory(step, tmp_path):
    save_model(tmp_path / "model", tiny_model(experts=2), dtype="bfloat16")
    models = {weights: load_model(tmp_path / "model", weights) for weights in ("float32", "mapped")}
    calibration = tiny_calibration(models["float32"])
    for weights, model in models.items():
        save_model(tmp_path / weights, compress(model, [step], calibration)[0])
    for name in ("config.json", "model.safetensors"):
        assert (tmp_path / "mapped" / name).read_bytes() == (tmp_path / "float32" / name).read_bytes()
    assert not named_modules(load_model(tmp_path / "mapped"), MappedLayer)


def test_folded_masks_stay_in_a_file_too(tmp_path):
    save_model(tmp_path / "model", tiny_model())
    for weights in ("mapped", "float32"):
        model = load_model(tmp_path / "model", weights)
        steps = [PruneWanda(0.5), FoldMasks()]
        folded, _ = compress(model, steps, tiny_calibration(model))
        layers = [layer for path, layer in named_modules(folded, Linear).items() if "layers" in path]
        assert len(layers) == len(compressible_layers(model))
        assert {is_mapped(layer.weight) for layer in layers} == {weights == "mapped"}


@pytest.mark.slow
@pytest.mark.skipif(not STATUS.exists(), reason="only Linux tells the peak memory of one process")
@pytest.mark.parametrize("step", ["QuantizeGPTQ(bits=4)", "PruneWanda(0.5)", "Quantize()"])
def test_the_memory_of_compression_does_not_grow_with_the_depth(step, tmp_path):
    """12 more blocks have 85 MB in float32, 42 MB in their file, and 21 MB as INT8."""
    peaks = {}
    for depth in (3, 15):
        save_model(tmp_path / str(depth), random_model(llama_shape(500, 384, 1024, depth, 6, 6, 64)), dtype="bfloat16")
        arguments = [tmp_path / str(depth), tmp_path / f"out{depth}", step]
        command = [sys.executable, "-m", "tests.recipes.peak_memory", *map(str, arguments)]
        own = os.environ | {"TINYSLM_RUNTIME": "off"}  # freed memory is returned at once
        peaks[depth] = int(subprocess.run(command, check=True, capture_output=True, text=True, env=own).stdout)
    assert peaks[15] - peaks[3] < 10e6
