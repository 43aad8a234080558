"""A simulated album: pictures of a thing, recordings made beside them, and questions that either of them answers.

picture    a red, blue or green square or bar
recording  a bell, 8 kHz, low or high
question   "what colour is it?", "which shape is it?" or "is the bell low or high?"
answer     one word
"""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np

from sensorium.data.synthetic_tables import check, write

RATE = 8000
COLOURS = {"red": (220, 40, 40), "blue": (40, 60, 220), "green": (40, 170, 60)}
SHAPES = {"square": (12, 12), "bar": (5, 20)}
BELLS = {"low": 300.0, "high": 900.0}
QUESTIONS = ("what colour is it?", "which shape is it?", "is the bell low or high?")
WORDS = (*COLOURS, *SHAPES, *BELLS, *["what", "colour", "is", "it", "?", "which", "shape", "the", "bell", "or"])
"""Vocabulary of a language model for this data."""


def text(draw: random.Random) -> tuple[str, str]:
    """Return a text to train a language model on, with words in place of media, and its answer, drawn with ``draw``."""
    facts = [draw.choice(sorted(choices)) for choices in (COLOURS, SHAPES, BELLS)]
    question_index = draw.randrange(len(QUESTIONS))
    shown = [fact for fact in facts for _ in range(draw.randint(1, 8))]
    draw.shuffle(shown)
    return f"{' '.join(shown)}\n{QUESTIONS[question_index]}", facts[question_index]


def make(folder: Path | str, rows: int = 300, seed: int = 0, *, holes: float = 0.0, test: float = 0.25) -> dict[str, Path]:
    """Write ``train.csv`` and ``test.csv`` with folders of media; the same arguments give the same files.

    Args:
        folder: Where to write; created if missing.
        rows: The number of questions, each about media of its own.
        seed: Random seed.
        holes: The share of pictures and recordings that are missing, also where the question is about them.
        test: The share of rows in ``test.csv``.

    Returns:
        The paths of the tables by name.

    Raises:
        ConfigError: The arguments are invalid.
    """
    check("albums", rows, holes, test)
    import soundfile
    from PIL import Image

    folder = Path(folder)
    for name in ("picture", "recording"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    written = []
    for i in range(rows):
        rng = np.random.default_rng([seed, i])
        facts = [sorted(choices)[int(rng.integers(len(choices)))] for choices in (COLOURS, SHAPES, BELLS)]
        question_index = int(rng.integers(len(QUESTIONS)))
        picture = rng.normal(128, 12, (24, 24, 3))
        high, wide = SHAPES[facts[1]]
        y, x = int(rng.integers(0, 25 - high)), int(rng.integers(0, 25 - wide))
        picture[y : y + high, x : x + wide] = COLOURS[facts[0]]
        Image.fromarray(np.clip(picture, 0, 255).astype(np.uint8)).save(folder / "picture" / f"{i:04d}.png")
        time = np.arange(RATE // 4) / RATE
        bell = np.sin(2 * np.pi * BELLS[facts[2]] * rng.uniform(0.9, 1.1) * time) * np.exp(-6 * time)
        soundfile.write(folder / "recording" / f"{i:04d}.wav", 0.5 * bell + rng.normal(0, 0.01, len(time)), RATE)
        written.append(
            {
                "picture": f"picture/{i:04d}.png",
                "recording": f"recording/{i:04d}.wav",
                "question": QUESTIONS[question_index],
                "answer": facts[question_index],
            }
        )
    return write(folder, written, test=test, holes=holes, keep=("question", "answer"), seed=seed)
