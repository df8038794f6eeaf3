"""Progress of a command: a bar in a terminal, and a line now and then in a pipe or a file."""

import sys
import time

from tqdm import tqdm

from tinyslm.commands.training_inputs import say
from tinyslm.commands.training_progress import format_duration

LINE_SECONDS = 20  # at least, between two lines


class Progress:
    """Context manager: shows how many of `total` units are finished, on standard error.

    In a pipe or a file, a line is printed at most every LINE_SECONDS.
    """

    def __init__(self, total: int, unit: str):
        self.total, self.unit = total, unit
        self.bar = tqdm(
            total=total, unit=unit, disable=None, bar_format="{n_fmt}/{total_fmt} |{bar:20}| {elapsed} {desc}"
        )
        self.began = self.printed = time.monotonic()

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self.bar.close()

    def show(self, finished: int, text: str = "") -> None:
        """Show the number of finished units.  text: what is being done now."""
        self.bar.n = finished
        self.bar.set_description_str(text)
        now = time.monotonic()
        if self.bar.disable and now - self.printed >= LINE_SECONDS:
            self.printed = now
            line = f"{finished} of {self.total} {self.unit}s finished after {format_duration(now - self.began)}"
            say(f"{line}; {text}" if text else line)

    def write(self, line: str) -> None:
        """Print a line above the bar."""
        self.bar.write(line, file=sys.stderr)
