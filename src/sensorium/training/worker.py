"""One of the processes that ``fit`` started: it is told on standard input what ``fit`` was asked, and does the same."""

from __future__ import annotations

import json
import os
import sys

from sensorium.core.errors import SensoriumError
from sensorium.core.recipe import Recipe
from sensorium.training.fit import fit


def main() -> None:
    """The job, from its beginning; the first process speaks and writes."""
    job = json.load(sys.stdin)
    try:
        fit(**{**job, "recipe": Recipe.parse(job["recipe"])}, quiet=True)
    except SensoriumError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    except RuntimeError as error:
        # The first process is gone, and says why itself; or this is a fault of its own.
        if os.getppid() == 1:
            sys.exit(1)
        raise error


if __name__ == "__main__":
    main()
