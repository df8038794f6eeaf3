"""Checks of the arguments of operations: each accepts its whole range and refuses what is next to it."""

import numpy as np
import pytest

from tinyslm import ops
from tinyslm.errors import ConfigError, DataError
from tinyslm.ops.argument_checks import (
    require_attention_arrays,
    require_entries,
    require_floating,
    require_integers,
    require_mask,
    require_maskable,
    require_positive,
)

FLOATING, OTHER = ("float32", "float64"), ("float16", "int8", "int64", "uint8", "bool", "complex128")
KEYS = np.ones((1, 3, 2, 4))


@pytest.mark.parametrize("dtype", FLOATING + OTHER)
def test_only_two_dtypes_are_floating(dtype):
    """One other array among good ones is refused, and None is skipped."""
    good, array = np.ones(2), np.ones(2, dtype)
    if dtype in FLOATING:
        require_floating(first=None, x=array, last=good)
    else:
        for arrays in ({"x": array, "last": good}, {"first": good, "none": None, "x": array}):
            with pytest.raises(DataError, match=f"x has dtype {dtype}, expected float32 or float64"):
                require_floating(**arrays)


@pytest.mark.parametrize("dtype", ["int8", "int64", "uint8", "uint32", "bool", "float32", "complex128"])
def test_signed_and_unsigned_integers_are_integers(dtype):
    if "int" in dtype:
        require_integers("positions", np.ones(2, dtype))
    else:
        with pytest.raises(DataError, match=f"positions has dtype {dtype}, expected integers"):
            require_integers("positions", np.ones(2, dtype))


def test_every_axis_needs_an_entry():
    require_entries("key", np.ones((1, 1)))
    for shape in ((0, 2), (2, 0), (0,)):
        with pytest.raises(DataError, match="key must have at least one entry"):
            require_entries("key", np.ones(shape))


def test_a_positive_number_is_above_0_and_finite():
    for value in (1e-300, 1, 1.5, 1e300):
        require_positive("cap", value)
    for value in (0, 0.0, -1e-300, -1, np.inf, np.nan):
        with pytest.raises(ConfigError, match="cap must be a positive number"):
            require_positive("cap", value)


@pytest.mark.parametrize("dtype", [bool, np.int8, np.uint8, np.float32, np.float64])
def test_masks_of_any_finite_numbers_pass(dtype):
    require_mask("attention_mask", np.array([[0, 1, 2]], dtype))
    require_mask("attention_mask", None)
    if np.issubdtype(dtype, np.floating):
        for bad in (np.nan, np.inf):
            with pytest.raises(DataError, match="attention_mask must hold booleans or finite numbers"):
                require_mask("attention_mask", np.array([[0, bad, 1]], dtype))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_scores_are_maskable_unless_the_sum_of_their_squares_overflows(dtype):
    limit = np.sqrt(np.finfo(dtype).max / 8)  # eight such scores reach the largest number
    for sign in (-1, 1):
        require_maskable(np.full((2, 4), sign * limit * 0.99, dtype))
        with pytest.raises(DataError, match=f"attention scores overflow {np.dtype(dtype)}"):
            require_maskable(np.full((2, 4), sign * limit * 1.01, dtype))
    require_maskable(np.array([[np.nan, 1.0]], dtype))


@pytest.mark.parametrize("name", ["query", "key", "value", "position_bias"])
def test_each_array_of_attention_is_checked(name):
    arrays = {"query": KEYS[:, :1], "key": KEYS, "value": KEYS, "position_bias": np.ones((2, 1, 3))}
    require_attention_arrays(**arrays, softcap=2.0, attention_mask=np.ones((1, 3)))
    with pytest.raises(DataError, match=f"{name} has dtype int64"):
        require_attention_arrays(**arrays | {name: arrays[name].astype(np.int64)})
    require_attention_arrays(KEYS, KEYS)
    with pytest.raises(DataError, match="key must have at least one entry"):
        require_attention_arrays(KEYS, KEYS[:, :0])
    with pytest.raises(ConfigError, match="softcap"):
        require_attention_arrays(KEYS, KEYS, softcap=0.0)
    with pytest.raises(DataError, match="attention_mask"):
        require_attention_arrays(KEYS, KEYS, attention_mask=np.array([[1.0, np.nan, 0.0]]))


ATTENTIONS = pytest.mark.parametrize("attention", [ops.attention, ops.chunked_attention, ops.attention_probabilities])


