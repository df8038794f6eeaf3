"""Settings of the tests: Hypothesis profiles, and the number of worker processes."""

import os

if "PYTEST_XDIST_WORKER" in os.environ:  # workers share the cores: one BLAS thread each, chosen before NumPy is loaded
    for name in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS", "VECLIB_MAXIMUM_THREADS"):
        os.environ.setdefault(name, "1")

import pytest
from hypothesis import Phase, settings

pytest_plugins = ["tinyslm.coursework.plugin"]  # --implementation FILE
WITHOUT_SHRINKING = (Phase.explicit, Phase.generate, Phase.target)
MOST_WORKERS = 8

settings.register_profile("tinyslm", derandomize=True, database=None, deadline=None, max_examples=50, print_blob=True)
settings.register_profile("few", derandomize=True, database=None, deadline=None, max_examples=10)
settings.register_profile("mistakes", settings.get_profile("tinyslm"), phases=WITHOUT_SHRINKING)
settings.register_profile("explore", derandomize=False, database=None, deadline=None, max_examples=2000)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "tinyslm"))


@pytest.hookimpl(tryfirst=True)
def pytest_cmdline_main(config):
    """Run whole directories with one worker process per core if pytest-xdist is installed; `-n` overrides it."""
    options = config.option
    if "PYTEST_XDIST_WORKER" in os.environ:
        return  # this is a worker: it calls this hook too, and would start workers of its own without end
    if not config.pluginmanager.hasplugin("xdist") or options.usepdb or options.implementation or options.collectonly:
        return
    whole = not any(argument.partition("::")[0].endswith(".py") for argument in config.args)
    if whole and options.numprocesses is None and options.dist == "no":
        from tinyslm.runtime import available_cores

        options.numprocesses, options.dist = min(available_cores(), MOST_WORKERS), "worksteal"
