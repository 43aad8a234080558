"""Stick figures with sensors on their limbs: a picture, what the sensors felt before it, and where hands and feet are.

Each row is a moment, with these columns:

    photo    a noisy picture of a figure, of 44 to 60 pixels a side; in half of them a box hides a part of it
    motion   sixteen readings of sensors on both arms and both legs up to that moment: the sine and cosine of each limb's
             direction, ``[16, 8]``; they tell how the figure stands, but not where
    activity (where asked for) stand, wave or cheer: none, one or both of the arms are raised
    points   the head, hands and feet: ``{"head": [x, y, 2], "left_hand": [x, y, 1], ...}`` in pixels; 1: hidden by the box
"""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sensorium.core.errors import ConfigError

LIMBS = ("left_hand", "right_hand", "left_foot", "right_foot")
ACTIVITIES = ("stand", "wave", "cheer")
RAISED = 80.0
"""Degrees from straight down beyond which an arm is raised."""
STEPS = 16
"""Readings before the picture."""
Pixels = NDArray[np.uint8]


def make(
    folder: Path | str, rows: int = 300, seed: int = 0, *, activity: bool = False, holes: float = 0.0, test: float = 0.25
) -> dict[str, Path]:
    """Write ``train.csv`` and ``test.csv`` with folders of pictures and readings; the same arguments give the same files.

    Args:
        folder: Where to write; created if missing.
        rows: The number of rows.
        seed: Random seed.
        activity: Whether there is the column ``activity``.
        holes: The share of pictures, readings and points that are missing.
        test: The share of rows in ``test.csv``.

    Returns:
        The paths of the tables by name; one without rows is not written.

    Raises:
        ConfigError: The arguments are invalid.
    """
    if rows < 1 or not 0 <= holes < 1 or not 0 <= test < 1:
        raise ConfigError(f"synthetic poses: rows={rows} holes={holes} test={test} are not valid counts and shares")
    from PIL import Image

    folder = Path(folder)
    for name in ("photo", "motion"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    cells: list[dict[str, str]] = []
    for i in range(rows):
        rng = np.random.default_rng([seed, i])
        photo, motion, points = moment(rng)
        Image.fromarray(photo).save(folder / "photo" / f"{i:04d}.png")
        np.save(folder / "motion" / f"{i:04d}.npy", motion)
        row = {"photo": f"photo/{i:04d}.png", "motion": f"motion/{i:04d}.npy", "points": json.dumps(points)}
        cells.append({name: "" if rng.random() < holes else cell for name, cell in row.items()})
        if activity:
            cells[-1]["activity"] = activity_of(motion)
    held = round(rows * test)
    paths = {}
    for part, some in (("train", cells[: rows - held]), ("test", cells[rows - held :])):
        if some:
            paths[part] = folder / f"{part}.csv"
            with paths[part].open("w", encoding="utf-8", newline="") as file:
                writer = csv.DictWriter(file, list(some[0]), lineterminator="\n")
                writer.writeheader()
                writer.writerows(some)
    return paths


def activity_of(motion: NDArray[np.float32]) -> str:
    """Return the activity of a figure with the readings ``motion`` ``[16, 8]``: by how many arms are raised at the end."""
    raised = int((np.median(motion[-5:, 4:6], axis=0) < np.cos(np.radians(RAISED))).sum())
    return ACTIVITIES[raised]


def moment(rng: np.random.Generator) -> tuple[Pixels, NDArray[np.float32], dict[str, list[Any]]]:
    """Draw a figure with ``rng``: the picture ``[H, W]``, the readings ``[16, 8]`` and the points."""
    side = int(rng.integers(44, 61))
    # Angles from straight down, counter-clockwise as the figure is seen: its left is on the right of the picture.
    rest = np.radians([60.0, -60.0, 20.0, -20.0])
    speed = rng.normal(0, 0.06, 4)
    now = rest + rng.uniform(-1, 1, 4) * np.radians([80.0, 80.0, 18.0, 18.0])
    way = now + speed * np.arange(1 - STEPS, 1)[:, None] + rng.normal(0, 0.04, (STEPS, 4))
    motion = np.concatenate([np.sin(way), np.cos(way)], axis=1).astype(np.float32)
    middle = np.array([0.5, 0.5]) * side + rng.uniform(-0.05, 0.05, 2) * side
    neck, hip, head = (middle + np.array([0.0, by]) * side for by in (-0.13, 0.1, -0.24))
    starts = (neck, neck, hip, hip)
    lengths = np.array([0.27, 0.27, 0.32, 0.32]) * side
    ends = [a + n * np.array([np.sin(t), np.cos(t)]) for a, n, t in zip(starts, lengths, now, strict=True)]
    y, x = np.mgrid[0:side, 0:side] + 0.5
    picture = np.full((side, side), rng.uniform(60, 100))
    for a, b in [(neck, hip), (neck, head), *zip(starts, ends, strict=True)]:
        picture[_distance(x, y, a, b) < 1.2] = 190
    for place, radius in [(head, 0.07 * side), *((end, 2.2) for end in ends)]:
        picture[np.hypot(x - place[0], y - place[1]) < radius] = 225
    box = np.zeros((side, side), bool)
    if rng.random() < 0.5:
        left, top = rng.uniform(0, 0.6, 2) * side
        box = (x >= left) & (x < left + 0.4 * side) & (y >= top) & (y < top + 0.4 * side)
        picture[box] = 128
    photo = np.clip(picture + rng.normal(0, 22, picture.shape), 0, 255).astype(np.uint8)

    def point(place: NDArray[np.float64]) -> list[Any]:
        column, row = (int(np.clip(v, 0, side - 1)) for v in place)
        return [round(float(place[0]), 2), round(float(place[1]), 2), 1 if box[row, column] else 2]

    return photo, motion, {"head": point(head)} | {name: point(end) for name, end in zip(LIMBS, ends, strict=True)}


def _distance(
    x: NDArray[np.float64], y: NDArray[np.float64], start: NDArray[np.float64], end: NDArray[np.float64]
) -> NDArray[np.float64]:
    """The distance of each place from the line between two."""
    dx, dy = end - start
    along = np.clip(((x - start[0]) * dx + (y - start[1]) * dy) / max(dx * dx + dy * dy, 1e-9), 0, 1)
    distance: NDArray[np.float64] = np.hypot(x - start[0] - along * dx, y - start[1] - along * dy)
    return distance
