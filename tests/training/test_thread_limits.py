"""Experts on few rows are fitted by one thread, whatever the number of cores."""

from __future__ import annotations

import subprocess
import sys

import pytest
import scipy.linalg  # noqa: F401  (both loaded, so that the pools are the same throughout)
import sklearn.ensemble  # noqa: F401
from threadpoolctl import threadpool_info, threadpool_limits

from sensorium.training.thread_limits import threads_for


def counts() -> list[int]:
    return [pool["num_threads"] for pool in threadpool_info()]


@pytest.mark.parametrize(("rows", "threads"), [(10, 1), (50_000, 1), (50_001, 2), (125_000, 3), (10_000_000, 4)])
def test_a_thread_for_every_fifty_thousand_rows(rows: int, threads: int) -> None:
    with threadpool_limits(4):
        with threads_for(rows):
            assert set(counts()) == {threads}
        assert set(counts()) == {4}


def test_no_threads_are_added() -> None:
    with threadpool_limits(1), threads_for(125_000):
        assert set(counts()) == {1}


def test_limits_end_with_an_error() -> None:
    with threadpool_limits(4):
        with pytest.raises(ZeroDivisionError), threads_for(10):
            _ = 1 / 0
        assert set(counts()) == {4}


def test_libraries_are_loaded_before_they_are_limited() -> None:
    """In a fresh process with two threads: those of SciPy and scikit-learn are found, and limited."""
    script = (
        "from threadpoolctl import threadpool_info\n"
        "from sensorium.training.thread_limits import threads_for\n"
        "with threads_for(10):\n"
        "    import scipy.linalg, sklearn.ensemble, sklearn.linear_model\n"
        "    assert {p['num_threads'] for p in threadpool_info()} == {1}, threadpool_info()\n"
    )
    environment = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "2")
    subprocess.run([sys.executable, "-c", script], check=True, env=environment | {"PYTHONPATH": ":".join(sys.path)})
