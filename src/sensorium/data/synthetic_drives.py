"""Simulated drives, moment by moment: a camera, a lidar, the speed, and what lies ahead.

drive    which drive the moment belongs to; moments follow each other
camera   a picture of 64 pixels a side: the road, its bend and width, cars and people, by day or by night
lidar    the points that a laser scan hits, ``[points, 4]``: metres to the right, ahead and up, and how well each reflects
speed    in m/s
boxes    the box of every car and person, in pixels; those of which little is visible are to be ignored
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

SIDE, HORIZON = 64, 22
DRIVE = 12
"""Moments of a drive."""
LANE = 1.6
"""Half the width of the lane in metres."""
BRAKING, REACTION = 4.0, 0.8
"""Deceleration in m/s² and seconds until it begins."""
_FOCAL, _HEIGHT = 64.0, 2.2
_NEAREST, _FARTHEST = 4.0, 16.0
"""Metres ahead: a person further away would be less than 3 pixels wide, too small to be found or scored."""
_VISIBLE = 0.4
"""Smallest visible share of a thing that has to be found."""
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
    bend, half = float(rng.uniform(-0.012, 0.012)), float(rng.uniform(1.6, 3.6))  # of the road: 1/m, and metres
    things = []
    for _ in range(int(rng.integers(0, 4))):
        kind = "car" if rng.random() < 0.6 else "person"
        distance = float(rng.uniform(_NEAREST, _FARTHEST))
        things.append((distance, bend * distance**2 + float(rng.uniform(-4, 4)), kind))
    things.sort(reverse=True)  # what is near is drawn over what is far
    speed = float(rng.uniform(1, 10))
    look = SIDE / 2 + float(rng.uniform(-9, 9))  # the camera turns with the wheel
    y, x = np.mgrid[0:SIDE, 0:SIDE] + 0.5
    ahead = _FOCAL * _HEIGHT / np.maximum(y - HORIZON, 0.1)
    road = (y > HORIZON) & (np.abs((x - look) * ahead / _FOCAL - bend * np.minimum(ahead, 25) ** 2) < half)
    picture = np.where(y[..., None] > HORIZON, rng.uniform(70, 110, 3), rng.uniform(150, 220, 3))
    picture[road] = rng.uniform(40, 65)
    boxes: list[dict[str, Any]] = []
    covered, points = [], []
    for distance, across, kind in things:
        wide, high = (metres * _FOCAL / distance for metres in _KINDS[kind])
        bottom, middle = HORIZON + _FOCAL * _HEIGHT / distance, look + _FOCAL * across / distance
        left, right = max(0.0, middle - wide / 2), min(SIDE, middle + wide / 2)
        top, bottom = max(0.0, bottom - high), min(SIDE, bottom)
        # The share of each pixel, so that the picture shows where between two pixels a thing ends.
        share = np.outer(_shares(top, bottom), _shares(left, right))
        if right - left >= 0.5 * wide:
            colour = rng.uniform(140, 240, 3) if kind == "car" else np.array([200, 120, 60]) + rng.normal(0, 15, 3)
            picture = picture + share[..., None] * (colour - picture)
            covered.append(share)
            boxes.append({"box": [round(left, 1), round(top, 1), round(right - left, 1), round(bottom - top, 1)],
                          "label": kind})  # fmt: skip
        count = max(6, int(400 / distance))
        size = np.array([_KINDS[kind][0], 0.2, _KINDS[kind][1]])
        hits = np.array([across, distance, size[2] / 2]) + (rng.random((count, 3)) - 0.5) * size
        points.append(np.column_stack([hits, np.full(count, 0.8 if kind == "car" else 0.3)]))
    behind = np.zeros((SIDE, SIDE))
    for share, box in reversed(list(zip(covered, boxes, strict=True))):
        if (share * (1 - behind)).sum() < _VISIBLE * share.sum():
            box["ignore"] = 1
        behind = np.maximum(behind, share)
    places = np.column_stack([rng.uniform(-5, 5, 60), rng.uniform(2, _FARTHEST, 60)])
    on_road = np.abs(places[:, 0] - bend * places[:, 1] ** 2) < half
    ground = np.column_stack([places, np.zeros(60), np.where(on_road, 0.05, 0.2)])
    points.append(ground + rng.normal(0, 0.05, ground.shape) * np.array([1, 1, 1, 0]))
    picture = picture * (0.12 if night else 1.0) + rng.normal(0, 7, picture.shape)
    blocked = min(
        (d for d, across, kind in things if abs(across - bend * d**2) < LANE + _KINDS[kind][0] / 2), default=np.inf
    )
    stop = speed * REACTION + speed**2 / (2 * BRAKING)
    return {
        "camera": np.clip(picture, 0, 255).astype(np.uint8),
        "lidar": np.concatenate(points).astype(np.float32),
        "speed": speed,
        "boxes": boxes,
        "free": (road & (behind < 0.5)).astype(np.uint8),
        "brake": "yes" if blocked < stop + 3 else "no",
    }


def _shares(begin: float, end: float) -> NDArray[np.float64]:
    """The share of each pixel of a line that lies between ``begin`` and ``end``."""
    pixel = np.arange(SIDE, dtype=np.float64)
    shares: NDArray[np.float64] = np.clip(np.minimum(pixel + 1, end) - np.maximum(pixel, begin), 0.0, 1.0)
    return shares
