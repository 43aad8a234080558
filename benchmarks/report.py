"""The report of an evaluation of many rows: its size, and the time a browser takes to open it."""

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
"""Times slower than this machine: about a telephone."""


def run(settings: Settings) -> Results:
    rows = settings.few(ROWS, 60)
    with tempfile.TemporaryDirectory() as folder:
        took = written(Path(folder), rows, settings)
        result = browser.executable()
        note = "" if result else "no browser on this machine: how long it takes to open was not measured"
        name = f"report of {rows:,} rows"
        results: Results = [Measure(f"{name}: evaluated, explained and written", "CPU s", took, note=note)]
        for page, what in (("report", name), ("full", f"{name}, as large as one may be")):
            path = Path(folder, f"{page}.html")
            results.append(Measure(f"{what}: size", "MB", path.stat().st_size / 1e6, at_most=14))
            if result:
                results += opened(path, what, settings)
    return results


def written(folder: Path, rows: int, settings: Settings) -> float:
    """``report.html`` of a small model of pictures, sounds, series, texts and numbers, with three targets; CPU seconds.

    ``full.html`` is the same with photographs and long sounds in place of the small ones.
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
        # Few files, many rows: what a page shows does not depend on how many there were.
        writer.writerows(known[i % len(known)] for i in range(rows))
    start = time.process_time()
    evaluation = model.evaluate(many, report=folder / "report.html")
    took = time.process_time() - start
    table = Table.read(many)
    encoded = model.encode(table)
    large, long = photos(folder / "large", 20, (640, 480), ".jpg"), sounds(folder / "long", 4, 20.0, 16_000)
    for present, region_mask, names in (("photos", "large", large), ("sounds", "long", long)):
        for i, path in enumerate(sorted((folder / present).iterdir())):
            path.write_bytes((folder / region_mask / names[i % len(names)]).read_bytes())
    model.write_report(folder / "full.html", evaluation, table, encoded)
    return took


def opened(path: Path, name: str, settings: Settings) -> list[Measure]:
    """The time to open a page beside an empty one, in turn; and both on a machine made slower."""
    empty = path.with_name("empty.html")
    empty.write_text("<!DOCTYPE html><title>empty</title>", encoding="utf-8")
    results = []
    with browser.page() as page:
        for where, rate in (("", 1), (f", on a machine {SLOW} times slower", SLOW)):
            page.ask("Emulation.setCPUThrottlingRate", rate=rate)
            pairs = [(page.opened(path.as_uri()), page.opened(empty.as_uri())) for _ in range(settings.few(7, 1))]
            times = [one for one, _ in pairs]
            nothing = statistics.median(other for _, other in pairs)
            note = f"an empty page {nothing:.3f} s; the first time, with nothing warm, {times[0]:.2f} s"
            seconds = statistics.median(times)
            spread = (min(times), max(times))
            limit = 2 if rate == 1 else None
            results.append(Measure(f"{name}: opens{where}", "s", seconds, nothing, spread=spread, at_most=limit, note=note))
    return results
