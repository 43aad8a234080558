"""Simulated electricity meters as a long table: a row for each hour of each meter, with gaps and a clock that jitters.

meter        which meter
time         when it was read: on the hour, give or take two minutes
load         the power drawn in kW: the level of the meter, the time of day, the weekend, the cold
temperature  degrees outside, known in advance from the weather forecast
note         "open", "closed": whether the building is in use tomorrow
"""

from __future__ import annotations

import csv
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np

from sensorium.core.errors import ConfigError

START = datetime(2024, 1, 1)
METERS = ("north", "south", "harbour")
GAPS = 0.03
"""The share of readings that never arrived."""


def make(folder: Path | str, rows: int = 40, seed: int = 0, *, test: float = 0.25) -> dict[str, Path]:
    """Write ``train.csv`` and ``test.csv``, which goes on where the other ends; the same arguments give the same files.

    ``test.csv`` begins three days before the end of ``train.csv``, which are read as the past, and its last day has
    temperatures and no load: the day to forecast.

    Args:
        folder: Where to write; created if missing.
        rows: The number of days.
        seed: Random seed.
        test: The share of days after those of ``train.csv``; 0: no ``test.csv``.

    Returns:
        The paths of the tables by name.

    Raises:
        ConfigError: The arguments are invalid.
    """
    if rows < 5 or not 0 <= test < 1:
        raise ConfigError(f"synthetic meters: rows={rows} test={test} are not at least 5 days and a share")
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    hours = 24 * rows
    day = np.arange(hours) / 24
    spell = np.convolve(rng.normal(0, 3, hours + 72), np.ones(72) / 72**0.5, "valid")[:hours]
    temperature = 6 + 5 * np.sin(2 * np.pi * (day - 0.4)) + spell
    written: list[tuple[int, dict[str, str]]] = []
    for number, meter in enumerate(METERS):
        weekend = np.array([(START + timedelta(hours=hour)).weekday() >= 5 for hour in range(hours)])
        is_open = np.repeat(~weekend[::24] & (rng.random(rows) > 0.15), 24)
        load = 40 + 25 * number + (6 + 12 * is_open) * np.maximum(0, np.sin(2 * np.pi * (day - 0.3)))
        load += 0.8 * np.maximum(0, 15 - temperature) + rng.normal(0, 0.7, hours)
        for hour in range(hours):
            if rng.random() < GAPS:
                continue
            tomorrow = is_open[min(hour + 24, hours - 1)]
            when = START + timedelta(hours=hour, seconds=int(rng.integers(-120, 121)))
            row = {"meter": meter, "time": when.isoformat(), "load": f"{load[hour]:.2f}"}
            row |= {"temperature": f"{temperature[hour]:.1f}", "note": "open" if tomorrow else "closed"}
            written.append((hour, row))
    last = hours - 24 * round(rows * test)
    ahead = hours - 24
    parts = {"train": [row for hour, row in written if hour < last]}
    if last < hours:
        parts["test"] = [{**row, "load": row["load"] if hour < ahead else ""} for hour, row in written if hour >= last - 72]
    paths = {}
    for name, part in parts.items():
        paths[name] = folder / f"{name}.csv"
        with paths[name].open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, list(part[0]))
            writer.writeheader()
            writer.writerows(part)
    return paths
