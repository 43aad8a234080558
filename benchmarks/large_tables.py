"""``python -m benchmarks.large_tables [rows|columns|classes ...] [--quality fast] [settings]``: what large tables cost.

``rows``: 100,000 rows of nine cells and a short text, two classes. ``columns``: 1,000 rows of 3,000 numbers, two classes.
``classes``: 9,000 rows of a text and six numbers, 300 classes. All are drawn, so they need no data. Each table is fitted
in a process of its own, which prints one JSON line: CPU and wall seconds of ``fit`` with the number of epochs that were
trained, the peak memory of the process, and the scores on 1,000 further rows beside the baseline.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

ROWS = {"rows": 100_000, "columns": 1_000, "classes": 9_000}
HELD_OUT = 1_000
CLASSES = 300
WORDS = [a + b + c for a in "bdfgklmnprst" for b in "aeiou" for c in ("l", "n", "r", "sk")]
"""240 short invented words."""

Columns = dict[str, list[Any]]


def drawn(name: str, rows: int, seed: int) -> Columns:
    """Return a table of ``rows`` rows and its column ``label``."""
    draw = np.random.default_rng(seed)
    if name == "rows":
        numbers = draw.normal(size=(rows, 6))
        codes = draw.integers(0, 8, size=(rows, 3))
        said = draw.integers(0, len(WORDS), size=(rows, 6))
        score = numbers[:, 0] - 0.7 * numbers[:, 1] * (codes[:, 0] > 3) + 0.8 * (said < 40).sum(axis=1) - 0.8
        table: Columns = {f"n{i}": numbers[:, i].round(4).tolist() for i in range(6)}
        table |= {f"c{i}": [f"code {code}" for code in codes[:, i]] for i in range(3)}
        table["note"] = [" ".join(WORDS[i] for i in row) for row in said]
        table["label"] = np.where(score + draw.normal(size=rows) > 0, "yes", "no").tolist()
        return table
    if name == "columns":
        numbers = draw.normal(size=(rows, 3_000))
        score = numbers[:, :20].sum(axis=1) / 20**0.5
        table = {f"c{i}": column.round(4).tolist() for i, column in enumerate(numbers.T)}
        table["label"] = np.where(score + 0.5 * draw.normal(size=rows) > 0, "yes", "no").tolist()
        return table
    classes = draw.integers(0, CLASSES, size=rows)
    centres = np.random.default_rng(7).normal(size=(CLASSES, 6))
    numbers = centres[classes] + draw.normal(size=(rows, 6))
    own = np.random.default_rng(8).integers(0, len(WORDS), size=(CLASSES, 4))
    kept = draw.random((rows, 4)) < 0.4
    said = np.where(kept, own[classes], draw.integers(0, len(WORDS), size=(rows, 4)))
    table = {f"n{i}": numbers[:, i].round(4).tolist() for i in range(6)}
    table["note"] = [" ".join(WORDS[i] for i in row) for row in said]
    table["label"] = [f"class {label}" for label in classes]
    return table


def cost(name: str, rows: int, quality: str, overrides: Sequence[str], seed: int) -> dict[str, Any]:
    """Fit one table in this process and return what it cost and what it reached."""
    import sensorium as sm
    import sensorium.evaluation.evaluate
    import sensorium.training.fit

    table, held_out = drawn(name, rows, seed), drawn(name, HELD_OUT, seed + 1_000)
    cpu, wall = time.process_time(), time.perf_counter()
    model = sm.fit(table, target="label", quality=quality, quiet=True, overrides=list(overrides), seed=seed)
    cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
    # Not getrusage: a new process's ru_maxrss starts at what its parent held when it was started.
    peak = int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0]) / 1024
    result = model.evaluate(held_out).targets["label"]
    return {
        "table": name,
        "rows": rows,
        "quality": quality,
        "overrides": list(overrides),
        "seed": seed,
        "cpu_seconds": round(cpu),
        "seconds": round(wall),
        "peak_mb": round(peak),
        "epochs": len(model.history),
        "metrics": {key: round(value, 4) for key, value in result.metrics.items()},
        "baseline": {key: round(value, 4) for key, value in result.baseline.items()},
    }


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"{', '.join(ROWS)}, or a setting: training.epochs=4")
    parser.add_argument("--quality", choices=("fast", "good", "best"), default="good")
    parser.add_argument("--rows", type=int, help="number of rows [default: as described above]")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--here", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_intermixed_args(arguments)
    overrides = [name for name in args.names if "=" in name]
    names = [name for name in args.names if "=" not in name] or list(ROWS)
    if unknown := [name for name in names if name not in ROWS]:
        parser.error(f"no table named {unknown[0]!r}; there are: {', '.join(ROWS)}")
    for name in names:
        rows = args.rows or ROWS[name]
        if args.here:
            print(json.dumps(cost(name, rows, args.quality, overrides, args.seed)), flush=True)
            continue
        command = [sys.executable, "-m", "benchmarks.large_tables", name, *overrides, "--here", "--rows", str(rows)]
        subprocess.run([*command, "--quality", args.quality, "--seed", str(args.seed)], check=True)


if __name__ == "__main__":
    main()
