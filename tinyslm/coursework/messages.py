"""Messages between the judge, which runs the property tests, and the worker, which runs a submission.

A message is JSON text followed by the bytes of arrays. It is never a pickle, so reading it runs no code of the sender.
It contains None, booleans, numbers, strings, lists, tuples, dicts, arrays, the library's own records (`RECORDS`), and
numbers that stand for functions and objects of the submission (handles).

Arguments are known to both processes: each keeps a list `known` of the lists, dicts and arrays of a call, in the same
order. A message refers to a known object by its index. So the worker can report which arguments it changed in place,
and can return an argument itself.
"""

import collections
import dataclasses
import json
import struct
import sys

import numpy as np

HEADER = struct.Struct("<QQ")  # length of the whole message, length of the JSON text
LARGEST = 2**28  # bytes of a message
DEEPEST = 30  # levels of lists in lists
KINDS = "biufc"  # of array elements: booleans, integers, real and complex numbers
RECORDS = ("tinyslm.modules", "tinyslm.compression", "tinyslm.recipes.tasks")  # modules of records that are sent


class MessageError(Exception):
    """A value that cannot be sent, or a message that cannot be read."""


def send(connection, message, buffers=()):
    """Send a JSON value and the bytes of arrays over a socket."""
    text = json.dumps(message).encode()
    size = len(text) + sum(len(each) for each in buffers)
    check_size(size)
    connection.sendall(b"".join([HEADER.pack(size, len(text)), text, *buffers]))


def check_size(size):
    """Raise MessageError if so many bytes are more than a message may have."""
    if size > LARGEST:
        raise MessageError(f"{size:,} bytes are too many for a result")


def receive(connection):
    """(JSON value, bytes of arrays) of the next message, or None if the other process has ended."""
    try:
        size, text_size = HEADER.unpack(receive_bytes(connection, HEADER.size))
        if not text_size <= size <= LARGEST:
            raise MessageError("a message has a wrong length")
        content = memoryview(receive_bytes(connection, size))
    except ConnectionError:
        return None
    try:
        return json.loads(bytes(content[:text_size])), content[text_size:]
    except (ValueError, RecursionError) as error:
        raise MessageError(f"a message is not JSON: {error}") from None


def receive_bytes(connection, size):
    """Exactly `size` bytes. Raises ConnectionError if the other process has ended."""
    content = bytearray()
    while len(content) < size:
        part = connection.recv(min(size - len(content), 2**20))
        if not part:
            raise ConnectionError
        content += part
    return content


class Encoder:
    """Converts values to JSON values and `buffers`, the bytes of arrays.

    known: objects that both processes have.  share: whether new lists, dicts and arrays become known (arguments).
    refer: function that returns the number of a function or object of the submission (results).
    """

    def __init__(self, known, *, share=False, refer=None):
        self.known, self.share, self.refer = known, share, refer
        self.indices = {id(each): index for index, each in enumerate(known)}
        self.buffers: list[bytes] = []

    def encode(self, value, depth=0):
        """The JSON value of a value."""
        kind = type(value)
        if value is None or kind in (bool, int, float, str):
            return value
        if id(value) in self.indices:
            return ["known", self.indices[id(value)]]
        if depth > DEEPEST:
            raise MessageError(f"lists are nested more than {DEEPEST} deep")
        if isinstance(value, np.ndarray):
            return self.encode_array(np.asarray(value))
        if isinstance(value, np.generic) and value.dtype.kind in KINDS:
            self.buffers.append(value.tobytes())
            return ["scalar", value.dtype.str]
        if kind is tuple:
            return ["tuple", [self.encode(each, depth + 1) for each in value]]
        if kind in (list, dict):
            self.remember(value)
            return self.encode_content(value, depth)
        if fields := record_fields(kind):
            content = [self.encode(getattr(value, name), depth + 1) for name in fields]
            return ["record", kind.__module__, kind.__qualname__, content]
        if isinstance(value, tuple) and hasattr(kind, "_fields"):  # a named tuple of the submission
            return ["named", list(kind._fields), [self.encode(each, depth + 1) for each in value]]
        if self.refer is None:
            raise MessageError(f"a {kind.__name__} cannot be sent")
        return ["handle", self.refer(value), kind.__name__]

    def encode_content(self, value, depth=0):
        """The JSON value of the content of a list, dict or array that the other process may know."""
        if type(value) is list:
            return ["list", [self.encode(each, depth + 1) for each in value]]
        if type(value) is dict:
            return ["dict", [[self.encode(each, depth + 1) for each in item] for item in value.items()]]
        return self.encode_array(value, new=True)

    def encode_array(self, array, new=False):
        """The JSON value of an array; a view of a known array is sent as a view."""
        if array.dtype.kind not in KINDS:
            raise MessageError(f"an array of {array.dtype} cannot be sent")
        owner = array
        while isinstance(owner.base, np.ndarray):
            owner = owner.base
        if not new and id(owner) in self.indices and owner.flags.c_contiguous:
            offset = array.ctypes.data - owner.ctypes.data
            return ["view", self.indices[id(owner)], array.dtype.str, array.shape, array.strides, offset]
        check_size(array.nbytes)  # before the bytes are copied, which takes memory and time
        if not new:
            self.remember(array)
        layout = "C" if array.flags.c_contiguous else "F" if array.flags.f_contiguous else "strided"
        self.buffers.append(array.tobytes("F" if layout == "F" else "C"))
        return ["array", array.dtype.str, array.shape, layout, array.flags.writeable]

    def remember(self, value):
        """Make a new object known."""
        if self.share:
            self.indices[id(value)] = len(self.known)
            self.known.append(value)


