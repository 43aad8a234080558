"""Peak memory of ``fit`` (read, decode, train, validate, evaluate) on a table and on one with ten times the rows."""

from __future__ import annotations

import csv
import json
import tempfile
from pathlib import Path

from benchmarks.measure import Results, Settings, compared, photos, python

CODE = """
import json, sys
from pathlib import Path
import sensorium, sensorium.training.fit, sensorium.training.callbacks, sensorium.evaluation.evaluate
from sensorium.data.tables.table import Table
def peak():
    # Not getrusage: a new process's ru_maxrss starts at what its parent held when it was started.
    return int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0]) / 1024
before = peak()
table = Table.read(sys.argv[1])
table.rows()
read = peak() - before
sensorium.fit(
    table, target="label", valid=sys.argv[2], cache=sys.argv[3], quiet=True,
    overrides=["training.epochs=1", "training.batch_size=32", "model.size=tiny"],
)
print(json.dumps({"read": read, "peak": peak()}))
"""


def run(settings: Settings) -> Results:
    rows, times = settings.few(800, 16), 10
    with tempfile.TemporaryDirectory() as folder:
        at = Path(folder)
        # 96 × 96 × 3 bytes each once decoded: ten times the rows would take 220 MB if all were held in memory.
        names = photos(at, rows * times, (96, 96), ".jpg")
        for name, part in (("once", names[:rows]), ("often", names), ("valid", names[: rows // 4])):
            with open(at / f"{name}.csv", "w", newline="") as file:
                writer = csv.writer(file)
                writer.writerow(["photo", "label"])
                writer.writerows([photo, "ab"[i % 2]] for i, photo in enumerate(part))
        results: dict[str, list[dict[str, float]]] = {"once": [], "often": []}
        for i in range(settings.few(3, 1)):
            for name, into in results.items():
                cache = str(at / f"cache-{name}-{i}")
                arguments = (str(at / f"{name}.csv"), str(at / "valid.csv"), cache)
                into.append(json.loads(python(CODE, *arguments, OMP_NUM_THREADS="1")[1].splitlines()[-1]))
    read = results["often"][0]["read"]
    note = f"{rows * times} rows and {rows} rows; without the table itself, {read:.1f} MB for the longer one"
    return [
        compared(
            f"peak memory, {times} × the rows",
            "MB",
            [f["peak"] - f["read"] for f in results["often"]],
            [f["peak"] - f["read"] for f in results["once"]],
            at_most=1.1,
            note=note,
        )
    ]
