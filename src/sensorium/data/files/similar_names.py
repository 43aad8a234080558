"""Similar file names, for messages about missing files."""

from __future__ import annotations

import os
from difflib import get_close_matches
from itertools import islice
from pathlib import Path

COMPARED = 2000
"""Maximum number of names compared in a folder, so that an error message is fast even with a million pictures."""


def nearby(path: Path) -> str | None:
    """Return advice on the missing file ``path``: similar names or what its folder holds; None where nothing helps."""
    folder = path.parent
    if not folder.is_dir():
        return f"there is no folder {folder}"
    try:
        with os.scandir(folder) as entries:
            names = sorted(entry.name for entry in islice(entries, COMPARED))
    except OSError:
        return None
    # A name that differs only in case is the likeliest mistake, and difflib ranks it low.
    lower = {name.lower(): name for name in names}
    close = [lower[path.name.lower()]] if path.name.lower() in lower else get_close_matches(path.name, names, n=3)
    if close:
        return f"did you mean {' or '.join(close)}?"
    if not names:
        return f"the folder {folder} is empty"
    return f"{folder} has: {', '.join(names[:5])}{', ...' if len(names) > 5 else ''}"
