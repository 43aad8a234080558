"""Threads of the libraries that experts are fitted with."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

ROWS = 50_000
"""Rows for which a further thread pays, by a wide margin: on two cores of which one was occupied, boosting 10,000 rows took
two threads 17 s and one 6 s, on free cores as long."""


@contextmanager
def threads_for(rows: int) -> Iterator[None]:
    """Context in which BLAS and OpenMP use at most one thread for every 50,000 ``rows`` or part of them.

    Fitting an expert on a few thousand rows is a long sequence of short products and histograms. Threads spin while they
    wait for each other: on two cores, one thread took 20 s for a table of 2,000 rows, and two took 34 s (and 54 s of
    processor time).
    """
    # Only libraries that are loaded can be limited.
    import scipy.linalg  # noqa: F401
    import sklearn.ensemble  # noqa: F401
    from threadpoolctl import ThreadpoolController

    most, controller = -(-rows // ROWS), ThreadpoolController()
    with ExitStack() as limits:
        for library in controller.info():
            if library["num_threads"] > most:  # a limit also raises
                limits.enter_context(controller.select(filepath=library["filepath"]).limit(limits=most))
        yield
