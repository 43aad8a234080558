"""Small drawn scenes with the edges of things as several simulated annotators drew them.

Each row has a picture of two or three striped or dotted things on an uneven ground, and these columns:

    photo    the picture, of 44 to 68 pixels a side
    edges    files of the annotators, "edges/0007-0.png;edges/0007-1.png": the outlines of things, white on black

The stripes and dots are edges too, which no annotator draws. Annotators differ by about a pixel, and now and then one
leaves a thing out.
"""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sensorium.core.errors import ConfigError
from sensorium.data.synthetic_scenes import COLOURS, SHAPES, inside_shape

SKIPPED = 0.15
"""Share of things that an annotator leaves out."""
SHAKE = 0.6
"""Standard deviation in pixels of an annotator's place and size of a thing."""
Pixels = NDArray[np.uint8]


def make(
    folder: Path | str, rows: int = 200, seed: int = 0, *, annotators: int = 4, holes: float = 0.0, test: float = 0.25
) -> dict[str, Path]:
    """Write ``train.csv`` and ``test.csv`` with folders of pictures and edge maps; the same arguments give the same files.

    Args:
        folder: Where to write; created if missing.
        rows: The number of rows.
        seed: Random seed.
        annotators: Maximum number of annotators of a picture; each has at least two, or all if there is one.
        holes: The share of pictures and of edge maps that are missing.
        test: The share of rows in ``test.csv``.

    Returns:
        The paths of the tables by name; one without rows is not written.

    Raises:
        ConfigError: The arguments are invalid.
    """
    if rows < 1 or annotators < 1 or not 0 <= holes < 1 or not 0 <= test < 1:
        problem = f"rows={rows} annotators={annotators} holes={holes} test={test}"
        raise ConfigError(f"synthetic edges: {problem} are not valid counts and shares")
    from PIL import Image

    folder = Path(folder)
    for name in ("photo", "edges"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    cells: list[dict[str, str]] = []
    for i in range(rows):
        rng = np.random.default_rng([seed, i])
        photo, maps = scene(rng, annotators)
        Image.fromarray(photo).save(folder / "photo" / f"{i:04d}.png")
        names = [f"edges/{i:04d}-{k}.png" for k in range(len(maps))]
        for name, drawn in zip(names, maps, strict=True):
            Image.fromarray(drawn).save(folder / name)
        row = {"photo": f"photo/{i:04d}.png", "edges": ";".join(names)}
        cells.append({name: "" if rng.random() < holes else cell for name, cell in row.items()})
    held = round(rows * test)
    paths = {}
    for part, subset in (("train", cells[: rows - held]), ("test", cells[rows - held :])):
        if subset:
            paths[part] = folder / f"{part}.csv"
            with paths[part].open("w", encoding="utf-8", newline="") as file:
                writer = csv.DictWriter(file, ("photo", "edges"), lineterminator="\n")
                writer.writeheader()
                writer.writerows(subset)
    return paths


def scene(rng: np.random.Generator, annotators: int) -> tuple[Pixels, list[Pixels]]:
    """Draw a scene with ``rng``: the picture ``[H, W, 3]`` and the maps ``[H, W]`` of up to ``annotators`` annotators."""
    side = int(rng.integers(44, 69))
    y, x = np.mgrid[0:side, 0:side] + 0.5
    picture = rng.uniform(90, 150, 3) + rng.uniform(-30, 30, 3) * (x[..., None] / side - 0.5)
    names = rng.permutation(list(COLOURS))[: rng.integers(2, 4)]
    things = []
    for name, quarter in zip(names, rng.permutation(4), strict=False):
        radius = rng.uniform(0.14, 0.21) * side
        cx = (0.27 + 0.46 * (quarter % 2)) * side + rng.uniform(-0.04, 0.04) * side
        cy = (0.27 + 0.46 * (quarter // 2)) * side + rng.uniform(-0.04, 0.04) * side
        kind = SHAPES[int(rng.integers(len(SHAPES)))]
        things.append((kind, cx, cy, radius))
        inside = inside_shape(kind, x - cx, y - cy, radius)
        angle, period = rng.uniform(0, np.pi), rng.uniform(4, 7)
        across, along = x * np.cos(angle) + y * np.sin(angle), y * np.cos(angle) - x * np.sin(angle)
        light = across % period < period / 2
        if rng.random() < 0.5:
            light &= along % period < period / 2
        colour = 0.6 * np.array(COLOURS[str(name)]) + 0.4 * picture.mean(axis=(0, 1))
        picture[inside] = (colour + np.where(light, 30, -30)[..., None])[inside]
    noisy = np.clip(picture + rng.normal(0, 8, picture.shape), 0, 255).astype(np.uint8)
    count = int(rng.integers(min(2, annotators), annotators + 1))
    return noisy, [_drawn(rng, things, x, y) for _ in range(count)]


def _drawn(
    rng: np.random.Generator,
    things: list[tuple[str, float, float, float]],
    x: NDArray[np.float64],
    y: NDArray[np.float64],
) -> Pixels:
    """The outlines of ``things`` as one annotator draws them ``[H, W]``, at the places ``x`` and ``y``."""
    edges = np.zeros(x.shape, np.bool_)
    for kind, cx, cy, radius in things:
        shift = rng.normal(0, SHAKE, 3)
        if rng.random() < SKIPPED:
            continue
        inside = inside_shape(kind, x - cx - shift[0], y - cy - shift[1], radius + shift[2])
        edges[:, :-1] |= inside[:, :-1] != inside[:, 1:]
        edges[:-1] |= inside[:-1] != inside[1:]
    return (255 * edges).astype(np.uint8)
