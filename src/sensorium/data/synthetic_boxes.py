"""Small drawn scenes with boxes, as COCO writes them: things of three shapes and colours, and a note that means one colour.

Each row has a picture of a few things on a noisy ground, and these columns:

    image    the picture, of 44 to 68 pixels a side
    note     "where is the red one?"
    boxes    the box of every thing, labelled disc, square or triangle; or of that only which the note means,
             labelled meant
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sensorium.core.errors import ConfigError
from sensorium.data.synthetic_scenes import COLOURS, SHAPES, inside_shape

_NOTES = ("where is the {} one?", "the {} thing, please", "mark what is {}", "I mean the {} one")


def make(
    folder: Path | str, rows: int = 300, seed: int = 0, *, meant: bool = False, holes: float = 0.0, test: float = 0.25
) -> dict[str, Path]:
    """Write ``train.json`` and ``test.json`` with a folder of pictures; the same arguments give the same files.

    Args:
        folder: Where to write; created if missing.
        rows: The number of rows.
        seed: Random seed.
        meant: Whether only the thing that the note means has a box, which the picture alone does not determine.
        holes: The share of notes that are missing.
        test: The share of rows in ``test.json``.

    Returns:
        The paths of the tables by name; one without rows is not written.

    Raises:
        ConfigError: The arguments are invalid.
    """
    if rows < 1 or not 0 <= holes < 1 or not 0 <= test < 1:
        raise ConfigError(f"synthetic boxes: rows={rows} holes={holes} test={test} are not valid counts and shares")
    from PIL import Image

    folder = Path(folder)
    (folder / "images").mkdir(parents=True, exist_ok=True)
    labels = ("meant",) if meant else SHAPES
    images: list[dict[str, Any]] = []
    annotations: list[list[dict[str, Any]]] = []
    for i in range(rows):
        rng = np.random.default_rng([seed, i])
        picture, things, note = scene(rng, counts=(2, 3) if meant else (0, 4))
        Image.fromarray(picture).save(folder / "images" / f"{i:04d}.png")
        high, wide = picture.shape[:2]
        image = {"id": i + 1, "file_name": f"images/{i:04d}.png", "width": wide, "height": high}
        images.append(image | ({"note": note} if rng.random() >= holes else {}))
        wanted = [thing for thing in things if not meant or thing["colour"] in note]
        annotations.append(
            [
                {"image_id": i + 1, "category_id": labels.index("meant" if meant else t["shape"]) + 1, "bbox": t["box"]}
                for t in wanted
            ]
        )
    held = round(rows * test)
    categories = [{"id": i, "name": name} for i, name in enumerate(labels, 1)]
    paths = {}
    for part, some in (("train", slice(0, rows - held)), ("test", slice(rows - held, rows))):
        if images[some]:
            paths[part] = folder / f"{part}.json"
            listed = [{"id": i, **one} for i, one in enumerate((one for own in annotations[some] for one in own), 1)]
            document = {"images": images[some], "annotations": listed, "categories": categories}
            paths[part].write_text(json.dumps(document, indent=1), encoding="utf-8")
    return paths


def scene(
    rng: np.random.Generator, counts: tuple[int, int] = (0, 4)
) -> tuple[NDArray[np.uint8], list[dict[str, Any]], str]:
    """Draw a scene.

    Args:
        rng: Source of random numbers.
        counts: The fewest and the most things.

    Returns:
        The picture ``[H, W, 3]``; of each thing its shape, its colour and its box (left, top, width, height); and the note.
    """
    side = int(rng.integers(44, 69))
    y, x = np.mgrid[0:side, 0:side] + 0.5
    picture = rng.uniform(90, 150, 3) + rng.uniform(-20, 20, 3) * (x[..., None] / side - 0.5)
    names = [str(name) for name in rng.permutation(list(COLOURS))[: rng.integers(counts[0], counts[1] + 1)]]
    # One thing to a quarter of the picture, so that none hides another.
    quarters = rng.permutation(4)[: len(names)]
    things: list[dict[str, Any]] = []
    for name, quarter in zip(names, quarters, strict=True):
        radius = rng.uniform(0.1, 0.2) * side
        cx = (0.27 + 0.46 * (quarter % 2)) * side + rng.uniform(-0.05, 0.05) * side
        cy = (0.27 + 0.46 * (quarter // 2)) * side + rng.uniform(-0.05, 0.05) * side
        shape = SHAPES[int(rng.integers(len(SHAPES)))]
        inside = inside_shape(shape, x - cx, y - cy, radius)
        picture[inside] = np.array(COLOURS[name]) + rng.uniform(-15, 15, 3)
        down, across = (np.flatnonzero(inside.any(axis=axis)) for axis in (1, 0))
        box = [int(across[0]), int(down[0]), int(np.ptp(across)) + 1, int(np.ptp(down)) + 1]
        things.append({"shape": shape, "colour": name, "box": box})
    noisy = np.clip(picture + rng.normal(0, 12, picture.shape), 0, 255).astype(np.uint8)
    pick = names[int(rng.integers(len(names)))] if names else "red"
    return noisy, things, str(rng.choice(_NOTES)).format(pick)
