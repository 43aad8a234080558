"""Simulated days at home in brief: two sensors on one clock, and who does what when.

Each row is a recording of one to two minutes, a step a second, with these columns:

    motion   three channels of a motion sensor: it tells being busy from sitting still, but not cooking from washing
    power    the power drawn in kW: it tells cooking from washing, but not resting from being away
    labels   spans of the activities cook, wash, rest and away, in seconds
"""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sensorium.core.errors import ConfigError

ACTIVITIES = {"cook": (1.0, 2.0), "wash": (1.0, 0.6), "rest": (0.35, 0.1), "away": (0.0, 0.1)}
"""How much is moved, and how much power is drawn."""


def make(folder: Path | str, rows: int = 200, seed: int = 0, *, holes: float = 0.0, test: float = 0.25) -> dict[str, Path]:
    """Write ``train.csv`` and ``test.csv`` with a folder for each sensor; the same arguments give the same files.

    Args:
        folder: Where to write; created if missing.
        rows: The number of rows.
        seed: Random seed.
        holes: The share of sensor recordings and of labels that are missing.
        test: The share of rows in ``test.csv``.

    Returns:
        The paths of the tables by name; one without rows is not written.

    Raises:
        ConfigError: The arguments are invalid.
    """
    if rows < 1 or not 0 <= holes < 1 or not 0 <= test < 1:
        raise ConfigError(f"synthetic activities: rows={rows} holes={holes} test={test} are not valid counts and shares")
    folder = Path(folder)
    for name in ("motion", "power"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    cells: list[dict[str, str]] = []
    for i in range(rows):
        rng = np.random.default_rng([seed, i])
        motion, power, spans = recording(rng)
        np.save(folder / "motion" / f"{i:04d}.npy", motion)
        np.save(folder / "power" / f"{i:04d}.npy", power)
        row = {"motion": f"motion/{i:04d}.npy", "power": f"power/{i:04d}.npy", "labels": json.dumps(spans)}
        cells.append({name: "" if rng.random() < holes else cell for name, cell in row.items()})
    held = round(rows * test)
    paths = {}
    for name, part in (("train", cells[: rows - held]), ("test", cells[rows - held :])):
        if part:
            paths[name] = folder / f"{name}.csv"
            with paths[name].open("w", newline="", encoding="utf-8") as file:
                writer = csv.DictWriter(file, list(part[0]))
                writer.writeheader()
                writer.writerows(part)
    return paths


def recording(
    rng: np.random.Generator,
) -> tuple[NDArray[np.float32], NDArray[np.float32], list[tuple[int, int, str]]]:
    """Return the readings of the motion sensor ``[T, 3]`` and of the meter ``[T, 1]``, and the spans of the activities.

    Args:
        rng: Source of randomness.
    """
    length = int(rng.integers(60, 121))
    names = list(ACTIVITIES)
    spans: list[tuple[int, int, str]] = []
    start = 0
    while start < length:
        end = min(length, start + int(rng.integers(12, 40)))
        end = length if length - end < 8 else end
        others = [name for name in names if not spans or name != spans[-1][2]]
        spans.append((start, end, others[int(rng.integers(len(others)))]))
        start = end
    level = np.concatenate([np.tile(ACTIVITIES[name], (end - start, 1)) for start, end, name in spans])
    motion = level[:, :1] * np.abs(rng.normal(1.0, 0.5, (length, 3))) + 0.15 * rng.standard_normal((length, 3))
    power = level[:, 1:] * (1 + 0.35 * rng.standard_normal((length, 1))) + 0.15 * rng.standard_normal((length, 1))
    return motion.astype(np.float32), power.astype(np.float32), spans
