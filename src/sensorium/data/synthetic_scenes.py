"""Small drawn scenes with masks: things of three shapes and colours on a noisy ground, and a note that means one of them.

Each row has a picture of two or three things of different colours, and these columns:

    photo    the picture, of 44 to 68 pixels a side
    note     "where is the red one?": it alone says which thing is meant
    shapes   a mask: 0 ground, 1 disc, 2 square, 3 triangle
    meant    a mask: 1 the thing that the note means, 0 all else
"""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sensorium.core.errors import ConfigError

COLOURS = {"red": (205, 60, 50), "green": (60, 160, 75), "blue": (60, 90, 205), "yellow": (215, 195, 60)}
SHAPES = ("disc", "square", "triangle")
_NOTES = ("where is the {} one?", "the {} thing, please", "mark what is {}", "I mean the {} one")
Pixels = NDArray[np.uint8]


def make(folder: Path | str, rows: int = 300, seed: int = 0, *, holes: float = 0.0, test: float = 0.25) -> dict[str, Path]:
    """Write ``train.csv`` and ``test.csv`` with folders of pictures and masks; the same arguments give the same files.

    Args:
        folder: Where to write; created if missing.
        rows: The number of rows.
        seed: Random seed.
        holes: The share of pictures, notes and masks that are missing.
        test: The share of rows in ``test.csv``.

    Returns:
        The paths of the tables by name; one without rows is not written.

    Raises:
        ConfigError: The arguments are invalid.
    """
    if rows < 1 or not 0 <= holes < 1 or not 0 <= test < 1:
        raise ConfigError(f"synthetic scenes: rows={rows} holes={holes} test={test} are not valid counts and shares")
    from PIL import Image

    folder = Path(folder)
    columns = ("photo", "note", "shapes", "meant")
    for name in ("photo", "shapes", "meant"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    cells: list[dict[str, str]] = []
    for i in range(rows):
        rng = np.random.default_rng([seed, i])
        photo, shapes, meant, note = scene(rng)
        for name, pixels in (("photo", photo), ("shapes", shapes), ("meant", meant)):
            Image.fromarray(pixels).save(folder / name / f"{i:04d}.png")
        row = {"photo": f"photo/{i:04d}.png", "note": note, "shapes": f"shapes/{i:04d}.png", "meant": f"meant/{i:04d}.png"}
        cells.append({name: "" if rng.random() < holes else row[name] for name in columns})
    held = round(rows * test)
    paths = {}
    for part, some in (("train", cells[: rows - held]), ("test", cells[rows - held :])):
        if some:
            paths[part] = folder / f"{part}.csv"
            with paths[part].open("w", encoding="utf-8", newline="") as file:
                writer = csv.DictWriter(file, columns, lineterminator="\n")
                writer.writeheader()
                writer.writerows(some)
    return paths


def scene(rng: np.random.Generator) -> tuple[Pixels, Pixels, Pixels, str]:
    """Draw a scene with ``rng``: the picture ``[H, W, 3]``, the masks ``shapes`` and ``meant`` ``[H, W]``, and the note."""
    side = int(rng.integers(44, 69))
    y, x = np.mgrid[0:side, 0:side] + 0.5
    picture = rng.uniform(90, 150, 3) + rng.uniform(-20, 20, 3) * (x[..., None] / side - 0.5)
    shapes, meant = np.zeros((side, side), np.uint8), np.zeros((side, side), np.uint8)
    names = rng.permutation(list(COLOURS))[: rng.integers(2, 4)]
    # One thing to a quarter of the picture, so that none hides another.
    quarters = rng.permutation(4)[: len(names)]
    pick = int(rng.integers(len(names)))
    for i, (name, quarter) in enumerate(zip(names, quarters, strict=True)):
        radius = rng.uniform(0.13, 0.2) * side
        cx = (0.27 + 0.46 * (quarter % 2)) * side + rng.uniform(-0.05, 0.05) * side
        cy = (0.27 + 0.46 * (quarter // 2)) * side + rng.uniform(-0.05, 0.05) * side
        kind = int(rng.integers(len(SHAPES)))
        inside = inside_shape(SHAPES[kind], x - cx, y - cy, radius)
        picture[inside] = np.array(COLOURS[str(name)]) + rng.uniform(-15, 15, 3)
        shapes[inside] = kind + 1
        if i == pick:
            meant[inside] = 1
    noisy = np.clip(picture + rng.normal(0, 12, picture.shape), 0, 255).astype(np.uint8)
    return noisy, shapes, meant, str(rng.choice(_NOTES)).format(names[pick])


def inside_shape(shape: str, x: NDArray[np.float64], y: NDArray[np.float64], radius: float) -> NDArray[np.bool_]:
    """Return which places lie in a shape.

    Args:
        shape: One of ``SHAPES``.
        x: Places to the right of the middle of the shape.
        y: Places below it.
        radius: Its size.
    """
    if shape == "disc":
        return np.hypot(x, y) < radius
    if shape == "square":
        return np.maximum(np.abs(x), np.abs(y)) < 0.85 * radius
    return (y < 0.8 * radius) & (y > 2 * np.abs(x) - radius)
