"""Drawn faces, glad or not, and voices, excited or not: the parts of simulated feelings."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from sensorium.data.synthetic_cells import RATE, Samples

SIDE = 24


def face(glad: bool, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Return a picture ``[24, 24, 3]`` of a face, drawn with ``rng``, whose mouth bends up if ``glad``, else down."""
    y, x = (np.mgrid[0:SIDE, 0:SIDE] + 0.5) / SIDE * 2 - 1
    x, y = x - rng.uniform(-0.12, 0.12), y - rng.uniform(-0.12, 0.12)
    picture = np.full((SIDE, SIDE, 3), rng.uniform(40, 110))
    picture = np.where((np.hypot(x, y * 0.9) < 0.8)[..., None], np.array([215, 180, 150]) + rng.uniform(-25, 25), picture)
    bend = rng.uniform(0.25, 0.4) * (1 if glad else -1)
    mouth = (np.abs(y - 0.4 - bend * (0.35 - np.minimum((x / 0.45) ** 2, 1) * 0.7) / 0.7) < 0.11) & (np.abs(x) < 0.45)
    eyes = np.hypot(np.abs(x) - 0.3, y + 0.25) < 0.12
    picture = np.where((mouth | eyes)[..., None], rng.uniform(20, 60), picture)
    noisy: NDArray[np.uint8] = np.clip(picture + rng.normal(0, 10, picture.shape), 0, 255).astype(np.uint8)
    return noisy


def tone_of_voice(excited: bool, rng: np.random.Generator) -> Samples:
    """Return 0.8 s of a voice at 8 kHz, drawn with ``rng``: high, fast and lively if ``excited``, else low and slow."""
    t = np.arange(round(0.8 * RATE)) / RATE
    base = rng.uniform(260, 360) if excited else rng.uniform(110, 160)
    wobble = rng.uniform(0.15, 0.3) if excited else rng.uniform(0.0, 0.06)
    pitch = base * (1 + wobble * np.sin(2 * np.pi * rng.uniform(2, 4) * t + rng.uniform(0, 6.28)))
    beat = rng.uniform(6, 8) if excited else rng.uniform(2, 3)
    phase = 2 * np.pi * np.cumsum(pitch) / RATE
    wave = sum(np.sin(k * phase) / k for k in range(1, 6)) * (np.sin(2 * np.pi * beat * t) > -0.4)
    loud = rng.uniform(0.2, 0.35) if excited else rng.uniform(0.1, 0.25)
    noisy: Samples = np.clip(loud * wave / 2 + rng.normal(0, 0.02, len(t)), -1, 1)
    return noisy