class Decoder:
    """Converts JSON values and the bytes of arrays back to values.

    known, share: as in `Encoder`.  handle: function that makes an object that stands for one of the submission.
    """

    def __init__(self, known, content, *, share=False, handle=None):
        self.known, self.content, self.share, self.handle = known, content, share, handle

    def decode(self, node):
        """The value of a JSON value. Raises MessageError if it has a wrong form."""
        try:
            return self.decode_node(node)
        except (ValueError, TypeError, KeyError, IndexError, AttributeError, RecursionError) as error:
            raise MessageError(f"a message has a wrong form: {type(error).__name__}: {error}") from None

    def decode_node(self, node):
        if not isinstance(node, list):
            return node
        match node:
            case ["known", int(index)]:
                return self.known[index]
            case ["scalar", str(dtype)]:
                return self.take(dtype, (), "C")[()]
            case ["tuple", list(items)]:
                return tuple(self.decode_node(each) for each in items)
            case ["list", list(items)]:
                values = self.remember([])
                values.extend(self.decode_node(each) for each in items)
                return values
            case ["dict", list(items)]:
                table = self.remember({})
                table.update((self.decode_node(key), self.decode_node(value)) for key, value in items)
                return table
            case ["array", str(dtype), list(shape), str(layout), bool(writeable)]:
                array = self.remember(self.take(dtype, tuple(shape), layout))
                array.flags.writeable = writeable
                return array
            case ["view", int(index), str(dtype), list(shape), list(strides), int(offset)]:
                owner = self.known[index]
                return np.ndarray(tuple(shape), numeric(dtype), owner, offset, tuple(strides))
            case ["record", str(module), str(name), list(items)]:
                kind = getattr(sys.modules[module], name)
                if not isinstance(kind, type) or not record_fields(kind):
                    raise ValueError(f"{name} is not a record")
                values = [self.decode_node(each) for each in items]
                return kind(**dict(zip(record_fields(kind), values, strict=True)))
            case ["named", list(fields), list(items)]:
                return collections.namedtuple("Result", fields)(*(self.decode_node(each) for each in items))
            case ["handle", int(number), str(name)] if self.handle:
                return self.handle(number, name)
        raise ValueError(str(node)[:80])

    def take(self, dtype, shape, layout):
        """A new array with the next bytes of the message."""
        dtype = numeric(dtype)
        size = dtype.itemsize * int(np.prod(shape, dtype=object))
        if size > len(self.content) or any(n < 0 for n in shape):
            raise ValueError("an array is longer than its message")
        values = np.frombuffer(self.content[:size], dtype).reshape(shape, order="F" if layout == "F" else "C")
        self.content = self.content[size:]
        if layout == "strided":
            array = np.empty((*shape, 2), dtype)[..., 0]
            array[...] = values
            return array
        return values.copy("K")

    def remember(self, value):
        """Make a new object known."""
        if self.share:
            self.known.append(value)
        return value


def numeric(dtype):
    """The dtype with this name. Raises ValueError unless it has numbers as elements."""
    found = np.dtype(dtype)
    if found.kind not in KINDS or found.hasobject:
        raise ValueError(f"dtype {dtype}")
    return found


def record_fields(kind):
    """Names of the fields of a record of the library (a dataclass or named tuple), or () if `kind` is none."""
    module = getattr(kind, "__module__", "")
    if not any(module == allowed or module.startswith(f"{allowed}.") for allowed in RECORDS):
        return ()
    if dataclasses.is_dataclass(kind):
        return tuple(field.name for field in dataclasses.fields(kind) if field.init)
    return getattr(kind, "_fields", ())
