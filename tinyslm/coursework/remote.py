"""Objects in the judge that look like the functions of a submission.

The property tests call a `Remote` as they would call the function. It sends the arguments to the worker (`worker.py`)
and returns what the worker answers. The worker cannot change anything in the judge except through answers and the
arguments that it was given.
"""

import socket
from collections.abc import Callable
from typing import NoReturn

import numpy as np

import tinyslm.errors
from tinyslm.autodiff import Traced, differentiable
from tinyslm.coursework.messages import Decoder, Encoder, MessageError, receive, send

WITHHELD = "tinyslm.coursework.worker.Withheld"
USUAL_ERRORS = {"divide": "warn", "over": "warn", "under": "ignore", "invalid": "warn"}  # as NumPy starts
EXCEPTIONS = {  # that a call of the submission can raise here, by dotted name
    f"{kind.__module__}.{kind.__qualname__}": kind
    for kind in (
        *(each for each in vars(tinyslm.errors).values() if isinstance(each, type)),
        *(ArithmeticError, AssertionError, AttributeError, Exception, FloatingPointError, ImportError, IndexError),
        *(KeyError, LookupError, ModuleNotFoundError, NameError, OSError, OverflowError, RecursionError, RuntimeError),
        *(TypeError, UnboundLocalError, ValueError, ZeroDivisionError),
    )
}


class Session:
    """The connection to the worker, for the property that runs in this process.

    stop(outcome, message): ends the property at once, without the search for a smaller input. It does not return.
    outcome: "failed", "out of memory", "library's answer", or "" where the end of the worker process says more.
    """

    def __init__(self):
        self.connection: socket.socket | None = None
        self.stop: Callable[[str, str], NoReturn]

    def request(self, on, known, attribute, arguments=(), settings=None, call=True):
        """The answer of the worker: the result of a call, or an attribute. Changes of arguments are made here too."""
        if self.connection is None:
            raise AttributeError("the submission runs only during a property")
        known = [*known]
        encoder = Encoder(known, share=True)
        errors = np.geterr()
        request = {"on": on, "attribute": attribute, "call": call, "errors": errors if errors != USUAL_ERRORS else {}}
        request["arguments"], request["settings"] = encoder.encode(arguments), encoder.encode(settings or None)
        try:
            send(self.connection, request, encoder.buffers)
            message = receive(self.connection)
            if message is None:
                raise ConnectionError
            result, raised = self.result(*message, known)
        except ConnectionError:
            self.stop("", "the process of the file ended")
        except (MessageError, ValueError, TypeError, IndexError) as error:
            self.stop("failed", f"the result cannot be read: {error}")
        if raised:
            self.raise_as_in_worker(*raised)
        return result

    def result(self, answer, content, known):
        """(result, exception or None) in an answer, after its changes of known objects."""
        if not isinstance(answer, dict):
            raise MessageError("an answer has a wrong form")
        if "unsendable" in answer:
            raise MessageError(answer["unsendable"])
        decoder = Decoder(known, content, handle=lambda number, name: Remote(self, number, known, name))
        for index, node in answer.get("changed", ()):
            change_in_place(known[index], decoder.decode(node))
        return decoder.decode(answer.get("result")), answer.get("raised")

    def raise_as_in_worker(self, bases, message, where):
        """Raise the exception of a call, as one of NumPy, Python or the library, or end the property.

        bases: dotted names of its class and of the base classes.  where: the line of the file, or "".
        """
        name = bases[0].rpartition(".")[2]
        if WITHHELD in bases:
            self.stop("library's answer", message)
        if "builtins.NotImplementedError" in bases:
            self.stop("failed", f"{name}: {message}{where}")
        if "builtins.MemoryError" in bases:
            self.stop("out of memory", f"{name}{where}")
        kind = next((EXCEPTIONS[base] for base in bases if base in EXCEPTIONS), RuntimeError)
        raise kind(f"{message}{where}" if kind.__name__ == name else f"{name}: {message}{where}")


def change_in_place(known, content):
    """Give a list, dict or array the content that the worker's copy has."""
    if type(content) is not type(known):
        raise MessageError("an argument changed its kind")
    if isinstance(known, np.ndarray):
        if (content.shape, content.dtype) != (known.shape, known.dtype):
            raise MessageError("an argument changed its shape")
        known[...] = content
    else:
        known.clear()
        known.update(content) if isinstance(known, dict) else known.extend(content)


class Remote:
    """A function or an object of the submission. known: the arguments that it may have kept."""

    __slots__ = ("_known", "_name", "_on", "_session")

    def __init__(self, session, on, known=(), name=""):
        self._session, self._on, self._known, self._name = session, on, known, name or on

    def __call__(self, *arguments, **settings):
        if any(type(each) is Traced for each in arguments):  # the tape is here, so its node is made here
            return differentiable(self.with_vjp)(*arguments, **settings)
        return self._session.request(self._on, self._known, None, arguments, settings)

    def __getattr__(self, name):
        if name.startswith("_"):  # NumPy, pytest and others ask for these, and must not get answers of the submission
            raise AttributeError(name)
        return self._session.request(self._on, self._known, name, call=False)

    def __repr__(self):
        return f"<{self._name} of the file>"
