"""Available main memory, to refuse what cannot fit with a clear error."""

from __future__ import annotations

import os
from pathlib import Path

FALLBACK = 4 << 30


def available() -> int:
    """Return the bytes of main memory still available to the process, within its cgroup limit if it has one."""
    free = FALLBACK
    try:
        lines = dict(line.split(":", 1) for line in Path("/proc/meminfo").read_text(encoding="ascii").splitlines())
        free = int(lines["MemAvailable"].split()[0]) << 10
    except (OSError, KeyError, ValueError):
        if hasattr(os, "sysconf") and "SC_PHYS_PAGES" in os.sysconf_names:
            free = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2
    try:
        group = Path("/sys/fs/cgroup")
        limit = (group / "memory.max").read_text(encoding="ascii").strip()
        if limit != "max":
            free = min(free, int(limit) - int((group / "memory.current").read_text(encoding="ascii")))
    except (OSError, ValueError):
        pass  # no cgroup limit, or not version 2
    return max(free, 0)
