"""Training checkpoints: a state on disk, from which a run resumes bit for bit, and the best model so far."""

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
    tensors = _read(path, _arrays(state) | _progress(state))
    step, seconds, losses = int(tensors["step"][0]), float(tensors["seconds"][0]), tensors["losses"].tolist()
    if step != len(losses):
        raise CheckpointError(f"{path}: step is {step}, expected {len(losses)}, the number of losses")
    if not 0 <= seconds < math.inf:
        raise CheckpointError(f"{path}: seconds is {seconds}, expected a finite number of at least 0")
    steps = tensors["validation"][:, 0]
    if not (np.all(np.diff(steps) > 0) and np.all((steps >= 0) & (steps <= step) & (steps == np.floor(steps)))):
        raise CheckpointError(f"{path}: validation is at steps {steps.tolist()}, expected increasing ones up to {step}")
    for name, array in _arrays(state).items():
        array[...] = tensors[name]
    state.step = state.optimizer.steps = step
    state.seconds, state.losses = seconds, losses
    state.validation = [(int(at), nats) for at, nats in tensors["validation"].tolist()]
    return state


def save_parameters(path, state: State) -> None:
    """Write the parameters of a state and its step to one file, atomically."""
    write_safetensors(path, _parameters(state) | {"step": np.array([state.step], np.int64)})


def restore_parameters(path, state: State, step: int) -> None:
    """Give a state the parameters of a file of `save_parameters`, which are those of `step`.

    Raises CheckpointError, and leaves the state unchanged, if the file is missing, damaged, of another model or step.
    """
    tensors = _read(path, _parameters(state) | {"step": np.array([step], np.int64)})
    if tensors["step"][0] != step:
        raise CheckpointError(f"{path}: step is {tensors['step'][0]}, expected {step}")
    for name, array in _parameters(state).items():
        array[...] = tensors[name]


def _read(path, expected):
    """{name: array} of a file that has the names, dtypes and shapes of `expected`."""
    tensors = {name: tensor.read() for name, tensor in read_safetensors(path).items()}
    for name in sorted(expected.keys() | tensors.keys()):
        found, wanted = (_kind(side.get(name), name) for side in (tensors, expected))
        if found != wanted:
            raise CheckpointError(f"{path}: {name} is {found}, expected {wanted}; the file is from another run")
    return tensors


def _parameters(state):
    """{name in the file: array} of the parameters."""
    return {f"parameter.{path}": array for path, array in state.optimizer.parameters.items()}


def _arrays(state):
    """{name in the file: array} of the parameters and their moments, which a step changes in place."""
    optimizer = state.optimizer
    kinds = {"first_moment": optimizer.first_moments, "second_moment": optimizer.second_moments}
    moments = {f"{kind}.{path}": array for kind, arrays in kinds.items() for path, array in arrays.items()}
    return _parameters(state) | moments


def _progress(state):
    """Step, seconds, losses and the validation curve as arrays."""
    return {
        "step": np.array([state.step], np.int64),
        "seconds": np.array([state.seconds]),
        "losses": np.array(state.losses, np.float64),
        "validation": np.array(state.validation, np.float64).reshape(-1, 2),  # (n, 2): steps and nats
    }


def _kind(array, name):
    """Dtype and shape, which must agree between file and state. The numbers of losses and of validations are free."""
    if array is None:
        return "missing"
    shape = list(array.shape)
    if array.ndim == {"losses": 1, "validation": 2}.get(name):
        shape[0] = "n"
    return f"{array.dtype}[{', '.join(map(str, shape))}]"
