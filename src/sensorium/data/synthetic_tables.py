"""Writing of generated rows as training and test tables."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from sensorium.core.errors import ConfigError


def check(what: str, rows: int, holes: float, test: float) -> None:
    """Refuse counts and shares that are out of range.

    Args:
        what: The data set, for the message.
        rows: The number of rows.
        holes: The share of cells that are missing.
        test: The share of rows in ``test.csv``.

    Raises:
        ConfigError: One is out of range.
    """
    if rows < 1 or not 0 <= holes < 1 or not 0 <= test < 1:
        raise ConfigError(f"synthetic {what}: rows={rows} holes={holes} test={test} are not valid counts and shares")


def write(
    folder: Path,
    rows: Sequence[Mapping[str, str]],
    *,
    test: float,
    holes: float = 0.0,
    keep: Sequence[str] = (),
    seed: int = 0,
) -> dict[str, Path]:
    """Write ``rows`` to ``train.csv`` and, the last ones, to ``test.csv``; return the paths by name.

    Args:
        folder: Where to write.
        rows: Cells by column.
        test: The share of rows in ``test.csv``; 0: no such file.
        holes: The share of cells that are left empty.
        keep: Columns without holes.
        seed: Random seed of the holes.
    """
    rng = np.random.default_rng(seed)
    cells = [
        {name: "" if name not in keep and rng.random() < holes else cell for name, cell in row.items()} for row in rows
    ]
    held = round(len(cells) * test)
    paths = {}
    for name, part in (("train", cells[: len(cells) - held]), ("test", cells[len(cells) - held :])):
        if part:
            paths[name] = folder / f"{name}.csv"
            with paths[name].open("w", newline="", encoding="utf-8") as file:
                writer = csv.DictWriter(file, list(part[0]))
                writer.writeheader()
                writer.writerows(part)
    return paths
