"""Time per row and peak memory of the same training on a table and on tables of ten and a hundred times the rows.

All runs take about the same number of steps, so that each is measured for as long. Training from shards as a stream
(``--stream``) is measured too: its memory must not grow, and its time includes decoding in every epoch.
"""

from __future__ import annotations

import csv
import json
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.measure import Results, Settings, compared, photos, python

BATCH = 32
CODE = """
import json, sys, time
from pathlib import Path
import sensorium, sensorium.training.fit, sensorium.training.callbacks, sensorium.evaluation.evaluate
from sensorium.data.tables.table import Table
from sensorium.training.lightning_module import TrainingModule
def peak():
    # Not getrusage: a new process's ru_maxrss starts at what its parent held when it was started.
    return int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0]) / 1024
source, valid, cache, epochs, stream = sys.argv[1:]
stream, read, before = stream == "stream", 0.0, peak()
if not stream:
    source = Table.read(source)
    source.rows()
    read = peak() - before
spent, begun = [], []
step = TrainingModule.on_train_batch_start
def on_train_batch_start(self, batch, batch_idx):
    now = time.process_time(), time.perf_counter()
    if batch_idx:
        spent.append([a - b for a, b in zip(now, begun[-1])])
    begun.append(now)
    return step(self, batch, batch_idx)
TrainingModule.on_train_batch_start = on_train_batch_start
sensorium.fit(
    source, target="label", valid=valid, cache=cache, quiet=True, stream=stream,
    overrides=[f"training.epochs={epochs}", "training.batch_size=BATCH", "training.patience=100000", "model.size=tiny"],
)
# The first steps warm up.
spent = spent[len(spent) // 10:]
cpu, wall = (sum(column) / len(spent) / BATCH for column in zip(*spent))
print(json.dumps({"cpu": cpu, "wall": wall, "peak": peak(), "read": read}))
""".replace("BATCH", str(BATCH))


def run(settings: Settings) -> Results:
    rows, times = settings.few(320, 64), (1, 10, 100)[: settings.few(3, 2)]
    steps = settings.few(2000, 8)
    collected: dict[tuple[str, int], list[dict[str, float]]] = {}
    with tempfile.TemporaryDirectory() as folder:
        at = Path(folder)
        names = photos(at, rows * times[-1], (32, 32), ".png")
        _table(at / "valid.csv", names[:64])
        for many in times:
            _table(at / f"{many}.csv", names[: rows * many])
            _packed(at, many, rows)
        for i in range(settings.few(3, 1)):
            for many in times:
                epochs = str(max(1, steps * BATCH // (rows * many)))
                for way in ("table", "stream"):
                    source = at / f"{many}.csv" if way == "table" else at / f"packed-{many}"
                    arguments = (str(source), str(at / "valid.csv"), str(at / f"cache-{i}-{many}-{way}"), epochs, way)
                    printed = python(CODE, *arguments, OMP_NUM_THREADS="1")[1]
                    collected.setdefault((way, many), []).append(json.loads(printed.splitlines()[-1]))
    results: Results = []
    for way in ("table", "stream"):
        for many in times[1:]:
            ours, once = collected[way, many], collected[way, 1]
            name = f"{many} × the rows, {way}"
            note = f"{rows * many:,} rows beside {rows:,}, pictures of 32 × 32, less {ours[0]['read']:.1f} MB for the table"
            per_row = [[1e6 * run["cpu"] for run in runs] for runs in (ours, once)]
            results.append(compared(f"CPU time a row, {name}", "µs", *per_row, at_most=1.05))
            memory = [[run["peak"] - run["read"] for run in runs] for runs in (ours, once)]
            results.append(compared(f"peak memory, {name}", "MB", *memory, at_most=1.1, note=note))
    last = [[1e6 * run["wall"] for run in collected[way, times[-1]]] for way in ("stream", "table")]
    results.append(compared("wall time a row, stream beside table", "µs", *last, note="a stream decodes in every epoch"))
    return results


def _table(path: Path, names: list[str]) -> None:
    with open(path, "w", newline="") as file:
        writer: Any = csv.writer(file)
        writer.writerow(["photo", "label"])
        writer.writerows([name, "ab"[i % 2]] for i, name in enumerate(names))


def _packed(at: Path, many: int, rows: int) -> None:
    from sensorium.data.files.media_access import LocalFiles
    from sensorium.data.shards.pack import pack
    from sensorium.data.tables.table import Table

    pack(Table.read(at / f"{many}.csv"), at / f"packed-{many}", media=LocalFiles(at), rows_per_shard=rows)
