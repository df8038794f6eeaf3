"""Processes that tests start."""

import signal
import subprocess


def start_with_ctrl_c(arguments, **options):
    """Start a process that SIGINT ends, also if the tests run in the background of a shell, where it is ignored."""
    before = signal.signal(signal.SIGINT, signal.SIG_DFL)  # a child process inherits an ignored signal, not a handler
    try:
        return subprocess.Popen(arguments, **options)
    finally:
        signal.signal(signal.SIGINT, before)
