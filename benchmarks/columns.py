"""Time and peak memory of ``fit`` on tables of 30 to 20,000 columns, for the default encoder and for ``mlp``.

Each table has 60 rows, as in studies with thousands of measurements of each sample. Each run has a process of its own;
the two encoders alternate.
"""

from __future__ import annotations

import json

from benchmarks.measure import Measure, Results, Settings, compared, python

COLUMNS = (30, 300, 3_000, 20_000)
ROWS = 60
CODE = """
import json, sys, time
from pathlib import Path
import numpy as np
import sensorium, sensorium.training.fit, sensorium.training.network_training, sensorium.evaluation.evaluate
rows, columns, epochs, encoder = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3], sys.argv[4]
cells = np.random.default_rng(0).normal(size=(columns, rows))
table = {f"c{i}": column.tolist() for i, column in enumerate(cells)}
table["label"] = ["ab"[int(x > 0)] for x in cells[:5].sum(axis=0)]
overrides = ["training.threads=1"] + ([f"training.epochs={epochs}"] if epochs != "all" else [])
overrides += ["model.encoders.table=mlp"] if encoder == "mlp" else []
begun = time.process_time()
model = sensorium.fit(table, target="label", quiet=True, overrides=overrides)
seconds = time.process_time() - begun
# Not getrusage: a new process's ru_maxrss starts at what its parent held when it was started.
peak = int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0]) / 1024
print(json.dumps({"seconds": seconds, "peak": peak, "encoder": model.recipe.model.encoders["table"]["kind"]}))
"""


def once(columns: int, encoder: str, settings: Settings) -> dict[str, float]:
    """Return the CPU seconds and peak memory (MB) of one call of ``fit``, evaluation included."""
    arguments = (str(settings.few(ROWS, 30)), str(columns), "1" if settings.smoke else "all", encoder)
    results: dict[str, float] = json.loads(python(CODE, *arguments, OMP_NUM_THREADS="1")[1].splitlines()[-1])
    return results


def run(settings: Settings) -> Results:
    results: Results = []
    for columns in COLUMNS[:2] if settings.smoke else COLUMNS:
        runs: dict[str, list[dict[str, float]]] = {"default": [], "mlp": []}
        for i in range(settings.few(3, 1)):
            for encoder in ("default", "mlp") if i % 2 == 0 else ("mlp", "default"):
                runs[encoder].append(once(columns, encoder, settings))
        ours, theirs = runs["default"], runs["mlp"]
        most = {3_000: (3.0, 1.5)}.get(columns, (None, None))
        for what, unit, limit in (("seconds", "CPU s", most[0]), ("peak", "MB", most[1])):
            name = f"{columns:,} columns, {'training' if what == 'seconds' else 'peak memory'}"
            note = f"{ROWS} rows; the default is {ours[0]['encoder']}"
            results.append(
                compared(name, unit, [r[what] for r in ours], [r[what] for r in theirs], at_most=limit, note=note)
            )
        if columns == COLUMNS[-1]:
            peaks = [r["peak"] for r in ours]
            results.append(
                Measure(
                    f"{columns:,} columns, peak memory alone",
                    "MB",
                    sorted(peaks)[len(peaks) // 2],
                    spread=(min(peaks), max(peaks)),
                    at_most=2000,
                )
            )
    return results
