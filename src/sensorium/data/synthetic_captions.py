"""Small drawn pictures with a sentence about them, and a question with its answer.

Each row has a picture of 32 pixels a side with one thing, or two side by side, and these columns:

    photo     the picture
    caption   "a red disc", "a red disc to the left of a blue square"; in some rows two sentences as a JSON list; or full
              sentences, "There is a red disc on its own.", "A red disc is to the left of a blue square."
    question  "what colour is the square?", "what shape is the red one?", "how many things are there?"
    answer    "blue", "disc", "two"
"""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sensorium.core.errors import ConfigError
from sensorium.data.synthetic_scenes import COLOURS, SHAPES, inside_shape

SIDE = 32


def make(
    folder: Path | str,
    rows: int = 400,
    seed: int = 0,
    *,
    holes: float = 0.0,
    test: float = 0.25,
    sentences: bool = False,
) -> dict[str, Path]:
    """Write ``train.csv`` and ``test.csv`` with a folder of pictures; the same arguments give the same files.

    Args:
        folder: Where to write; created if missing.
        rows: The number of rows.
        seed: Random seed.
        holes: The share of pictures, captions, questions and answers that are missing.
        test: The share of rows in ``test.csv``.
        sentences: Whether captions are full sentences.

    Returns:
        The paths of the tables by name; one without rows is not written.

    Raises:
        ConfigError: The arguments are invalid.
    """
    if rows < 1 or not 0 <= holes < 1 or not 0 <= test < 1:
        raise ConfigError(f"synthetic captions: rows={rows} holes={holes} test={test} are not valid counts and shares")
    from PIL import Image

    folder = Path(folder)
    (folder / "photo").mkdir(parents=True, exist_ok=True)
    cells: list[dict[str, str]] = []
    for i in range(rows):
        rng = np.random.default_rng([seed, i])
        photo, captions, question, answer = described(rng)
        if sentences:
            captions = [as_sentence(caption) for caption in captions]
        Image.fromarray(photo).save(folder / "photo" / f"{i:04d}.png")
        row = {
            "photo": f"photo/{i:04d}.png",
            "caption": captions[0] if len(captions) == 1 else json.dumps(captions),
            "question": question,
            "answer": answer,
        }
        cells.append({name: "" if rng.random() < holes else cell for name, cell in row.items()})
    held = round(rows * test)
    paths = {}
    for name, part in (("train", cells[: rows - held]), ("test", cells[rows - held :])):
        if part:
            paths[name] = folder / f"{name}.csv"
            with paths[name].open("w", encoding="utf-8", newline="") as file:
                writer = csv.DictWriter(file, list(part[0]), lineterminator="\n")
                writer.writeheader()
                writer.writerows(part)
    return paths


def described(rng: np.random.Generator) -> tuple[NDArray[np.uint8], list[str], str, str]:
    """Draw a picture ``[H, W, 3]`` with ``rng``; return it with its captions, a question and the answer."""
    count = int(rng.integers(1, 3))
    colours = [str(name) for name in rng.permutation(list(COLOURS))[:count]]
    shapes = [str(name) for name in rng.permutation(SHAPES)[:count]]
    y, x = np.mgrid[0:SIDE, 0:SIDE] + 0.5
    picture = np.tile(rng.uniform(100, 140, 3), (SIDE, SIDE, 1))
    for i, (colour, shape) in enumerate(zip(colours, shapes, strict=True)):
        centre = SIDE * (0.5 if count == 1 else 0.27 + 0.46 * i) + rng.uniform(-1, 1)
        inside = inside_shape(shape, x - centre, y - SIDE * rng.uniform(0.4, 0.6), rng.uniform(0.17, 0.22) * SIDE)
        picture[inside] = np.array(COLOURS[colour]) + rng.uniform(-10, 10, 3)
    noisy = np.clip(picture + rng.normal(0, 8, picture.shape), 0, 255).astype(np.uint8)
    things = [f"a {colour} {shape}" for colour, shape in zip(colours, shapes, strict=True)]
    captions = [things[0]] if count == 1 else [f"{things[0]} to the left of {things[1]}"]
    if count == 2 and rng.random() < 0.5:
        captions.append(f"{things[1]} to the right of {things[0]}")
    one = int(rng.integers(count))
    question, answer = [
        (f"what colour is the {shapes[one]}?", colours[one]),
        (f"what shape is the {colours[one]} one?", shapes[one]),
        ("how many things are there?", ("one", "two")[count - 1]),
    ][int(rng.integers(3))]
    return noisy, captions, question, answer


def as_sentence(caption: str) -> str:
    """Return ``caption`` as a full sentence."""
    thing, _, rest = caption.partition(" to the ")
    return f"{thing[0].upper()}{thing[1:]} is to the {rest}." if rest else f"There is {thing} on its own."
