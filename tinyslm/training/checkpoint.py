"""Training checkpoints: a state on disk, from which a run resumes bit for bit."""

import math

import numpy as np

from tinyslm.checkpoints.safetensors import read_safetensors, write_safetensors
from tinyslm.errors import CheckpointError
from tinyslm.training.loop import State


def save_state(path, state: State) -> None:
    """Write a state to one file, atomically: after a crash the file is the old one or the new one."""
    write_safetensors(path, _arrays(state) | _progress(state))


def restore_state(path, state: State) -> State:
    """Fill a new state (`State.start` with the same model and settings) with a file of `save_state`.

    Raises CheckpointError, and leaves the state unchanged, if the file is missing, damaged, or of another model.
    """
    tensors = {name: tensor.read() for name, tensor in read_safetensors(path).items()}
    expected = _arrays(state) | _progress(state)
    for name in sorted(expected.keys() | tensors.keys()):
        found, wanted = (_kind(side.get(name), name) for side in (tensors, expected))
        if found != wanted:
            raise CheckpointError(f"{path}: {name} is {found}, expected {wanted}; the file is from another run")
    step, seconds, losses = int(tensors["step"][0]), float(tensors["seconds"][0]), tensors["losses"].tolist()
    if step != len(losses):
        raise CheckpointError(f"{path}: step is {step}, expected {len(losses)}, the number of losses")
    if not 0 <= seconds < math.inf:
        raise CheckpointError(f"{path}: seconds is {seconds}, expected a finite number of at least 0")
    for name, array in _arrays(state).items():
        array[...] = tensors[name]
    state.step = state.optimizer.steps = step
    state.seconds, state.losses = seconds, losses
    return state


def _arrays(state):
    """{name in the file: array} of the parameters and their moments, which a step changes in place."""
    optimizer = state.optimizer
    kinds = {
        "parameter": optimizer.parameters,
        "first_moment": optimizer.first_moments,
        "second_moment": optimizer.second_moments,
    }
    return {f"{kind}.{path}": array for kind, arrays in kinds.items() for path, array in arrays.items()}


def _progress(state):
    """Step, seconds and losses as arrays with one axis."""
    return {
        "step": np.array([state.step], np.int64),
        "seconds": np.array([state.seconds]),
        "losses": np.array(state.losses, np.float64),
    }


def _kind(array, name):
    """Dtype and shape, which must agree between file and state. The number of losses is free."""
    if array is None:
        return "missing"
    shape = "[n]" if name == "losses" and array.ndim == 1 else list(array.shape)
    return f"{array.dtype}{shape}"
