"""A training on disk: everything that is needed to go on as if it had never stopped."""

import numpy as np

from tinyslm.checkpoints.safetensors import read_safetensors, write_safetensors
from tinyslm.errors import CheckpointError
from tinyslm.training.loop import State


def save_state(path, state: State):
    """Write a state to one file, which is replaced as a whole: a kill at any moment leaves the old one or the new."""
    write_safetensors(path, _arrays(state) | _progress(state))


def restore_state(path, state: State) -> State:
    """Fill a fresh state (`State.start` with the same model and settings) with what `save_state` wrote.

    Raises CheckpointError, with the state as it was, if the file is missing or damaged, or of another model.
    """
    tensors = {name: tensor.read() for name, tensor in read_safetensors(path).items()}
    expected = _arrays(state) | _progress(state)
    for name in sorted(expected.keys() | tensors.keys()):
        found, wanted = (_kind(side.get(name), name) for side in (tensors, expected))
        if found != wanted:
            raise CheckpointError(f"{path}: {name} is {found}, expected {wanted}; it is of another training")
    for name, array in _arrays(state).items():
        array[...] = tensors[name]
    state.step = state.optimizer.steps = int(tensors["step"][0])
    state.seconds = float(tensors["seconds"][0])
    state.losses = tensors["losses"].tolist()
    return state


def _arrays(state):
    """{name in the file: array} of all that a step changes in place."""
    optimizer = state.optimizer
    kinds = {
        "parameter": optimizer.parameters,
        "first_moment": optimizer.first_moments,
        "second_moment": optimizer.second_moments,
    }
    return {f"{kind}.{path}": array for kind, arrays in kinds.items() for path, array in arrays.items()}


def _progress(state):
    """How far the training is, as arrays of one axis."""
    return {
        "step": np.array([state.step], np.int64),
        "seconds": np.array([state.seconds]),
        "losses": np.array(state.losses, np.float64),
    }


def _kind(array, name):
    """What must agree between a file and a state. There may be any number of losses."""
    if array is None:
        return "missing"
    return f"{array.dtype}[n]" if name == "losses" else f"{array.dtype}{list(array.shape)}"
