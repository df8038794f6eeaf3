"""Progress of a command: a bar in a terminal, and a line now and then in a pipe or a file."""

import sys
import threading
import time

from tqdm import tqdm

from tinyslm.commands.training_inputs import say
from tinyslm.commands.training_progress import format_duration

LINE_SECONDS = 30  # between two lines


class Progress:
    """Context manager: shows how many of `total` units are finished, on standard error.

    In a pipe or a file, a thread prints a line every LINE_SECONDS, also during work that reports nothing.
    leave: whether the bar stays in the terminal at the end.
    """

    def __init__(self, total: int, unit: str, leave: bool = True):
        self.total, self.unit, self.finished, self.text = total, unit, 0, ""
        self.began, self.ended = time.monotonic(), threading.Event()
        form = "{n_fmt}/{total_fmt} |{bar:20}| {elapsed} {desc}"
        self.bar = tqdm(total=total, unit=unit, disable=None, leave=leave, bar_format=form)

    def __enter__(self):
        if self.bar.disable:
            threading.Thread(target=self._print_lines, daemon=True).start()
        return self

    def __exit__(self, *exception):
        self.ended.set()
        self.bar.close()

    def show(self, finished: int, text: str = "") -> None:
        """Show the number of finished units.  text: what is being done now."""
        self.finished, self.text = finished, text
        self.bar.n = finished
        self.bar.set_description_str(text)

    def advance(self) -> None:
        """One more unit is finished."""
        self.show(self.finished + 1)

    def write(self, line: str) -> None:
        """Print a line, above the bar."""
        self.bar.write(line, file=sys.stderr)

    def _print_lines(self):
        while not self.ended.wait(LINE_SECONDS):
            say(self.line(time.monotonic() - self.began))

    def line(self, seconds: float) -> str:
        """The progress as a line, after some seconds."""
        line = f"{self.finished} of {self.total} {self.unit}s finished after {format_duration(seconds)}"
        return f"{line}; {self.text}" if self.text else line
