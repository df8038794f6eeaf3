"""Peers run in processes of their own, which import nothing of tinyslm: its process settings do not apply there.

Child processes inherit the environment variable that `tinyslm.runtime` sets. It has no effect there, because no peer
multiplies with OpenBLAS.
"""

import importlib
import importlib.util
import multiprocessing
import traceback

from tests.benchmarks.speed.case import Absent, timed


class Peer:
    """make: "module:function", called in the process with the arguments; it returns the function that does the work."""

    def __init__(self, make, *arguments):
        context = multiprocessing.get_context("spawn")
        self.pipe, end = context.Pipe()
        self.process = context.Process(target=serve, args=(end, make, arguments), daemon=True)
        self.process.start()
        end.close()  # open in the process only, so that its end closes the pipe
        self.answer()  # when it is ready

    def answer(self):
        """The next value that the process sends; RuntimeError with error and traceback if it failed."""
        try:
            failed, value = self.pipe.recv()
        except EOFError:
            raise RuntimeError("the process of a peer ended without an answer") from None
        if failed:
            raise RuntimeError(value)
        return value

    def __call__(self):
        """The value that the function returns."""
        self.pipe.send(None)
        return self.answer()

    def runner(self, units=1):
        """`timed` of the function, in its process."""

        def run():
            self.pipe.send(units)
            return self.answer()

        return run

    def __del__(self):
        self.pipe.close()  # ends the process
        self.process.join()


def serve(pipe, make, arguments):
    """Answer requests until the pipe is closed."""
    try:
        module, name = make.split(":")
        function = getattr(importlib.import_module(module), name)(*arguments)
        pipe.send((False, None))
        while True:
            units = pipe.recv()  # None: the value of a call, not its time
            pipe.send((False, function() if units is None else timed(function, units)()))
    except EOFError:
        pass
    except Exception as problem:
        message = " ".join(str(problem).split("\n\n")[0].split())  # its first paragraph
        pipe.send((True, f"{type(problem).__name__}: {message}\n{traceback.format_exc()}"))


def missing(packages) -> Absent | None:
    """Absent if one of the packages is not installed, otherwise None."""
    names = [name for name in packages if importlib.util.find_spec(name) is None]
    return Absent(f"{' and '.join(names)} not installed") if names else None


def start_peer(packages, make, *arguments) -> Peer | Absent:
    """A Peer, or Absent with the reason if a package is not installed or the peer fails to start."""
    if absent := missing(packages):
        return absent
    try:
        return Peer(make, *arguments)
    except RuntimeError as problem:
        return Absent(str(problem).splitlines()[0])


def started(peers):
    """{name: peer} without the entries that are not peers."""
    return {name: entry for name, entry in peers.items() if isinstance(entry, Peer)}


def runners_of(peers, units=1):
    """{name: runner of the peer}. Entries that are not peers stay as they are."""
    return peers | {name: peer.runner(units) for name, peer in started(peers).items()}
