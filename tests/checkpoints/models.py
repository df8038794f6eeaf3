"""Small models of each family, and ways of damaging their checkpoints, for the tests of this directory."""

import json

import numpy as np

from tests.checkpoints.test_families import read
from tests.strategies import generic_decoder
from tinyslm.checkpoints import read_safetensors, write_safetensors
from tinyslm.tree import named_arrays

FAMILY_NAMES = ("llama", "mistral", "mixtral", "gpt2")
BIASED = {"attention_bias": True, "mlp_bias": True}
SMALLER = {"num_hidden_layers": 2, "num_local_experts": 3}


def small_model(family, seed=0, **values):
    """A model in generic position, with biases where its family can have them."""
    config = read(family, **SMALLER | (BIASED if family == "llama" else {}) | values)
    return generic_decoder(config, seed, np.float32)


def assert_same_model(found, wanted):
    """The same configuration, kinds of modules, and arrays bit for bit."""
    assert found.config == wanted.config
    assert repr(found) == repr(wanted)
    arrays, expected = named_arrays(found), named_arrays(wanted)
    assert list(arrays) == list(expected)
    for path, array in arrays.items():
        assert (array.dtype, array.shape) == (expected[path].dtype, expected[path].shape), path
        assert array.tobytes() == expected[path].tobytes(), path
        assert array.flags.writeable and array.flags.c_contiguous and type(array) is np.ndarray, path


def change_config(directory, **changes):
    """Change keys of a config.json; None removes the key."""
    path = directory / "config.json"
    values = json.loads(path.read_text()) | changes
    path.write_text(json.dumps({key: value for key, value in values.items() if value is not None}))


def change_tensors(directory, changes):
    """Change tensors of a checkpoint: {name: array}; None removes the tensor."""
    path = directory / "model.safetensors"
    arrays = {name: tensor.read() for name, tensor in read_safetensors(path).items()} | changes
    write_safetensors(path, {name: array for name, array in arrays.items() if array is not None})