@ATTENTIONS
def test_attention_refuses_each_argument_alone(attention):
    """One argument is wrong and all others are good, or absent: no check depends on another argument."""
    inputs = [KEYS[:, :2], KEYS] if attention is ops.attention_probabilities else [KEYS[:, :2], KEYS, KEYS]
    bias = np.ones((2, 2, 3))
    attention(*inputs, bias, scale=1.0, softcap=1e-9, attention_mask=np.ones((1, 3), bool))
    for index in range(len(inputs)):
        bad = [array.astype(int) if i == index else array for i, array in enumerate(inputs)]
        with pytest.raises(DataError, match="has dtype int64"):
            attention(*bad, scale=1.0)
    with pytest.raises(DataError, match="position_bias has dtype int64"):
        attention(*inputs, bias.astype(int), scale=1.0)
    for softcap in (0.0, -1.0, np.inf, np.nan):
        with pytest.raises(ConfigError, match="softcap must be a positive number"):
            attention(*inputs, scale=1.0, softcap=softcap)
    with pytest.raises(DataError, match="attention_mask must hold"):
        attention(*inputs, scale=1.0, attention_mask=np.array([[1.0, np.nan, 1.0]]))
    with pytest.raises(DataError, match="key must have at least one entry"):
        attention(KEYS, *(array[:, :0] for array in inputs[1:]), scale=1.0)


@pytest.mark.parametrize("norm", [ops.rms_norm, ops.layer_norm])
def test_eps_is_finite_and_not_negative(norm):
    x = np.array([[1.0, 2.0, 4.0]])
    for eps in (0, 0.0, 1e-300, 1e300):
        assert np.isfinite(norm(x, np.ones(3), eps=eps)).all()
    for eps in (-1e-300, -1, np.inf, np.nan):
        with pytest.raises(ConfigError, match="eps must be a number of at least 0"):
            norm(x, np.ones(3), eps=eps)


def test_operations_refuse_each_array_alone():
    """One array of integers among arrays of real numbers, in any place."""
    x, row, table = np.ones((2, 3)), np.ones(3), np.ones((4, 3))
    rows, angles = np.array([0, 1]), np.ones((2, 1))
    heads = np.ones((1, 2, 1, 2))
    calls = [
        (ops.linear, [x, table, np.ones(4)], {}),
        (ops.rms_norm, [x, row], {}),
        (ops.layer_norm, [x, row, row], {}),
        (ops.gated, [x, x], {}),
        (ops.softcap, [x], {"cap": 1.0}),
        (ops.routing_weights, [x], {"chosen": np.array([[0], [1]])}),
        (ops.take_rows, [x], {"rows": rows}),
        (ops.combine_experts, [np.ones((2, 2)), x, x], {"rows": [rows, rows], "slots": [rows, rows[::-1]]}),
        (ops.log_softmax, [x], {}),
        (lambda logits: ops.cross_entropy(logits, rows), [x], {}),
        (lambda logits: ops.choose_experts(logits, 1), [x], {}),
        (lambda table: ops.embedding(rows, table), [table], {}),
        (lambda x, cos, sin: ops.rotary(x, cos=cos, sin=sin), [heads, angles, angles], {}),
        *((activation, [x], {}) for activation in (ops.silu, ops.gelu, ops.gelu_tanh, ops.relu, ops.tanh)),
    ]
    for operation, arrays, settings in calls:
        operation(*arrays, **settings)
        for index in range(len(arrays)):
            bad = [array.astype(np.int8) if i == index else array for i, array in enumerate(arrays)]
            with pytest.raises(DataError, match="has dtype int8, expected float32 or float64"):
                operation(*bad, **settings)


def test_experts_are_chosen_from_finite_logits():
    logits = np.array([[1.0, 2.0, 0.0], [3.0, 1.0, 2.0]])
    assert ops.choose_experts(logits, 1).shape == (2, 1) and ops.choose_experts(logits, 3).shape == (2, 3)
    for count in (0, 4, -1):
        with pytest.raises(ConfigError, match="count must be from 1 to 3 experts"):
            ops.choose_experts(logits, count)
    for bad in (np.nan, np.inf, -np.inf):
        with pytest.raises(DataError, match="router_logits must be finite"):
            ops.choose_experts(np.where(logits == 3, bad, logits), 1)


def test_operations_need_an_input_and_a_row():
    with pytest.raises(DataError, match="at least one input"):
        ops.linear(np.ones((2, 0)), np.ones((3, 0)))
    with pytest.raises(DataError, match="at least one row"):
        ops.embedding(np.zeros(0, int), np.ones((0, 3)))
    assert ops.linear(np.ones((0, 1)), np.ones((3, 1))).shape == (0, 3)
    assert ops.embedding(np.zeros(0, int), np.ones((1, 3))).shape == (0, 3)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_mean_square_that_overflows_is_refused_in_any_row(dtype):
    """All outputs of such a row would be 0."""
    x = np.ones((3, 4), dtype)
    large = np.sqrt(np.finfo(dtype).max)
    x[1] = large * 0.49  # four squares are just below the largest number
    assert np.isfinite(ops.rms_norm(x, np.ones(4, dtype))).all()
    x[1] = large * 0.51
    with (
        np.errstate(over="ignore"),
        pytest.raises(DataError, match=f"the mean square of x overflows {np.dtype(dtype)}"),
    ):
        ops.rms_norm(x, np.ones(4, dtype))
