"""The process that runs a submission while it is graded. It answers calls; it never sends a mark.

The judge (`judge.py`) forks it before it collects the tests. The process imports the submission once. For each property
it makes a child process, which answers the calls of that property over a socket of its own. So no property sees what
another one has changed or left behind.
"""

import ctypes
import importlib
import inspect
import math
import os
import resource
import signal
import socket
import sys
import traceback
from contextlib import nullcontext, suppress
from glob import glob
from typing import Any

import numpy as np

from tinyslm.coursework import implementation
from tinyslm.coursework.exercises import split_name
from tinyslm.coursework.messages import Decoder, Encoder, MessageError, receive, send

REFUSING = """
def refuse(*arguments, **settings):
    from tinyslm.coursework.worker import Withheld

    raise Withheld({message!r})
"""
SET_PARENT_DEATH_SIGNAL = 1  # operation of Linux' prctl
MOST_FILES = 2**20  # that are closed where the system has no limit
PROCESSES = 64  # that a submission may start, where the system counts them (not for root)


class Withheld(Exception):
    """The submission called a function of the library that is the answer of the exercise."""


def run(judge, task):
    """Import the submission, then make a process for each property until the judge closes the socket. Never returns."""
    try:
        leave_the_judge(judge, task["directory"])
        for dotted in task["answers"]:
            withhold(dotted)
        limit_resources(task["seconds"], task["gigabytes"])
        try:
            functions = implementation.load(task["path"])
        except BaseException as error:  # anything that the file raises, SystemExit included
            send(judge, {"error": f"{type(error).__name__}: {error}{line_of(error, task['path'])}"})
            return
        send(judge, {"defined": sorted(functions)})
        while connection := receive_connection(judge):
            child = os.fork()
            if child == 0:
                judge.close()
                die_with_parent()
                limit_resources(task["seconds"], task["gigabytes"])
                answer_calls(connection, functions, task["path"])
                return
            connection.close()
            _, status = os.waitpid(child, 0)
            send(judge, {"status": os.waitstatus_to_exitcode(status)})
    finally:
        os._exit(0)


def leave_the_judge(judge, directory):
    """Start a session of its own, without any file of the judge but the socket."""
    os.setsid()
    die_with_parent()
    nothing = os.open(os.devnull, os.O_RDWR)
    for standard in range(3):
        os.dup2(nothing, standard)
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    os.closerange(3, judge.fileno())
    os.closerange(judge.fileno() + 1, limit if limit != resource.RLIM_INFINITY else MOST_FILES)
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        stream = open(os.devnull, mode)  # noqa: SIM115
        setattr(sys, name, stream)
        setattr(sys, f"__{name}__", stream)
    os.chdir(directory)


def die_with_parent():
    """On Linux: be killed when the parent ends, also in the middle of a call."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(SET_PARENT_DEATH_SIGNAL, signal.SIGKILL, 0, 0, 0)


def receive_connection(judge):
    """The socket that the judge sends for the next property, or None if there is no further property."""
    content, descriptors, _, _ = socket.recv_fds(judge, 1, 1)
    return socket.socket(fileno=descriptors[0]) if content else None


def limit_resources(seconds, gigabytes):
    """Limit processor time, memory and, where the system can, the number of processes."""
    used = sum(resource.getrusage(resource.RUSAGE_SELF)[:2])  # 0 in a new child process, on most systems
    size, cpu = int(gigabytes * 2**30), math.ceil(used + seconds)
    for limit, soft in (("RLIMIT_AS", size), ("RLIMIT_CPU", cpu), ("RLIMIT_CORE", 0), ("RLIMIT_NPROC", None)):
        if hasattr(resource, limit):
            if soft is None:
                soft = len(glob("/proc/[0-9]*/task/[0-9]*")) + PROCESSES
            which = getattr(resource, limit)
            hard = resource.getrlimit(which)[1]
            with suppress(ValueError, OSError):
                resource.setrlimit(which, (soft if hard == resource.RLIM_INFINITY else min(soft, hard), hard))
    signal.signal(signal.SIGXCPU, signal.SIG_DFL)


def withhold(dotted):
    """Make a function of the library raise `Withheld`, also where it was imported under another name."""
    module, name = split_name(dotted)
    function = importlib.import_module(module)
    for part in name.split("."):
        function = getattr(function, part)
    function = inspect.unwrap(function)
    scope: dict[str, Any] = {}
    exec(REFUSING.format(message=f"the library's {name} is the answer of this exercise"), scope)
    function.__code__ = scope["refuse"].__code__  # the same object in every module that imported it
    function.__defaults__ = function.__kwdefaults__ = None


def line_of(error, path) -> str:
    """The line of the submission that raised an exception, to be added to its message, or ""."""
    lines = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename == path]
    return f" (line {lines[-1].lineno} of the file: {lines[-1].line})" if lines else ""


class Answers:
    """Functions and objects of the submission that the judge can call, by number, with their known arguments."""

    def __init__(self, functions, path):
        self.objects, self.path = dict(functions), path
        self.known = {name: [] for name in functions}

    def answer(self, request, content):
        """(answer, bytes of arrays) to a request of the judge: a call, or an attribute of an object."""
        if request["on"] not in self.objects:
            return {"raised": [["builtins.NotImplementedError"], f"the file does not define {request['on']}", ""]}, []
        target, known = self.objects[request["on"]], [*self.known[request["on"]]]
        decoder = Decoder(known, content, share=True)
        arguments, settings = decoder.decode(request["arguments"]), decoder.decode(request["settings"])
        before = [snapshot(each) for each in known]
        answer = {}

        def refer(value):
            number = len(self.objects)
            self.objects[number], self.known[number] = value, known
            return number

        try:
            with np.errstate(**request["errors"]) if request["errors"] else nullcontext():
                if request["attribute"] is not None:
                    target = getattr(target, request["attribute"])
                result = target(*arguments, **settings or {}) if request["call"] else target
        except Exception as error:
            bases = [f"{kind.__module__}.{kind.__qualname__}" for kind in type(error).__mro__]
            answer["raised"], result = [bases, str(error), line_of(error, self.path)], None
        encoder = Encoder(known, refer=refer)
        changes = [index for index, each in enumerate(known) if not same(snapshot(each), before[index])]
        answer["changed"] = [[index, encoder.encode_content(known[index])] for index in changes]
        answer["result"] = encoder.encode(result)
        return answer, encoder.buffers


def snapshot(value):
    """Current content of a list, dict or array."""
    if isinstance(value, np.ndarray):
        return value.tobytes()
    return [*value.items()] if isinstance(value, dict) else [*value]


def same(now, before):
    """Whether two snapshots are equal; items of lists and dicts are compared by identity."""
    if isinstance(now, bytes):
        return now == before
    flat = [
        [part for item in each for part in (item if isinstance(item, tuple) else (item,))] for each in (now, before)
    ]
    return len(flat[0]) == len(flat[1]) and all(a is b for a, b in zip(*flat, strict=True))


def answer_calls(connection, functions, path):
    """Answer the requests of the judge until it closes the connection."""
    answers = Answers(functions, path)
    while message := receive(connection):
        try:
            answer, buffers = answers.answer(*message)
            send(connection, answer, buffers)
        except (MessageError, MemoryError) as error:
            send(connection, {"unsendable": str(error) or "it needs too much memory"})
