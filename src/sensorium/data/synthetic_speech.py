"""Made-up speech: words of two tones, and the same words written as a line of signs.

Each row has one to five words of a vocabulary of six, and these columns:

    clip        the sound, 8 kHz: a word is two tones one after the other, at a pitch and a pace of the row's own
    strip       a picture of a line with one sign for each word
    transcript  "go left left stop"
    times       where each word lies in the sound, as JSON: [[0.05, 0.21, "go"], ...], seconds
"""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sensorium.core.errors import ConfigError

RATE = 8000
TONES = {
    "go": (500, 900),
    "stop": (900, 500),
    "left": (500, 500),
    "right": (1500, 1500),
    "up": (900, 1500),
    "down": (1500, 900),
}
SIGNS = {
    "go": "#....... ##...... ###..... ##...... #.......",
    "stop": "######## #......# #......# #......# ########",
    "left": "...#.... ..##.... .####### ..##.... ...#....",
    "right": "....#... ....##.. #######. ....##.. ....#...",
    "up": "...##... ..####.. .##..##. ...##... ...##...",
    "down": "...##... ...##... .##..##. ..####.. ...##...",
}
HEIGHT, SIGN = 20, 16


def make(
    folder: Path | str,
    rows: int = 300,
    seed: int = 0,
    *,
    holes: float = 0.0,
    test: float = 0.25,
    noise: float = 0.0,
) -> dict[str, Path]:
    """Write ``train.csv`` and ``test.csv`` with folders of sounds and pictures; the same arguments give the same files.

    Args:
        folder: Where to write; created if missing.
        rows: The number of rows.
        seed: Random seed.
        holes: The share of sounds, pictures and transcripts that are missing.
        test: The share of rows in ``test.csv``.
        noise: Deviation of the white noise in the sounds and pictures of ``test.csv``; 1 is the level of the words.

    Returns:
        The paths of the tables by name; one without rows is not written.

    Raises:
        ConfigError: The arguments are invalid.
    """
    if rows < 1 or not 0 <= holes < 1 or not 0 <= test < 1 or noise < 0:
        raise ConfigError(f"synthetic speech: rows={rows} holes={holes} test={test} noise={noise} are not valid")
    import soundfile
    from PIL import Image

    folder = Path(folder)
    for name in ("clip", "strip"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    held = round(rows * test)
    cells: list[dict[str, str]] = []
    for i in range(rows):
        rng = np.random.default_rng([seed, i])
        words = [str(word) for word in rng.choice(list(TONES), int(rng.integers(1, 6)))]
        loud = noise if i >= rows - held else 0.0
        sound, times = speech(words, rng, loud)
        soundfile.write(folder / "clip" / f"{i:04d}.wav", sound, RATE)
        Image.fromarray(written(words, rng, loud)).save(folder / "strip" / f"{i:04d}.png")
        row = {
            "clip": f"clip/{i:04d}.wav",
            "strip": f"strip/{i:04d}.png",
            "transcript": " ".join(words),
        }
        row = {name: "" if rng.random() < holes else cell for name, cell in row.items()}
        cells.append({**row, "times": json.dumps(times)})
    paths = {}
    for name, part in (("train", cells[: rows - held]), ("test", cells[rows - held :])):
        if part:
            paths[name] = folder / f"{name}.csv"
            with paths[name].open("w", encoding="utf-8", newline="") as file:
                writer = csv.DictWriter(file, list(part[0]), lineterminator="\n")
                writer.writeheader()
                writer.writerows(part)
    return paths


def speech(
    words: Sequence[str],
    rng: np.random.Generator,
    noise: float = 0.0,
    tones: Mapping[str, tuple[int, int]] = TONES,
) -> tuple[NDArray[np.float64], list[tuple[float, float, str]]]:
    """The sound of ``words`` ``[T]``, drawn with ``rng``, with white ``noise``, and the start and end of each.

    ``tones``: the two frequencies of each word in Hz.
    """
    pitch, pace = rng.uniform(0.9, 1.1), rng.uniform(0.06, 0.09)
    parts, times, at = [np.zeros(int(RATE * rng.uniform(0.02, 0.1)))], [], 0.0
    for word in words:
        at = sum(map(len, parts)) / RATE
        for tone in tones[word]:
            t = np.arange(int(RATE * pace * rng.uniform(0.9, 1.1))) / RATE
            parts.append(0.3 * np.sin(2 * np.pi * tone * pitch * t) * np.hanning(len(t)) ** 0.25)
        times.append((round(at, 4), round(sum(map(len, parts)) / RATE, 4), word))
        parts.append(np.zeros(int(RATE * rng.uniform(0.03, 0.08))))
    sound = np.concatenate(parts)
    return np.clip(sound + rng.normal(0, 0.01 + 0.2 * noise, len(sound)), -1, 1), times


def written(words: list[str], rng: np.random.Generator, noise: float = 0.0) -> NDArray[np.uint8]:
    """The signs of ``words`` side by side ``[H, W]``, at heights drawn with ``rng``, with white ``noise``."""
    line = np.full((HEIGHT, SIGN * len(words)), 30.0)
    for i, word in enumerate(words):
        sign = np.array([[c == "#" for c in row] for row in SIGNS[word].split()], float)
        large = np.kron(sign, np.ones((2, 1)))
        top, left = int(rng.integers(2, 8)), SIGN * i + int(rng.integers(2, 6))
        line[top : top + large.shape[0], left : left + large.shape[1]] += rng.uniform(150, 220) * large
    return np.clip(line + rng.normal(0, 8 + 180 * noise, line.shape), 0, 255).astype(np.uint8)
