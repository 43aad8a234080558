"""A process started by ``fit``: it reads the arguments of ``fit`` from standard input and calls it."""

from __future__ import annotations

import json
import os
import sys

from sensorium.core.errors import SensoriumError
from sensorium.core.recipe import Recipe
from sensorium.training.fit import fit


def main() -> None:
    """Run ``fit`` on the job; the first process prints and writes."""
    job = json.load(sys.stdin)
    try:
        fit(**{**job, "recipe": Recipe.parse(job["recipe"])}, quiet=True)
    except SensoriumError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    except RuntimeError as error:
        # If the first process is gone, it reports the reason itself; otherwise the error is this process's own.
        if os.getppid() == 1:
            sys.exit(1)
        raise error


if __name__ == "__main__":
    main()
