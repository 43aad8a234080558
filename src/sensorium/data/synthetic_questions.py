"""Simulated questions, written and spoken, about pictures and films.

Each row has a picture or a film, and these columns:

    photo     a picture of 32 pixels a side with one or two coloured things, or empty
    film      something that moves across 16 pixels a side in one of four directions (GIF), or empty
    question  "what colour is the square?", "which way does it move?"
    spoken    the same as a sound, 8 kHz, by a simulated voice
    answer    "blue", "left"
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sensorium.data.synthetic_captions import described
from sensorium.data.synthetic_cells import write_png, write_wav
from sensorium.data.synthetic_lips import write_film
from sensorium.data.synthetic_scenes import COLOURS
from sensorium.data.synthetic_tables import check, write
from sensorium.data.synthetic_voice import spoken

SIDE = 16
FRAMES = 8
WAYS = {"left": (-1, 0), "right": (1, 0), "up": (0, -1), "down": (0, 1)}


def make(
    folder: Path | str,
    rows: int = 600,
    seed: int = 0,
    *,
    holes: float = 0.0,
    test: float = 0.25,
    speak: Callable[[str, int], bytes] | None = None,
) -> dict[str, Path]:
    """Write ``train.csv`` and ``test.csv`` with a folder for each medium; the same arguments give the same files.

    Args:
        folder: Where to write; created if missing.
        rows: The number of rows; every third is about a film.
        seed: Random seed.
        holes: The share of spoken questions that are missing.
        test: The share of rows in ``test.csv``.
        speak: Returns the WAV file of a text, given the text and the number of the row; None: a simulated voice.

    Returns:
        The paths of the tables by name.

    Raises:
        ConfigError: The arguments are invalid.
    """
    check("questions", rows, holes, test)
    folder = Path(folder)
    for name in ("photo", "film", "spoken"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    written = []
    for i in range(rows):
        rng = np.random.default_rng([seed, i])
        row = {"photo": "", "film": ""}
        if i % 3 == 2:
            film, question, answer = moving(rng)
            row["film"] = f"film/{i:04d}.gif"
            write_film(folder / row["film"], film)
        else:
            picture, _, question, answer = described(rng)
            row["photo"] = f"photo/{i:04d}.png"
            write_png(folder / row["photo"], picture)
        if speak is None:
            write_wav(folder / "spoken" / f"{i:04d}.wav", spoken(question, rng)[0])
        else:
            (folder / "spoken" / f"{i:04d}.wav").write_bytes(speak(question, i))
        written.append({**row, "question": question, "spoken": f"spoken/{i:04d}.wav", "answer": answer})
    keep = ("photo", "film", "question", "answer")
    return write(folder, written, test=test, holes=holes, keep=keep, seed=seed)


def moving(rng: np.random.Generator) -> tuple[NDArray[np.uint8], str, str]:
    """Draw a film ``[8, 16, 16, 3]`` of a disc that moves, with ``rng``; return it with a question and the answer."""
    way, colour = str(rng.choice(list(WAYS))), str(rng.choice(list(COLOURS)))
    right, down = WAYS[way]
    y, x = (np.mgrid[0:SIDE, 0:SIDE] + 0.5) / SIDE * 2 - 1
    away = (np.arange(FRAMES) / (FRAMES - 1) - 0.5) * rng.uniform(0.9, 1.2)
    across = rng.uniform(-0.4, 0.4)
    centre_x = right * away + (across if right == 0 else 0)
    centre_y = down * away + (across if down == 0 else 0)
    inside = np.hypot(x - centre_x[:, None, None], y - centre_y[:, None, None]) < rng.uniform(0.3, 0.4)
    film = np.where(inside[..., None], np.array(COLOURS[colour]), rng.uniform(100, 140, 3))
    noisy: NDArray[np.uint8] = np.clip(film + rng.normal(0, 6, film.shape), 0, 255).astype(np.uint8)
    if rng.random() < 0.7:
        return noisy, "which way does it move?", way
    return noisy, "what colour is it?", colour
