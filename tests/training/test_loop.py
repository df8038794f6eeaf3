"""The loop: gradients do not depend on how a batch is shared out, data are used evenly, and runs repeat bit for bit."""

import time
from collections import Counter
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest

from tests.training.tiny import SETTINGS, tiny_model, tiny_rows
from tinyslm.autodiff import differentiable, value_and_grad
from tinyslm.compression.pruning import MaskedLinear, magnitude_mask
from tinyslm.errors import DataError, Error
from tinyslm.models import next_token_loss, next_token_losses
from tinyslm.modules import Linear
from tinyslm.ops import IGNORED
from tinyslm.training import State, StopTraining, loop, train
from tinyslm.training.loop import batch_gradients, batch_rows, count_next_tokens, count_selections
from tinyslm.tree import map_modules, named_arrays, named_modules, named_parameters


def uneven_rows(count=7, length=12):
    """Rows of 2 to `length` tokens: micro-batches predict very different numbers of tokens."""
    _, labels = tiny_rows(60, length)
    labels, used = labels[:count].copy(), np.array([12, 2, 3, 12, 5, 2, 9])[:count]
    labels[np.arange(length) >= used[:, None]] = IGNORED
    return np.where(labels == IGNORED, 0, labels), labels


def bits(model):
    return {path: array.tobytes() for path, array in named_arrays(model).items()}


@pytest.mark.parametrize("threads", [1, 2, 3, 9])
@pytest.mark.parametrize("micro_batch_size", [1, 3, 7])
def test_gradients_of_micro_batches_are_those_of_the_whole_batch(threads, micro_batch_size):
    model = tiny_model(dtype=np.float64)
    rows = uneven_rows()
    settings = replace(SETTINGS, threads=threads, micro_batch_size=micro_batch_size)
    whole_loss, whole = value_and_grad(next_token_loss)(model, *rows)
    loss, gradients = batch_gradients(next_token_loss, model, *rows, settings)
    assert loss == pytest.approx(float(whole_loss), rel=1e-13)
    assert gradients.keys() == named_parameters(whole).keys()
    for path, gradient in named_parameters(whole).items():
        np.testing.assert_allclose(gradients[path], gradient, rtol=1e-10, atol=1e-13)


def test_rows_of_similar_length_share_a_micro_batch_without_their_common_padding():
    """Sorted by length and cut in pairs, each as wide as its longer row."""
    rows, shapes = uneven_rows(), []
    lengths = sorted(np.count_nonzero(rows[1] != IGNORED, axis=1).tolist())
    assert len(set(lengths)) > 4

    def loss_function(model, token_ids, labels):
        shapes.append(token_ids.shape)
        assert token_ids.shape == labels.shape and (labels[:, -1] != IGNORED).any()
        return next_token_loss(model, token_ids, labels)

    batch_gradients(loss_function, tiny_model(), *rows, SETTINGS)
    assert sorted(shapes) == sorted([(2, lengths[1]), (2, lengths[3]), (2, lengths[5]), (1, lengths[6])])


def micro_batches(monkeypatch, labels, settings):
    """The micro-batches [(token_ids, labels)] in the order in which thread after thread computes them."""
    computed = []

    def loss_function(model, token_ids, labels):
        computed.append((token_ids, labels))
        return next_token_loss(model, token_ids, labels)

    monkeypatch.setattr(loop, "map_in_threads", lambda function, items, threads: [function(item) for item in items])
    token_ids = np.where(labels == IGNORED, 0, labels)
    batch_gradients(loss_function, tiny_model(), token_ids, labels, settings)
    return computed


@pytest.mark.parametrize(
    ("threads", "order"),
    [
        (1, [0, 2, 4, 6, 8, 1, 3, 5, 7]),
        (2, [0, 4, 8, 3, 7, 1, 5, 2, 6]),
        (3, [0, 6, 5, 1, 7, 4, 2, 8, 3]),
        (9, [0, 1, 2, 3, 4, 5, 6, 7, 8]),
    ],
)
def test_which_thread_computes_which_micro_batch(monkeypatch, threads, order):
    """Of every 2 * threads in order of length, thread i computes the i-th shortest, and then the i-th longest."""
    lengths = np.array([5, 10, 3, 8, 2, 7, 4, 9, 6])
    labels = np.where(np.arange(12) < lengths[:, None], 1 + np.arange(12), IGNORED)
    settings = replace(SETTINGS, threads=threads, micro_batch_size=1)
    found = [token_ids.shape for token_ids, _ in micro_batches(monkeypatch, labels, settings)]
    assert found == [(1, 2 + number) for number in order]


