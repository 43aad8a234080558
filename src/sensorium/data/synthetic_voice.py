"""A simulated speaker: each letter is a sound of its own, and a shape of the mouth that several letters share."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from sensorium.data.synthetic_cells import RATE, Samples

FRAMES_PER_SECOND = 25
SIDE = 16
MOUTHS = {
    **dict.fromkeys("bmp", (0.5, 0.02)),
    **dict.fromkeys("fv", (0.55, 0.1)),
    **dict.fromkeys("ouwq", (0.22, 0.35)),
    **dict.fromkeys("ae", (0.55, 0.45)),
    **dict.fromkeys("iyj", (0.75, 0.15)),
    **dict.fromkeys("dnstzlcxghkr", (0.5, 0.22)),
}
"""Half the width and height of the mouth, as shares of the picture, by letter: lips alone do not distinguish all
letters."""
REST = (0.45, 0.0)


def spoken(text: str, rng: np.random.Generator, noise: float = 0.0) -> tuple[Samples, list[tuple[float, float, str]]]:
    """Return the sound of ``text`` ``[T]`` and the start, end and letter of each sound.

    Args:
        text: Words of the letters a to z; other characters are silent.
        rng: Source of the voice, the pace and the noise.
        noise: Deviation of white noise; 1 is about the level of the voice.
    """
    pitch, pace = rng.uniform(0.9, 1.1), rng.uniform(0.05, 0.07)
    parts, times, at = [np.zeros(int(RATE * rng.uniform(0.02, 0.08)))], [], 0
    at = len(parts[0])
    for letter in text.lower():
        count = int(RATE * pace * rng.uniform(0.85, 1.15))
        t = np.arange(count) / RATE
        wave = np.zeros(count)
        if letter in MOUTHS:
            number = ord(letter) - ord("a")
            for tone in (300 + 110 * (number % 6), 1300 + 380 * (number // 6)):
                wave += 0.2 * np.sin(2 * np.pi * tone * pitch * t + rng.uniform(0, 6.28))
            wave *= np.hanning(count) ** 0.25
            times.append((round(at / RATE, 4), round((at + count) / RATE, 4), letter))
        parts.append(wave)
        at += count
    parts.append(np.zeros(int(RATE * rng.uniform(0.02, 0.08))))
    sound = np.concatenate(parts)
    noisy: Samples = np.clip(sound + rng.normal(0, 0.005 + 0.2 * noise, len(sound)), -1, 1)
    return noisy, times


def lips(times: list[tuple[float, float, str]], seconds: float, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Return a film of the mouth ``[frames, 16, 16]`` that moves from the shape of one sound to that of the next.

    Args:
        times: The start, end and letter of each sound, as of ``spoken``.
        seconds: Length of the film.
        rng: Source of the light, the place and the noise.
    """
    middle = np.array([0.0, *[(start + end) / 2 for start, end, _ in times], seconds])
    shapes = np.array([REST, *[MOUTHS[letter] for _, _, letter in times], REST])
    now = (np.arange(max(int(seconds * FRAMES_PER_SECOND), 1)) + 0.5) / FRAMES_PER_SECOND
    wide, high = (np.interp(now, middle, shapes[:, i]) for i in range(2))
    y, x = (np.mgrid[0:SIDE, 0:SIDE] + 0.5) / SIDE * 2 - 1
    x, y = x - rng.uniform(-0.1, 0.1), y - rng.uniform(-0.1, 0.1)
    size = rng.uniform(0.9, 1.1)
    distance = np.hypot(x / (size * wide[:, None, None]), y / (size * high[:, None, None] + 0.12))
    inside = np.hypot(x / (size * wide[:, None, None]), y / (size * high[:, None, None] + 0.01)) < 1
    film = np.where(distance < 1, rng.uniform(150, 180), rng.uniform(200, 225))
    film = np.where(inside, rng.uniform(20, 50), film)
    noisy: NDArray[np.uint8] = np.clip(film + rng.normal(0, 6, film.shape), 0, 255).astype(np.uint8)
    return noisy
