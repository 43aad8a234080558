"""A simulated home, second by second: camera, microphone and sensors, and what somebody does.

evening     which evening the second belongs to; seconds follow each other
camera      a picture of 24 pixels a side: somebody at the worktop, on the sofa, or nobody, in brighter or dimmer light
microphone  half a second of sound: sizzling, a hum, or quiet
sensors     eight readings of motion, power in kW and warmth at the worktop, as a list
activity    cook, wash, rest or away; each two of them look, sound or feel alike
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sensorium.data.synthetic_cells import RATE, Samples, write_png, write_wav
from sensorium.data.synthetic_tables import check, write

ACTIVITIES = ("cook", "wash", "rest", "away")
SIDE = 24
EVENING = 12
"""Seconds of an evening."""
_PLACE = {"cook": 0.25, "wash": 0.25, "rest": 0.75, "away": None}
_READINGS = {"cook": (1.0, 2.0, 1.0), "wash": (1.0, 0.5, 0.0), "rest": (0.3, 0.5, 0.0), "away": (0.0, 0.1, 0.0)}


def make(folder: Path | str, rows: int = 240, seed: int = 0, *, holes: float = 0.0, test: float = 0.25) -> dict[str, Path]:
    """Write ``train.csv`` and ``test.csv`` with a folder for each medium; the same arguments give the same files.

    Args:
        folder: Where to write; created if missing.
        rows: The number of seconds.
        seed: Random seed.
        holes: The share of pictures, sounds and readings that are missing.
        test: The share of rows in ``test.csv``, the last ones.

    Returns:
        The paths of the tables by name.

    Raises:
        ConfigError: The arguments are invalid.
    """
    check("home", rows, holes, test)
    folder = Path(folder)
    for name in ("camera", "microphone"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    written, activity, left = [], "away", 0
    for i in range(rows):
        if left == 0 or i % EVENING == 0:
            others = [name for name in ACTIVITIES if name != activity]
            activity, left = others[int(rng.integers(len(others)))], int(rng.integers(5, 12))
        left -= 1
        write_png(folder / "camera" / f"{i:04d}.png", camera(activity, rng))
        write_wav(folder / "microphone" / f"{i:04d}.wav", microphone(activity, rng))
        readings = np.abs(np.array(_READINGS[activity]) * rng.normal(1, 0.4, (8, 3)) + rng.normal(0, 0.2, (8, 3)))
        written.append(
            {
                "evening": f"e{i // EVENING}",
                "camera": f"camera/{i:04d}.png",
                "microphone": f"microphone/{i:04d}.wav",
                "sensors": json.dumps(readings.round(2).tolist()),
                "activity": activity,
            }
        )
    return write(folder, written, test=test, holes=holes, keep=("evening", "activity"), seed=seed)


def camera(activity: str, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Return a picture ``[24, 24, 3]`` of the room during ``activity``, drawn with ``rng``."""
    y, x = np.mgrid[0:SIDE, 0:SIDE] / SIDE
    picture = np.full((SIDE, SIDE, 3), rng.uniform(90, 170)) + 20 * y[..., None]
    place = _PLACE[activity]
    if place is not None:
        body = (np.abs(x - place - rng.uniform(-0.08, 0.08)) < 0.1) & (y > rng.uniform(0.2, 0.35))
        picture = np.where(body[..., None], rng.uniform(20, 60, 3), picture)
    noisy: NDArray[np.uint8] = np.clip(picture + rng.normal(0, 8, picture.shape), 0, 255).astype(np.uint8)
    return noisy


def microphone(activity: str, rng: np.random.Generator) -> Samples:
    """Return half a second of sound during ``activity``, drawn with ``rng``."""
    time = np.arange(RATE // 2) / RATE
    quiet: Samples = rng.normal(0, 0.01, len(time))
    if activity == "cook":
        quiet += rng.normal(0, 0.25, len(time)) * (rng.random(len(time)) < 0.5)
    elif activity == "wash":
        quiet += 0.3 * np.sin(2 * np.pi * rng.uniform(90, 130) * time)
    return np.clip(quiet, -1, 1)
