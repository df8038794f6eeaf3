"""Pytest plugin for grading: `--implementation FILE` runs the property tests on the functions of a file.

With `--grade FD`, as `tinyslm grade` calls it, this process is the judge of a submission that another process runs
(`judge.py`, `worker.py`). The judge receives the task over the socket FD and sends one record per property back.
"""

import socket

import pytest
from hypothesis import Phase, settings

from tinyslm.coursework import implementation

GENERATE = (Phase.explicit, Phase.generate, Phase.target)

# Both profiles draw the same examples. Neither explains a failure (a comment per argument, after hundreds of further
# runs); `first-failure` does not shrink either: only whether a test fails matters for a mistake.
PROFILE = settings(
    derandomize=False, database=None, deadline=None, max_examples=50, print_blob=False, report_multiple_bugs=False
)
settings.register_profile("grade", PROFILE, phases=(*GENERATE, Phase.shrink))
settings.register_profile("first-failure", PROFILE, phases=GENERATE)


def pytest_addoption(parser):
    """Options of grading."""
    group = parser.getgroup("tinyslm", "coursework")
    group.addoption("--implementation", metavar="FILE", help="test the functions of this file instead of the library's")
    group.addoption("--grade", type=int, metavar="FD", help="judge the submission that this socket describes")


def pytest_configure(config):
    """Choose the functions under test, before a test module imports them."""
    config.addinivalue_line("markers", "marks(n): marks of a property in an exercise (default: 1)")
    config.addinivalue_line("markers", "ungraded: a property that does not count in any exercise")
    if config.getoption("--grade") is not None:
        from tinyslm.coursework.judge import Judge  # needs an operating system with fork

        settings.load_profile("grade")
        config.pluginmanager.register(Judge(socket.socket(fileno=config.getoption("--grade"))))
    elif path := config.getoption("--implementation"):
        try:
            implementation.use(implementation.load(path))
        except BaseException as error:  # anything that the file raises, SystemExit included
            raise pytest.UsageError(f"{path}: {type(error).__name__}: {error}") from error


def pytest_collection_finish(session):
    """Refuse to test a file of which the tests use nothing: they would pass or fail for the library."""
    path = session.config.getoption("--implementation")
    if path and "file" not in implementation.taken().values():
        used = ", ".join(sorted(implementation.taken())) or "nothing"
        raise pytest.UsageError(f"{path} defines nothing that these tests use ({used})")


def pytest_terminal_summary(terminalreporter, config):
    """Print which functions came from the file and which from the library."""
    path = config.getoption("--implementation")
    if path and implementation.taken():
        for source in dict.fromkeys(["file", *implementation.taken().values()]):
            names = sorted(name for name, origin in implementation.taken().items() if origin == source)
            terminalreporter.write_line(f"from {path if source == 'file' else source}: {', '.join(names)}")
