"""A Dask cluster on this machine, for the tests of sweeps."""

import contextlib

import pytest


@contextlib.contextmanager
def local_cluster():
    """A scheduler and two worker processes of Dask; skips the test if `distributed` is not installed."""
    distributed = pytest.importorskip("distributed")
    with distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None, silence_logs=50
    ) as cluster:
        yield cluster
