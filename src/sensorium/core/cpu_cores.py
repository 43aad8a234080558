"""How many CPU cores and threads this process may use."""

from __future__ import annotations

import os


def process_cores() -> int:
    """Return the number of cores that this process may run on: fewer than the machine has under ``taskset``, in many
    containers and on shared clusters."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def named_threads() -> int | None:
    """Return the number of threads that ``OMP_NUM_THREADS`` names, the first of a list; None where it names none."""
    named = os.environ.get("OMP_NUM_THREADS", "").partition(",")[0].strip()
    return max(1, int(named)) if named.isdecimal() else None