def test_rows_of_equal_length_keep_their_order(monkeypatch):
    """So many that only a stable sort keeps it."""
    labels = np.tile(np.arange(1, 4), (60, 1))
    labels[:, 0] = np.arange(60) % 23
    labels[::2, 2] = IGNORED
    settings = replace(SETTINGS, threads=1, micro_batch_size=30)
    short, long = (token_ids[:, 0] for token_ids, _ in micro_batches(monkeypatch, labels, settings))
    np.testing.assert_array_equal(short, labels[::2, 0])
    np.testing.assert_array_equal(long, labels[1::2, 0])


def test_rows_without_labels_have_one_column(monkeypatch):
    """They have neither loss nor gradient, alone and beside other rows."""
    labels = np.full((3, 5), IGNORED)
    labels[1, :3] = [4, 1, 2]
    shards = micro_batches(monkeypatch, labels, replace(SETTINGS, threads=1, micro_batch_size=2))
    assert [token_ids.shape for token_ids, _ in shards] == [(2, 1), (1, 3)]
    loss, gradients = batch_gradients(next_token_loss, tiny_model(), *2 * (np.full((2, 4), 3),), SETTINGS, lambda *_: 0)
    assert loss == 0 and not any(gradient.any() for gradient in gradients.values())


def test_a_single_predicted_token_has_the_whole_weight():
    labels = np.full((2, 5), IGNORED)
    labels[1, 3] = 4
    token_ids = np.arange(10).reshape(2, 5)
    wanted, _ = value_and_grad(next_token_loss)(tiny_model(), token_ids, labels)
    loss, _ = batch_gradients(next_token_loss, tiny_model(), token_ids, labels, SETTINGS)
    assert type(loss) is float and loss == pytest.approx(float(wanted), rel=1e-6)


@pytest.mark.parametrize("kind", [int, np.int64, np.float64])
def test_counts_of_any_type_leave_the_dtype_of_the_gradients(kind):
    """With a count of all tokens instead of the predicted ones, the weights of the micro-batches are others."""
    token_ids, labels = uneven_rows()

    seen = set()

    @differentiable
    def watch(loss):
        return loss, lambda dloss: (seen.add(dloss.dtype), (dloss,))[1]

    def count_rows(token_ids, labels):
        return kind(len(labels))

    settings = replace(SETTINGS, micro_batch_size=3)
    loss, gradients = batch_gradients(
        lambda *inputs: watch(next_token_loss(*inputs)), tiny_model(), token_ids, labels, settings, count_rows
    )
    assert {gradient.dtype for gradient in gradients.values()} == seen == {np.dtype(np.float32)}
    order = np.argsort(np.count_nonzero(labels != IGNORED, axis=1), kind="stable")
    parts = [order[:3], order[3:6], order[6:]]
    losses = [float(next_token_loss(tiny_model(), token_ids[rows], labels[rows])) for rows in parts]
    assert loss == pytest.approx(np.dot(losses, [3, 3, 1]) / 7, rel=1e-5)


def test_predicted_tokens_are_all_labels_but_the_first_of_each_row():
    labels = np.array([[3, IGNORED, 5, 6], [IGNORED, 0, 1, IGNORED]])
    count = count_next_tokens(np.zeros((2, 4), int), labels)
    assert type(count) is int and count == 4


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_gradients_have_the_dtype_of_the_model(dtype):
    """And so has what comes back through the loss."""
    seen = set()

    @differentiable
    def watch(loss):
        def vjp(dloss):
            seen.add(dloss.dtype)
            return (dloss,)

        return loss, vjp

    def loss_function(model, token_ids, labels):
        return watch(next_token_loss(model, token_ids, labels))

    _, gradients = batch_gradients(loss_function, tiny_model(dtype=dtype), *uneven_rows(), SETTINGS)
    assert {gradient.dtype for gradient in gradients.values()} == seen == {np.dtype(dtype)}


