"""Directories of quantized models, valid ones and damaged ones, from a seeded `random.Random`."""

import json
import warnings
from functools import cache
from pathlib import Path

import numpy as np

from tests.checkpoints.fuzz_directories import damage_config, damage_weights
from tests.checkpoints.fuzz_files import parsed_file
from tests.checkpoints.fuzz_json import Pairs, damage_value, json_bytes, odd_value, pairs_of
from tinyslm.checkpoints import load_model
from tinyslm.checkpoints.reading import CONFIG, WEIGHTS
from tinyslm.compression.quantization import OutlierLinear
from tinyslm.errors import CheckpointWarning, DataError
from tinyslm.modules import Linear
from tinyslm.tree import named_modules

GOLDEN = Path(__file__).parent.parent / "golden" / "quantized"
FORMS = ("float32", "stored", "int8")
SECTION = "quantization_config"
KEYS = {  # {key: values for it}
    "bits": [2, 3, 4, 5, 8, 16, 0],
    "group_size": [-1, 0, 1, 8, 16, 24, 32, 64, 128, 2**40, None],
    "quant_method": ["gptq", "awq", "bitsandbytes", "compressed-tensors", "fp8", "hqq"],
    "checkpoint_format": ["gptq", "gptq_v2", "marlin"],
    "version": ["gemm", "gemv"],
    "format": ["pack-quantized", "int-quantized", "float-quantized", "marlin-24", "dense"],
    "weight_block_size": [None, [1, 1], [16, 16], [0, 0], [10**6, 10**6], [16]],
    "zero_point": [True, False],
    "sym": [True, False],
    "llm_int8_threshold": [0, 6.0, -1, 1e300],
    "num_bits": [2, 3, 4, 5, 8, 9],
    "symmetric": [True, False],
    "strategy": ["tensor", "channel", "group", "block", "token"],
    "type": ["int", "float"],
    "block_structure": [None, [16, 16], [1, 0]],
}


@cache
def valid_directories():
    """The golden directories, as {file name: bytes}."""
    return [{name: (path / name).read_bytes() for name in (CONFIG, WEIGHTS)} for path in sorted(GOLDEN.iterdir())]


def damaged_quantized(rng):
    """The files of a directory that may be a valid quantized model, damaged or nonsense."""
    files = dict(rng.choice(valid_directories()))
    if rng.random() < 0.5:
        rng.choice([_damage_settings, _damage_settings, _damage_settings, damage_config])(rng, files)
    if rng.random() < 0.5:
        rng.choice([_damage_numbers, _damage_numbers, damage_weights])(rng, files)
    return files


def _damage_settings(rng, files):
    """Another value in the quantization settings, at any depth."""
    config = pairs_of(json.loads(files[CONFIG]))
    section = config.get(SECTION)
    if not isinstance(section, Pairs):
        return
    key = rng.choice(list(KEYS))
    value = pairs_of(rng.choice(KEYS[key])) if rng.random() < 0.8 else odd_value(rng)
    kind = rng.random()
    if kind < 0.1:
        damage_value(rng, section)
    elif kind < 0.15:
        config.set(SECTION, odd_value(rng))
    else:
        places = [place for place in _objects(section) if key in place.names()]
        rng.choice(places or [section]).set(key, value)
    files[CONFIG] = json_bytes(config)


def _objects(value):
    """All objects in a value, itself first."""
    if isinstance(value, Pairs):
        yield value
        for each in value.values():
            yield from _objects(each)


def _damage_numbers(rng, files):
    """Other bytes in one tensor: a few, or all of them equal."""
    file = parsed_file(files[WEIGHTS])
    entries = [entry for name, entry in file.header if isinstance(entry, Pairs) and name != "__metadata__"]
    offsets = rng.choice(entries).get("data_offsets")
    begin, end = offsets
    data = bytearray(file.data)
    if rng.random() < 0.5:
        data[begin:end] = bytes([rng.choice([0, 255, 127, 128, 1])]) * (end - begin)
    else:
        data[rng.randrange(begin, end)] = rng.randrange(256)
    file.data = bytes(data)
    files[WEIGHTS] = file.content()


def read_quantized(path, weights):
    """The model. A warning that weights are dequantized, or that a head is left out, is no failure."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", CheckpointWarning)
        return load_model(path, weights)


def check_quantized(model, path, weights):
    """Raise AssertionError unless the layers hold the dequantized weights, and the model can be used."""
    if weights == "stored":
        dense = named_modules(read_quantized(path, "float32"), Linear)
        for name, layer in named_modules(model).items():
            if name in dense:
                with np.errstate(all="ignore"):
                    weight = layer.dense_weight()
                np.testing.assert_array_equal(weight, dense[name].weight, err_msg=name, strict=True)
    try:
        with np.errstate(all="ignore"):
            logits = model(np.zeros((1, 1), int))
    except DataError as problem:
        quantizes = weights == "int8" or named_modules(model, OutlierLinear)
        assert quantizes or "nan" in str(problem) or "overflow" in str(problem) or "scale" in str(problem), str(problem)
        return
    assert logits.shape == (1, 1, model.config.vocab_size), f"logits {logits.shape}"
