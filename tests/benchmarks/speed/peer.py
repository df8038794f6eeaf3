"""A peer in a process of its own, as one who uses it runs it: nothing of tinyslm is imported there, so that what we ask
of threads and of the system's memory is not done for the peer as well (but for `tinyslm.runtime`, which stands in the
environment: none of the peers multiplies with OpenBLAS)."""

import importlib
import multiprocessing
import traceback

from tests.benchmarks.speed.case import timed


class Peer:
    """make: "module:function", called there with the arguments; it returns the function that works."""

    def __init__(self, make, *arguments):
        context = multiprocessing.get_context("spawn")
        self.pipe, end = context.Pipe()
        self.process = context.Process(target=serve, args=(end, make, arguments), daemon=True)
        self.process.start()
        end.close()  # open there only: when that process ends, however it does, nobody waits for its answer
        self.answer()  # when it is ready

    def answer(self):
        """What the process sends next; RuntimeError with its traceback where it failed."""
        try:
            failed, value = self.pipe.recv()
        except EOFError:
            raise RuntimeError("the process of a peer ended without an answer") from None
        if failed:
            raise RuntimeError(value)
        return value

    def __call__(self):
        """What the function returns."""
        self.pipe.send(None)
        return self.answer()

    def runner(self, units=1):
        """`timed`, of the function, there."""

        def run():
            self.pipe.send(units)
            return self.answer()

        return run

    def __del__(self):
        self.pipe.close()  # which ends it
        self.process.join()


def serve(pipe, make, arguments):
    """Answer what is asked for, until nobody asks any more."""
    try:
        module, name = make.split(":")
        function = getattr(importlib.import_module(module), name)(*arguments)
        pipe.send((False, None))
        while True:
            units = pipe.recv()  # None: its value is asked for, not its time
            pipe.send((False, function() if units is None else timed(function, units)()))
    except EOFError:
        pass
    except Exception:  # whatever it is, it is told to the one who asked
        pipe.send((True, traceback.format_exc()))
