"""How much memory there is, so that what cannot fit is refused in words and not by the operating system."""

from __future__ import annotations

import os
from pathlib import Path

FALLBACK = 4 << 30


def available() -> int:
    """Bytes of main memory that may still be taken: what the machine has free, or less where the process is confined."""
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
        pass  # not confined, or not so
    return max(free, 0)
