"""Threads of the libraries that experts are fitted with."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

ROWS = 10_000
"""Rows for which a further thread pays."""


@contextmanager
def threads_for(rows: int) -> Iterator[None]:
    """Context in which BLAS and OpenMP use at most one thread for every 10,000 ``rows`` or part of them.

    Fitting an expert on a few thousand rows is a long sequence of short products and histograms. Threads spin while they
    wait for each other: on two cores, one thread took 20 s for a table of 2,000 rows, and two took 34 s (and 54 s of
    processor time). Results then do not depend on the number of cores either.
    """
    from threadpoolctl import threadpool_limits

    most = -(-rows // ROWS)
    if most >= torch.get_num_threads():
        yield
        return
    with threadpool_limits(most):
        yield
