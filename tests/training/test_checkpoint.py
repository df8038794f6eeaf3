"""A training that stops at any moment and is restored ends with the same bits as one that never stopped."""

import json
from dataclasses import replace

import numpy as np
import pytest

from tests.training.tiny import CONFIG, SETTINGS, bits, tiny_model, tiny_rows
from tinyslm.checkpoints import read_safetensors, write_safetensors
from tinyslm.errors import CheckpointError
from tinyslm.training import State, train
from tinyslm.training.checkpoint import restore_parameters, restore_state, save_parameters, save_state

ROWS = tiny_rows()
UNINTERRUPTED = train(State.start(tiny_model(), SETTINGS), *ROWS, SETTINGS)


def fresh(**changes):
    return State.start(tiny_model(config=replace(CONFIG, **changes)), SETTINGS)


def stored(tmp_path, steps=4):
    """A state after some steps, in a file."""
    path = tmp_path / "state.safetensors"
    save_state(path, train(fresh(), *ROWS, replace(SETTINGS, steps=steps)))
    return path


@pytest.mark.parametrize("stop", range(1, 12))
def test_resuming_after_any_step_gives_the_same_bits(tmp_path, stop):
    """States are saved after every second step, so odd steps are trained twice; the step 0 state is a fresh one."""
    path = tmp_path / "state.safetensors"
    save_state(path, fresh())

    def save_and_stop(state):
        if state.step % 2 == 0:
            save_state(path, state)
        if state.step == stop:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(fresh(), *ROWS, SETTINGS, after_step=save_and_stop)
    state = restore_state(path, fresh())
    assert state.step == state.optimizer.steps == len(state.losses) == stop - stop % 2
    train(state, *ROWS, SETTINGS)
    assert bits(state) == bits(UNINTERRUPTED)
    assert state.losses == UNINTERRUPTED.losses


def test_a_restored_model_is_the_one_that_the_optimizer_changes(tmp_path):
    state = restore_state(stored(tmp_path), fresh())
    before = state.model.embedding.table.copy()
    train(state, *ROWS, SETTINGS)
    assert (state.model.embedding.table != before).any()


def test_the_time_spent_is_kept(tmp_path):
    state = fresh()
    state.seconds = 12.5
    save_state(tmp_path / "state", state)
    assert restore_state(tmp_path / "state", fresh()).seconds == 12.5


def test_the_names_in_the_file(tmp_path):
    """The format of trainings that are under way."""
    tensors = read_safetensors(stored(tmp_path))
    assert tensors["step"].read().tolist() == [4]
    assert tensors["losses"].read().tolist() == UNINTERRUPTED.losses[:4]
    for kind in ("parameter", "first_moment", "second_moment"):
        assert tensors[f"{kind}.layers.1.feed_forward.gate.weight"].shape == (24, 16)
    assert tensors["validation"].read().tolist() == []
    assert len(tensors) == 4 + 3 * len(fresh().optimizer.parameters)


@pytest.mark.parametrize(
    "change",
    [
        {"hidden_size": 24},
        {"intermediate_size": 16},
        {"num_hidden_layers": 1, "ropes": (), "windows": ()},  # its arrays are all in the file
        {"num_hidden_layers": 3, "ropes": (), "windows": ()},
        {"tie_word_embeddings": False},
    ],
)
def test_the_state_of_another_model_is_refused_and_nothing_is_changed(tmp_path, change):
    state = fresh(**change)
    before = bits(state)
    with pytest.raises(CheckpointError, match=r"state\.safetensors: (parameter|first_moment)\."):
        restore_state(stored(tmp_path), state)
    assert bits(state) == before
    assert state.step == 0


@pytest.mark.parametrize("name", ["step", "seconds", "losses", "parameter.norm.weight", "second_moment.norm.weight"])
def test_a_missing_tensor_or_one_of_another_kind_is_named(tmp_path, name):
    path = stored(tmp_path)
    tensors = {key: tensor.read() for key, tensor in read_safetensors(path).items()}
    write_safetensors(path, {key: array for key, array in tensors.items() if key != name})
    with pytest.raises(CheckpointError, match=f"{name} is missing"):
        restore_state(path, fresh())
    write_safetensors(path, tensors | {name: tensors[name].astype(np.float16)})
    with pytest.raises(CheckpointError, match=f"{name} is float16"):
        restore_state(path, fresh())


def test_the_validation_curve_is_kept(tmp_path):
    state = restore_state(stored(tmp_path), fresh())
    state.validation = [(0, 3.5), (2, 2.75), (4, 1 / 3)]
    save_state(tmp_path / "state", state)
    restored = restore_state(tmp_path / "state", fresh())
    assert restored.validation == state.validation
    assert [type(number) for number in restored.validation[1]] == [int, float]


def test_parameters_of_a_step_are_restored(tmp_path):
    """The optimizer and the rest of the state are those of the later step."""
    path, state = tmp_path / "best.safetensors", restore_state(stored(tmp_path), fresh())
    save_parameters(path, state)
    before = {name: array.copy() for name, array in state.optimizer.parameters.items()}
    train(state, *ROWS, SETTINGS)
    moments = {name: array.copy() for name, array in state.optimizer.first_moments.items()}
    restore_parameters(path, state, 4)
    assert all((state.optimizer.parameters[name] == array).all() for name, array in before.items())
    assert all((state.optimizer.first_moments[name] == array).all() for name, array in moments.items())
    assert state.model.embedding.table is state.optimizer.parameters["embedding.table"]
    assert state.step == 12


