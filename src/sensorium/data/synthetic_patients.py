"""Simulated patients: a note, laboratory values over time, a picture, and how long until the disease progresses.

age       in years
note      what the physician wrote, and in half of the notes whether the patient is short of breath
lab       two laboratory values at twelve visits, some missing: one rises in the sick
picture   a picture of 32 pixels a side, with a brighter patch in some
days      until progression, or until last seen
progressed  yes, or no: last seen without
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sensorium.data.synthetic_cells import write_png
from sensorium.data.synthetic_tables import check, write

SIDE, VISITS = 32, 12
_BREATH = ("short of breath on the stairs", "breathless at night", "no trouble breathing", "breathes freely")
_REST = ("Seen for a routine visit", "Referred by the family doctor", "Follow-up after three months", "Asks about diet")


def make(folder: Path | str, rows: int = 240, seed: int = 0, *, holes: float = 0.0, test: float = 0.25) -> dict[str, Path]:
    """Write ``train.csv`` and ``test.csv`` with a folder of pictures; the same arguments give the same files.

    Args:
        folder: Where to write; created if missing.
        rows: The number of patients.
        seed: Random seed.
        holes: The share of ages, notes, series and pictures that are missing.
        test: The share of rows in ``test.csv``.

    Returns:
        The paths of the tables by name.

    Raises:
        ConfigError: The arguments are invalid.
    """
    check("patients", rows, holes, test)
    folder = Path(folder)
    (folder / "picture").mkdir(parents=True, exist_ok=True)
    written = []
    for i in range(rows):
        rng = np.random.default_rng([seed, i])
        age, slope, patch, breath = rng.normal(65, 10), rng.exponential(0.08), rng.random() < 0.4, rng.random() < 0.5
        risk = 1.4 * (0.05 * (age - 65) + 12 * (slope - 0.08) + 1.8 * patch + 1.5 * breath)
        progression, seen = 1500 * rng.exponential(np.exp(-risk)), rng.uniform(100, 1500)
        write_png(folder / "picture" / f"{i:04d}.png", picture(patch, rng))
        written.append(
            {
                "age": f"{age:.0f}",
                "note": f"{_REST[int(rng.integers(4))]}; {_BREATH[int(rng.integers(2)) + (0 if breath else 2)]}.",
                "lab": json.dumps(lab(slope, rng)),
                "picture": f"picture/{i:04d}.png",
                "days": f"{max(1, min(progression, seen)):.0f}",
                "progressed": "yes" if progression <= seen else "no",
            }
        )
    return write(folder, written, test=test, holes=holes, keep=("days", "progressed"), seed=seed)


def lab(slope: float, rng: np.random.Generator) -> list[list[float | None]]:
    """Return two laboratory values at each visit, of which the first rises by ``slope``, drawn with ``rng``."""
    first = 1 + slope * np.arange(VISITS) + rng.normal(0, 0.1, VISITS)
    second = rng.normal(5, 1, VISITS)
    values = np.stack([first, second], axis=1).round(2).tolist()
    return [[None if rng.random() < 0.1 else value for value in visit] for visit in values]


def picture(patch: bool, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Return a grey picture ``[32, 32, 3]``, with a brighter ``patch`` or none, drawn with ``rng``."""
    y, x = np.mgrid[0:SIDE, 0:SIDE]
    grey = 80 + rng.normal(0, 12, (SIDE, SIDE))
    if patch:
        centre = rng.uniform(8, 24, 2)
        grey += 110 * np.exp(-((x - centre[0]) ** 2 + (y - centre[1]) ** 2) / 50)
    pixels: NDArray[np.uint8] = np.repeat(np.clip(grey, 0, 255).astype(np.uint8)[..., None], 3, axis=2)
    return pixels
