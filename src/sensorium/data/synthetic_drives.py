"""Simulated drives, moment by moment: a camera, a lidar, the speed, and what lies ahead.

drive    which drive the moment belongs to; moments follow each other
camera   a picture of 48 pixels a side: the road, cars and people on it, by day or by night
lidar    the points that a laser scan hits, ``[points, 4]``: metres to the right, ahead and up, and how well each reflects
speed    in m/s
boxes    the box of every car and person, in pixels
free     a mask: 1 where the road is free, 0 elsewhere
brake    yes, if what stands in the lane is closer than the car needs to stop; else no

At night the camera hardly shows anything, the lidar does. Neither tells the speed, which decides with them when to brake.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sensorium.data.synthetic_cells import write_png
from sensorium.data.synthetic_tables import check, write

SIDE, HORIZON = 48, 16
DRIVE = 12
"""Moments of a drive."""
LANE = 1.6
"""Half the width of the lane in metres."""
BRAKING, REACTION = 4.0, 0.8
"""Deceleration in m/s² and seconds until it begins."""
_FOCAL, _HEIGHT = 32.0, 1.5
_KINDS = {"car": (1.8, 1.5), "person": (0.7, 1.8)}
"""Width and height in metres."""
Pixels = NDArray[np.uint8]


def make(folder: Path | str, rows: int = 240, seed: int = 0, *, holes: float = 0.0, test: float = 0.25) -> dict[str, Path]:
    """Write ``train.csv`` and ``test.csv`` with a folder for each medium; the same arguments give the same files.

    Args:
        folder: Where to write; created if missing.
        rows: The number of moments.
        seed: Random seed.
        holes: The share of pictures, scans and speeds that are missing.
        test: The share of rows in ``test.csv``, the last ones.

    Returns:
        The paths of the tables by name.

    Raises:
        ConfigError: The arguments are invalid.
    """
    from PIL import Image

    check("drives", rows, holes, test)
    folder = Path(folder)
    for name in ("camera", "lidar", "free"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    written = []
    for i in range(rows):
        rng = np.random.default_rng([seed, i])
        night = bool(np.random.default_rng([seed, i // DRIVE, 1]).random() < 0.5)
        moment = scene(rng, night=night)
        write_png(folder / "camera" / f"{i:04d}.png", moment["camera"])
        np.save(folder / "lidar" / f"{i:04d}.npy", moment["lidar"])
        Image.fromarray(moment["free"]).save(folder / "free" / f"{i:04d}.png")
        written.append(
            {
                "drive": f"d{i // DRIVE}",
                "camera": f"camera/{i:04d}.png",
                "lidar": f"lidar/{i:04d}.npy",
                "speed": f"{moment['speed']:.1f}",
                "boxes": json.dumps(moment["boxes"]),
                "free": f"free/{i:04d}.png",
                "brake": moment["brake"],
            }
        )
    return write(folder, written, test=test, holes=holes, keep=("drive", "boxes", "free", "brake"), seed=seed)


def scene(rng: np.random.Generator, *, night: bool) -> dict[str, Any]:
    """Draw one moment with ``rng``, by day or at ``night``: its cells by column."""
    things = []
    for _ in range(int(rng.integers(0, 4))):
        kind = "car" if rng.random() < 0.6 else "person"
        things.append((float(rng.uniform(5, 30)), float(rng.uniform(-4.5, 4.5)), kind))
    things.sort(reverse=True)  # what is near is drawn over what is far
    speed = float(rng.uniform(2, 16))
    look = SIDE / 2 + float(rng.uniform(-9, 9))  # the camera turns with the wheel
    y, x = np.mgrid[0:SIDE, 0:SIDE] + 0.5
    ahead = _FOCAL * _HEIGHT / np.maximum(y - HORIZON, 0.1)
    road = (y > HORIZON) & (np.abs((x - look) * ahead / _FOCAL) < 4.5)
    picture = np.where(y[..., None] > HORIZON, rng.uniform(70, 110, 3), rng.uniform(150, 220, 3))
    picture[road] = rng.uniform(50, 75)
    free, boxes, points = road.copy(), [], []
    for distance, across, kind in things:
        wide, high = (metres * _FOCAL / distance for metres in _KINDS[kind])
        bottom, middle = HORIZON + _FOCAL * _HEIGHT / distance, look + _FOCAL * across / distance
        edges = [max(0.0, middle - wide / 2), max(0.0, bottom - high), min(SIDE, middle + wide / 2), min(SIDE, bottom)]
        inside = (x > edges[0]) & (x < edges[2]) & (y > edges[1]) & (y < edges[3])
        if inside.any() and edges[2] - edges[0] >= 1:
            picture[inside] = rng.uniform(140, 240, 3) if kind == "car" else np.array([200, 120, 60]) + rng.normal(0, 15, 3)
            free &= ~inside
            boxes.append({"box": [round(edges[0], 1), round(edges[1], 1), round(edges[2] - edges[0], 1),
                                  round(edges[3] - edges[1], 1)], "label": kind})  # fmt: skip
        count = max(6, int(400 / distance))
        size = np.array([_KINDS[kind][0], 0.2, _KINDS[kind][1]])
        hits = np.array([across, distance, size[2] / 2]) + (rng.random((count, 3)) - 0.5) * size
        points.append(np.column_stack([hits, np.full(count, 0.8 if kind == "car" else 0.3)]))
    ground = np.column_stack([rng.uniform(-5, 5, 60), rng.uniform(2, 32, 60), np.zeros(60), np.full(60, 0.1)])
    points.append(ground + rng.normal(0, 0.05, ground.shape) * np.array([1, 1, 1, 0]))
    picture = picture * (0.12 if night else 1.0) + rng.normal(0, 7, picture.shape)
    blocked = min((d for d, across, kind in things if abs(across) < LANE + _KINDS[kind][0] / 2), default=np.inf)
    stop = speed * REACTION + speed**2 / (2 * BRAKING)
    return {
        "camera": np.clip(picture, 0, 255).astype(np.uint8),
        "lidar": np.concatenate(points).astype(np.float32),
        "speed": speed,
        "boxes": boxes,
        "free": free.astype(np.uint8),
        "brake": "yes" if blocked < stop + 3 else "no",
    }