def test_parameters_of_another_step_or_model_are_refused(tmp_path):
    path, state = tmp_path / "best.safetensors", restore_state(stored(tmp_path), fresh())
    save_parameters(path, state)
    before = bits(state)
    with pytest.raises(CheckpointError, match=r"best\.safetensors: step is 4, expected 3"):
        restore_parameters(path, state, 3)
    with pytest.raises(CheckpointError, match=r"best\.safetensors: parameter\..* is float32.*, expected float32"):
        restore_parameters(path, fresh(hidden_size=24), 4)
    with pytest.raises(CheckpointError, match=r"state\.safetensors: first_moment\..* is .*, expected missing"):
        restore_parameters(tmp_path / "state.safetensors", state, 4)
    assert bits(state) == before


def changed(path, **tensors):
    """The file with other tensors."""
    write_safetensors(path, {key: tensor.read() for key, tensor in read_safetensors(path).items()} | tensors)
    return path


@pytest.mark.parametrize(
    ("name", "array"),
    [
        ("parameter.norm.weight", np.ones(17, np.float32)),  # one axis of another length, all other arrays fit
        ("second_moment.layers.0.attention_norm.weight", np.ones((16, 1), np.float32)),
        ("losses", np.ones((4, 1))),
        ("losses", np.ones((2, 2))),
        ("losses", np.ones(())),
        ("step", np.array([4, 4])),
        ("seconds", np.array([1.0, 2.0])),
        ("validation", np.zeros((2, 3))),
        ("validation", np.zeros(2)),
        ("other", np.ones(3)),
    ],
)
def test_a_tensor_of_another_shape_is_named_and_nothing_is_changed(tmp_path, name, array):
    state = fresh()
    before = bits(state)
    with pytest.raises(CheckpointError, match=rf"{name} is \w+\[.*\], expected .*; the file is from another run"):
        restore_state(changed(stored(tmp_path), **{name: array}), state)
    assert bits(state) == before and (state.step, state.losses) == (0, [])


@pytest.mark.parametrize("seconds", [-1e-9, -np.inf, np.inf, np.nan])
def test_a_time_that_is_none_is_refused(tmp_path, seconds):
    state = fresh()
    with pytest.raises(CheckpointError, match=rf"seconds is {seconds}, expected a finite number of at least 0"):
        restore_state(changed(stored(tmp_path), seconds=np.array([seconds])), state)
    assert state.step == 0


@pytest.mark.parametrize("step", [3, 5, 0, -4])
def test_a_step_that_is_not_the_number_of_losses_is_refused(tmp_path, step):
    state = fresh()
    with pytest.raises(CheckpointError, match=f"step is {step}, expected 4, the number of losses"):
        restore_state(changed(stored(tmp_path), step=np.array([step])), state)
    assert state.step == 0


def test_restored_numbers_are_plain_numbers(tmp_path):
    """As those of a new state, so that a record of the run can hold them."""
    for seconds in (0.0, 0.5):
        state = restore_state(changed(stored(tmp_path), seconds=np.array([seconds])), fresh())
        assert [type(number) for number in (state.step, state.seconds, *state.losses)] == [int, float, *[float] * 4]
        assert (state.step, state.optimizer.steps, state.seconds) == (4, 4, seconds)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        ({"step": [3]}, "step is 3, expected 4, the number of losses"),
        ({"step": [-1]}, "step is -1, expected 4"),
        ({"step": [2**62]}, f"step is {2**62}, expected 4, the number of losses"),
        ({"losses": [1.0]}, "step is 4, expected 1"),
        ({"losses": [[1.0]] * 4}, r"losses is float64\[4, 1\], expected float64\[n\]"),
        ({"seconds": [-0.5]}, "seconds is -0.5, expected a finite number"),
        ({"seconds": [np.nan]}, "seconds is nan, expected a finite number"),
        ({"seconds": [np.inf]}, "seconds is inf, expected a finite number"),
        ({"validation": [[2, 1.0], [2, 1.0]]}, r"validation is at steps \[2.0, 2.0\], expected increasing ones"),
        ({"validation": [[5, 1.0]]}, r"validation is at steps \[5.0\]"),
        ({"validation": [[-1, 1.0]]}, r"validation is at steps \[-1.0\]"),
        ({"validation": [[1.5, 1.0]]}, r"validation is at steps \[1.5\]"),
        ({"validation": [[np.nan, 1.0]]}, r"validation is at steps \[nan\]"),
    ],
)
def test_damaged_progress_is_refused_and_nothing_is_changed(tmp_path, damage, message):
    path, state = stored(tmp_path), fresh()
    tensors = {key: tensor.read() for key, tensor in read_safetensors(path).items()}
    write_safetensors(path, tensors | {name: np.array(value, tensors[name].dtype) for name, value in damage.items()})
    before = bits(state)
    with pytest.raises(CheckpointError, match=f"state.safetensors: {message}"):
        restore_state(path, state)
    assert bits(state) == before and state.step == 0


def test_damaged_missing_and_foreign_files(tmp_path):
    path = stored(tmp_path)
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(CheckpointError, match="truncated"):
        restore_state(path, fresh())
    path.write_text(json.dumps({"step": 3}))
    with pytest.raises(CheckpointError, match=r"state\.safetensors"):
        restore_state(path, fresh())
    write_safetensors(path, {"model.norm.weight": np.ones(16, np.float32)})
    with pytest.raises(CheckpointError, match=r"state\.safetensors: first_moment\..* is missing"):
        restore_state(path, fresh())
    with pytest.raises(CheckpointError, match="no such file"):
        restore_state(tmp_path / "nothing", fresh())