@pytest.mark.parametrize("limit", [0.01, 1e6])
def test_the_joint_norm_of_the_gradients_is_limited(limit):
    """After one step the second moments are 1 - beta2 times the squares of what the optimizer was given."""
    settings = replace(SETTINGS, steps=1, gradient_limit=limit)
    state = train(State.start(tiny_model(), settings), *tiny_rows(), settings)
    squares = sum(float(v.sum()) for v in state.optimizer.second_moments.values()) / (1 - state.optimizer.beta2)
    rows = batch_rows(0, len(tiny_rows()[0]), settings)
    _, gradients = batch_gradients(next_token_loss, tiny_model(), *(array[rows] for array in tiny_rows()), settings)
    norm = np.sqrt(sum(float(np.sum(np.square(gradient))) for gradient in gradients.values()))
    assert 0.01 < norm < 1e6
    assert np.sqrt(squares) == pytest.approx(min(limit, norm), rel=1e-4)


@pytest.mark.parametrize("threads", [1, 2])
def test_the_same_seed_and_threads_give_the_same_bits(threads):
    settings = replace(SETTINGS, threads=threads)
    rows = tiny_rows()
    first, second = (train(State.start(tiny_model(), settings), *rows, settings) for _ in range(2))
    assert bits(first.model) == bits(second.model)
    assert first.losses == second.losses
    other = train(State.start(tiny_model(), settings), *rows, replace(settings, seed=1))
    assert bits(first.model) != bits(other.model)


