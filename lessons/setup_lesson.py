"""The set-up that all lessons share: imports, figures with a text description, timing, and exercises.

A lesson imports the names that it uses: `from setup_lesson import np, plt, show`. This works in a notebook, whose working
directory is `lessons/`, and for a lesson that runs as a script, from any directory.
"""

import time
from pathlib import Path

import tinyslm  # before NumPy, so that its process settings apply (tinyslm/runtime.py)
import matplotlib.pyplot as plt
import numpy as np

from tinyslm.evaluation import measure_loss
from tinyslm.reporting.lesson_figures import (
    show_attention,
    show_bars,
    show_floor,
    show_frontier,
    show_histogram,
    show_lines,
    show_matrix,
    show_stacked_bars,
    use_lesson_style,
    use_powers,
)
from tinyslm.reporting.source import numbered_source
from tinyslm.reporting.summary import summary
from tinyslm.text.corpus import town_corpus

__all__ = [
    "exercise",
    "median_milliseconds",
    "np",
    "numbered_source",
    "plt",
    "show",
    "show_attention",
    "show_bars",
    "show_floor",
    "show_frontier",
    "show_histogram",
    "show_lines",
    "show_marks",
    "show_matrix",
    "show_stacked_bars",
    "summary",
    "tinyslm",
    "town_corpus",
    "use_powers",
    "validation_loss",
]
LESSONS = Path(__file__).parent

use_lesson_style()


def show(description):
    """Show the current figure. A notebook stores the description as the alternative text of the image.

    description: what is seen: the kind of picture, its axes, and the pattern that the lesson explains.
    """
    if not description.strip():
        raise tinyslm.ConfigError(
            "show: the description is empty; describe the figure in a sentence or two"
        )
    figure = plt.gcf()
    if "inline" not in plt.get_backend():
        plt.show()
        return
    from IPython.display import display

    display(figure, metadata={"image/png": {"alt": description}})
    plt.close(figure)


def validation_loss(model, corpus) -> float:
    """Mean loss on the validation documents of the corpus, in nats per token."""
    return measure_loss(model, corpus.validation).nats


def median_milliseconds(function, calls=15) -> float:
    """Median time of a call of the function without arguments, in milliseconds."""
    times = []
    for _ in range(calls):
        began = time.perf_counter()
        function()
        times.append(1000 * (time.perf_counter() - began))
    return float(np.median(times))


def exercise(name):
    """Grade the solution of an exercise, `lessons/mine/NAME.py`, or print how to begin.

    In the built notebook, cells with the task, the stub and the marks replace this call (see `build.py`).
    """
    from tinyslm.coursework.exercises import find_exercise

    path = LESSONS / "mine" / find_exercise(name).file_name
    if path.exists():
        show_marks(path)
    else:
        print(f"{name}: begin with `tinyslm exercise new {name} --to mine`, or in the notebook")


def show_marks(path):
    """Grade a file of solutions and print its marks, one line per property."""
    from tinyslm.coursework.grading import as_text, grade

    path = Path(path)
    print(as_text(grade(path if path.exists() else LESSONS / path)))
