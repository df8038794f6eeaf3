"""Interruption between the steps of a long command, by Ctrl-C or SIGTERM."""

import os
import signal
import threading


class Interruption:
    """Context manager: inside it, the first SIGINT or SIGTERM only sets `requested`. A second one acts as usual.

    Python allows signal handlers in the main thread only. In another thread nothing changes. A signal that the process
    ignores, such as SIGINT in a background job of a shell, is still ignored.
    """

    def __init__(self):
        self.requested, self._usual = False, {}

    def __enter__(self):
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                if signal.getsignal(number) != signal.SIG_IGN:
                    self._usual[number] = signal.signal(number, self._request)
        return self

    def __exit__(self, *exception):
        self._restore()

    def _request(self, number, frame):
        self.requested = True
        self._restore()
        os.write(2, b"\nstopping after this step; Ctrl-C again stops at once\n")  # print is not allowed to be reentered

    def _restore(self):
        while self._usual:
            number, handler = self._usual.popitem()
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