@pytest.mark.parametrize(("count", "batch_size"), [(20, 6), (7, 7), (5, 12)])
def test_every_row_is_used_once_per_epoch_in_another_order_each_time(count, batch_size):
    settings = replace(SETTINGS, batch_size=batch_size)
    rows = np.concatenate([batch_rows(step, count, settings) for step in range(3 * count)])
    epochs = rows[: len(rows) // count * count].reshape(-1, count)
    assert all(Counter(epoch) == Counter(range(count)) for epoch in epochs.tolist())
    assert len({tuple(epoch) for epoch in epochs.tolist()}) > len(epochs) / 2
    found = batch_rows(5, count, settings)
    assert isinstance(found, np.ndarray) and found.dtype.kind == "i"
    np.testing.assert_array_equal(found, rows[5 * batch_size : 6 * batch_size])
    wanted = np.random.default_rng([settings.seed, 2]).permutation(count)  # the third epoch
    np.testing.assert_array_equal(epochs[2], wanted)


def test_training_on_what_can_be_learned_makes_the_loss_small():
    settings = replace(SETTINGS, steps=60, learning_rate=2e-2)
    losses = train(State.start(tiny_model(), settings), *tiny_rows(), settings).losses
    assert len(losses) == 60
    assert np.mean(losses[-5:]) < 0.6 * np.mean(losses[:5])


def test_the_learning_rate_follows_the_schedule():
    """With decay alone (a loss whose gradient is 0) a matrix shrinks by 1 - rate * decay in every step."""
    settings = replace(SETTINGS, steps=5, warmup_steps=2, final_rate=0.5, learning_rate=0.1, weight_decay=0.3)
    state = State.start(tiny_model(), settings)
    before = state.model.layers[0].attention.query.weight.copy()
    train(state, *tiny_rows(), settings, loss_function=lambda *inputs: next_token_loss(*inputs) * 0.0)
    rates = 0.1 * np.array([0.5, 1, 0.875, 0.625, 0.5])
    shrunk = before * np.prod(1 - 0.3 * rates)
    np.testing.assert_allclose(state.model.layers[0].attention.query.weight, shrunk, rtol=1e-5)


def test_the_callers_model_is_not_changed():
    model = tiny_model()
    before = bits(model)
    state = train(State.start(model, SETTINGS), *tiny_rows(), SETTINGS)
    assert bits(model) == before
    assert all((trained != before[path]) for path, trained in bits(state.model).items())


def test_masks_survive_training_and_removed_weights_stay_exactly_zero():
    def mask(path, linear):
        return MaskedLinear.from_linear(linear, magnitude_mask(linear.weight, 0.5))

    model = map_modules(mask, tiny_model(), Linear)
    trained = train(State.start(model, SETTINGS), *tiny_rows(), SETTINGS).model
    layers = named_modules(trained, MaskedLinear)
    assert len(layers) == 14  # seven in each of two blocks
    for path, layer in layers.items():
        before = named_modules(model)[path]
        np.testing.assert_array_equal(layer.mask, before.mask)
        assert not layer.weight[~layer.mask].view(np.uint32).any()  # the bits of +0.0
        assert (layer.weight != before.weight)[layer.mask].mean() > 0.9


def test_a_finished_training_is_not_continued_and_losses_are_floats():
    state = train(State.start(tiny_model(), SETTINGS), *tiny_rows(), SETTINGS)
    assert {type(loss) for loss in state.losses} == {float}
    trained, seconds = bits(state.model), state.seconds
    train(state, *tiny_rows(), SETTINGS)
    assert (state.step, len(state.losses), state.seconds) == (12, 12, seconds) and bits(state.model) == trained


def test_a_new_state_owns_its_arrays():
    """Before its first step, and it has made no step."""
    model = tiny_model()
    state = State.start(model, SETTINGS)
    assert (state.step, state.losses, state.seconds, state.optimizer.steps) == (0, [], 0.0, 0)
    assert state.optimizer.weight_decay == SETTINGS.weight_decay
    assert State.start(model, replace(SETTINGS, weight_decay=0.25)).optimizer.weight_decay == 0.25
    for path, array in named_parameters(state.model).items():
        assert not np.shares_memory(array, named_parameters(model)[path])
        assert array is state.optimizer.parameters[path]
        assert not state.optimizer.first_moments[path].any() and not state.optimizer.second_moments[path].any()


def test_after_step_sees_every_step():
    seen, began = [], time.perf_counter()
    train(
        State.start(tiny_model(), SETTINGS),
        *tiny_rows(),
        SETTINGS,
        after_step=lambda state: seen.append((state.step, state.optimizer.steps, len(state.losses), state.seconds)),
    )
    assert [step[:3] for step in seen] == [(n, n, n) for n in range(1, 13)]
    assert all(a[3] < b[3] for a, b in pairwise(seen)) and seen[0][3] > 0
    assert seen[-1][3] <= time.perf_counter() - began


def test_after_step_can_end_the_training():
    def stop_at_three(state):
        if state.step == 3:
            raise StopTraining

    state = train(State.start(tiny_model(), SETTINGS), *tiny_rows(), SETTINGS, after_step=stop_at_three)
    assert state.step == state.optimizer.steps == len(state.losses) == 3


def test_a_training_that_diverges_says_so_and_leaves_the_step_before():
    state = State.start(tiny_model(), SETTINGS)

    def overflow(model, token_ids, labels):
        return next_token_loss(model, token_ids, labels) * (np.inf if state.step == 4 else 1.0)

    with pytest.raises(Error, match=r"diverged at step 4 .*lower learning rate"), np.errstate(invalid="ignore"):
        train(state, *tiny_rows(), replace(SETTINGS, threads=1), loss_function=overflow)
    assert state.step == state.optimizer.steps == 4
    assert all(np.isfinite(array).all() for array in named_arrays(state.model).values())


def test_losses_of_several_selections_of_tokens():
    """The loss is the sum of the means of the selections, and so is its gradient. Micro-batches change nothing."""
    token_ids, labels = uneven_rows()
    some = np.where(np.random.default_rng(4).random(labels.shape) < 0.3, labels, IGNORED)
    some[1] = IGNORED  # a row without any token of the second selection
    both = np.stack([labels, some], axis=-1)
    assert count_selections(token_ids, both) == [count_next_tokens(token_ids, each) for each in (labels, some)]
    loss, gradients = batch_gradients(
        next_token_losses, tiny_model(), token_ids, both, replace(SETTINGS, micro_batch_size=2), count_selections
    )
    parts = [value_and_grad(next_token_loss)(tiny_model(), token_ids, each) for each in (labels, some)]
    assert loss == pytest.approx(sum(float(value) for value, _ in parts), rel=1e-5)
    for path, gradient in gradients.items():
        expected = sum(named_parameters(each)[path] for _, each in parts)
        np.testing.assert_allclose(gradient, expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("shape", [(2, 5), (2, 4, 1), (1, 5, 2)])
def test_selections_that_do_not_fit_are_refused(shape):
    with pytest.raises(DataError, match=r"token ids, \(2, 5\), and one more axis"):
        next_token_losses(tiny_model(), np.zeros((2, 5), int), np.zeros(shape, int))
