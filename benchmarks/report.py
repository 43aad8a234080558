"""Size of the report of an evaluation of many rows, and the time that a browser takes to open it."""

from __future__ import annotations

import csv
import statistics
import tempfile
import time
from pathlib import Path

from benchmarks import browser
from benchmarks.measure import Measure, Results, Settings, photos, sounds

ROWS = 10_000
SLOW = 4
"""Slowdown factor of the throttled browser, about that of a mobile phone."""


def run(settings: Settings) -> Results:
    rows = settings.few(ROWS, 60)
    with tempfile.TemporaryDirectory() as folder:
        took = written(Path(folder), rows, settings)
        result = browser.executable()
        note = "" if result else "no browser on this machine: the time to open the report was not measured"
        name = f"report of {rows:,} rows"
        results: Results = [Measure(f"{name}: evaluated, explained and written", "CPU s", took, note=note)]
        for page, what in (("report", name), ("full", f"{name}, as large as one may be")):
            path = Path(folder, f"{page}.html")
            results.append(Measure(f"{what}: size", "MB", path.stat().st_size / 1e6, at_most=14))
            if result:
                results += opened(path, what, settings)
    return results


def written(folder: Path, rows: int, settings: Settings) -> float:
    """Write ``report.html`` of a small model of five streams with three targets; return the CPU seconds.

    ``full.html`` is the same report with photographs and long sounds in place of the small ones.
    """
    import sensorium
    from sensorium.data.synthetic import make
    from sensorium.data.tables.table import Table

    tables = make(folder, rows=settings.few(600, 80), targets=("event", "cost", "tags"), damage=True)
    small = ["model.size=tiny", f"training.epochs={settings.few(4, 1)}"]
    targets = ["event", "cost", "tags"]
    model = sensorium.fit(tables["train"], target=targets, overrides=small, quiet=True, cache=folder / "cache")
    with tables["test"].open(encoding="utf-8", newline="") as file:
        known = list(csv.DictReader(file))
    many = folder / "many.csv"
    with many.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, known[0])
        writer.writeheader()
        # Few files are enough for many rows: the page shows a bounded number of them.
        writer.writerows(known[i % len(known)] for i in range(rows))
    start = time.process_time()
    evaluation = model.evaluate(many, report=folder / "report.html")
    took = time.process_time() - start
    table = Table.read(many)
    encoded = model.encode(table)
    large, long = photos(folder / "large", 20, (640, 480), ".jpg"), sounds(folder / "long", 4, 20.0, 16_000)
    for kind, source, names in (("photos", "large", large), ("sounds", "long", long)):
        for i, path in enumerate(sorted((folder / kind).iterdir())):
            path.write_bytes((folder / source / names[i % len(names)]).read_bytes())
    model.write_report(folder / "full.html", evaluation, table, encoded)
    return took


def opened(path: Path, name: str, settings: Settings) -> list[Measure]:
    """Measure the time to open a page and an empty one, alternately, at full speed and in a throttled browser."""
    empty = path.with_name("empty.html")
    empty.write_text("<!DOCTYPE html><title>empty</title>", encoding="utf-8")
    results = []
    with browser.page() as page:
        for where, rate in (("", 1), (f", on a machine {SLOW} times slower", SLOW)):
            page.ask("Emulation.setCPUThrottlingRate", rate=rate)
            pairs = [(page.opened(path.as_uri()), page.opened(empty.as_uri())) for _ in range(settings.few(7, 1))]
            times = [seconds for seconds, _ in pairs]
            nothing = statistics.median(other for _, other in pairs)
            note = f"an empty page {nothing:.3f} s; the first time, with cold caches, {times[0]:.2f} s"
            middle = statistics.median(times)
            spread = (min(times), max(times))
            limit = 2 if rate == 1 else None
            results.append(Measure(f"{name}: opens{where}", "s", middle, nothing, spread=spread, at_most=limit, note=note))
    return results
