"""Messages between judge and worker: values arrive as they are, identity and changes of arguments included."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from tinyslm.compression.quantization import QuantizedArray
from tinyslm.coursework.messages import Decoder, Encoder, MessageError
from tinyslm.coursework.remote import Remote, Session
from tinyslm.coursework.worker import Answers
from tinyslm.errors import DataError
from tinyslm.modules import Linear
from tinyslm.recipes.tasks import Task

DTYPES = st.sampled_from([np.float64, np.float32, np.int8, np.int32, np.uint64, np.bool_, np.complex128])
arrays = DTYPES.flatmap(lambda dtype: hnp.arrays(dtype, hnp.array_shapes(min_dims=0, min_side=0, max_side=4)))
plain = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False), st.text())
values = st.recursive(
    st.one_of(plain, arrays),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.lists(inner, max_size=3).map(tuple), st.dictionaries(plain, inner, max_size=3)
    ),
    max_leaves=8,
)


def sent(value, known=()):
    """The value after a way through JSON text and bytes, without handles."""
    encoder = Encoder(known)
    text = json.dumps(encoder.encode(value))
    return Decoder(known, memoryview(b"".join(encoder.buffers))).decode(json.loads(text))


def assert_same(value, other):
    assert type(value) is type(other)
    if isinstance(value, np.ndarray | np.generic):
        np.testing.assert_array_equal(value, other, strict=True)
    elif isinstance(value, dict):
        assert_same(list(value.items()), list(other.items()))
    elif isinstance(value, list | tuple):
        assert len(value) == len(other)
        for one, two in zip(value, other, strict=True):
            assert_same(one, two)
    else:
        assert value == other


@given(values)
def test_values_arrive_as_they_are(value):
    assert_same(value, sent(value))


def test_numbers_of_numpy_infinity_and_nan_arrive_as_they_are():
    for value in (np.float32(0.1), np.int8(-3), np.bool_(True), np.float64(np.nan), float("inf"), 10**40):
        assert type(sent(value)) is type(value)
        np.testing.assert_equal(sent(value), value)


def test_the_layout_of_an_array_is_kept():
    x = np.arange(24.0).reshape(4, 6)
    for array in (x, x.T, x[::2, 1::2]):
        flags, found = array.flags, sent(array).flags
        assert (found.c_contiguous, found.f_contiguous) == (flags.c_contiguous, flags.f_contiguous)
    x.flags.writeable = False
    assert not sent(x).flags.writeable


def test_records_of_the_library_arrive_with_their_methods():
    layer = sent(Linear(np.ones((2, 3)), None))
    assert type(layer) is Linear and layer(np.ones(3)).tolist() == [3, 3]
    q = sent(QuantizedArray(np.array([2], np.int8), np.float32(0.5), np.int32(1)))
    assert q.dequantize() == np.float32(0.5)
    task = sent(Task({"token_ids": np.ones(2)}, np.zeros(2)))
    assert type(task) is Task and list(task.inputs) == ["token_ids"]


@pytest.mark.parametrize(
    "node",
    [
        ["record", "os", "abort", []],
        ["record", "subprocess", "Popen", [["list", ["true"]]]],
        ["record", "tinyslm.modules.linear", "Linear", []],
        ["record", "tinyslm.coursework.remote", "Session", []],
        ["record", "nothing", "Linear", []],
        ["array", "<f8", [1000], "C", True],
        ["array", "<f8", [-1, -8], "C", True],
        ["array", "O", [1], "C", True],
        ["array", "<f8", [1], "C"],
        ["view", 0, "<f8", [9], [8], 0],
        ["view", 0, "<f8", [1], [8], -8],
        ["view", 0, "O", [1], [8], 0],
        ["known", 1],
        ["named", ["__class__"], [1]],
        ["named", ["x y"], [1]],
        ["handle", 1, "f"],
        ["list", 3],
        [],
    ],
)
def test_messages_of_another_form_are_refused(node):
    """A worker can send anything. Nothing is called, and no memory outside of the message and the array is read."""
    decoder = Decoder([np.zeros(3)], memoryview(bytes(8)))
    with pytest.raises(MessageError):
        decoder.decode(node)


def session_of(**functions):
    """A session with the functions in this process, and the remote functions."""
    answers, session = Answers(functions, "file.py"), Session()

    def ask(on, known, attribute, arguments=(), settings=None, call=True):
        known = [*known]
        encoder = Encoder(known, share=True)
        request = {"on": on, "attribute": attribute, "call": call, "errors": np.geterr()}
        request |= {"arguments": encoder.encode(arguments), "settings": encoder.encode(settings or None)}
        answer, buffers = answers.answer(json.loads(json.dumps(request)), memoryview(b"".join(encoder.buffers)))
        result, raised = session.result(json.loads(json.dumps(answer)), memoryview(b"".join(buffers)), known)
        if raised:
            session.raise_as_in_worker(*raised)
        return result

    session.request = ask
    return {name: Remote(session, name) for name in functions}


@pytest.mark.parametrize("new", [False, True])
def test_an_array_larger_than_a_message_is_refused_before_its_bytes_are_copied(new):
    encoder = Encoder([])
    with pytest.raises(MessageError, match=r"^1,125,899,906,842,624 bytes are too many for a result$"):
        encoder.encode_array(np.broadcast_to(np.int8(0), 2**50), new)
    assert encoder.buffers == []


def test_changes_of_arguments_arrive_in_the_objects_of_the_judge():
    def change(table, items, array):
        table["new"], table["array"] = 1, np.zeros(2)
        items.append(array)
        array *= 2

    array, first = np.ones(3), np.ones(2)
    table, items = {"array": first}, [1]
    assert session_of(change=change)["change"](table, items, array=array) is None
    assert array.tolist() == [2, 2, 2] and items[0] == 1 and items[1] is array
    assert table["new"] == 1 and table["array"].tolist() == [0, 0] and first.tolist() == [1, 1]


def test_an_argument_that_is_returned_is_the_same_object_and_a_view_shares_its_memory():
    x, items = np.arange(6.0).reshape(2, 3), [1]
    functions = session_of(same=lambda *each: each, view=lambda x: x[1:, ::2], copy=lambda x: x[1:].copy())
    assert functions["same"](x, items)[0] is x and functions["same"](x, items)[1] is items
    assert np.shares_memory(functions["view"](x), x) and functions["view"](x).tolist() == [[3, 5]]
    assert not np.shares_memory(functions["copy"](x), x)


def test_one_array_given_twice_is_one_array_there():
    assert session_of(same=lambda x, y: x is y)["same"](*[np.ones(2)] * 2) is True


def test_objects_stay_in_the_worker_and_see_the_arguments_that_they_keep():
    class Counter:
        @property
        def __array_interface__(self):
            return {"shape": (1,), "typestr": "<f8", "data": (0, False), "version": 3}

        def __init__(self, totals):
            self.totals, self.calls = totals, 0

        def add(self, amounts):
            self.totals += amounts
            self.calls += 1
            return lambda factor: self.totals * factor

    totals = np.zeros(2)
    counter = session_of(Counter=Counter)["Counter"](totals)
    scaled = counter.add(np.array([1.0, 2.0]))
    assert totals.tolist() == [1, 2] and counter.calls == 1 and counter.totals is totals
    assert scaled(3.0).tolist() == [3, 6]
    with pytest.raises(AttributeError):
        _ = counter.missing
    with pytest.raises(AttributeError):
        _ = counter.__array_interface__  # NumPy would read memory at an address of the submission


def test_exceptions_keep_their_class_as_far_as_it_is_known():
    class Odd(KeyError):
        pass

    def fail(kind):
        raise {"data": DataError("wrong data"), "odd": Odd("key"), "zero": ZeroDivisionError("zero")}[kind]

    remote = session_of(fail=fail)["fail"]
    with pytest.raises(DataError, match="wrong data"):
        remote("data")
    with pytest.raises(KeyError, match="Odd"):
        remote("odd")
    with pytest.raises(ZeroDivisionError, match="zero"):
        remote("zero")


def test_floating_point_errors_are_treated_as_in_the_judge():
    divide = session_of(divide=lambda x: 1 / x)["divide"]
    with np.errstate(divide="ignore"):
        assert divide(np.zeros(1)) == np.inf
    with np.errstate(divide="raise"), pytest.raises(FloatingPointError):
        divide(np.zeros(1))
