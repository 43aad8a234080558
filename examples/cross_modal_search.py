"""Cross-modal search: pictures found by words, and words by pictures.

The data are synthetic: pictures of shapes of some colour and size, with captions.
"""

from __future__ import annotations

import csv
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

import sensorium as sm

COLOURS = {"red": (215, 45, 45), "green": (45, 170, 70), "blue": (60, 80, 220), "yellow": (230, 205, 50)}
SHAPES = ("circle", "square", "triangle", "bar")
SIZES = {"small": 7, "large": 13}
WORDS = {"small": ("small", "little", "tiny"), "large": ("large", "big", "huge")}


def draw(folder: Path, rows: int, seed: int, name: str) -> Path:
    """Write ``rows`` pictures and a table of them to ``folder``; some rows lack the picture, some the caption.

    Returns:
        The table: sku, photo, caption, price.
    """
    rng = np.random.default_rng(seed)
    (folder / name).mkdir(parents=True, exist_ok=True)
    with (folder / f"{name}.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["sku", "photo", "caption", "price"])
        for i in range(rows):
            colour, shape, size = (str(rng.choice(list(choices))) for choices in (COLOURS, SHAPES, SIZES))
            picture = Image.fromarray(rng.integers(0, 40, (32, 32, 3)).astype(np.uint8))
            half = SIZES[size]
            x, y = (int(rng.integers(half, 32 - half)) for _ in range(2))
            pen = ImageDraw.Draw(picture)
            box = (x - half, y - half, x + half, y + half)
            if shape == "circle":
                pen.ellipse(box, fill=COLOURS[colour])
            elif shape == "square":
                pen.rectangle(box, fill=COLOURS[colour])
            elif shape == "triangle":
                pen.polygon([(x, y - half), (x + half, y + half), (x - half, y + half)], fill=COLOURS[colour])
            else:
                pen.rectangle((x - half, y - half // 4 - 1, x + half, y + half // 4 + 1), fill=COLOURS[colour])
            picture.save(folder / name / f"{i}.png")
            word = str(rng.choice(WORDS[size]))
            caption = str(
                rng.choice([f"a {word} {colour} {shape}", f"{word} {shape}, {colour}", f"{colour} {shape} ({word})"])
            )
            gap = rng.random()
            photo = "" if gap < 0.05 else f"{name}/{i}.png"
            writer.writerow([f"{name}-{i}", photo, "" if gap > 0.95 else caption, f"{rng.uniform(1, 40):.2f}"])
    return folder / f"{name}.csv"


with tempfile.TemporaryDirectory() as temporary:
    folder = Path(temporary)
    train, gallery = draw(folder, 400, 0, "train"), draw(folder, 100, 1, "gallery")
    model = sm.fit(
        train,
        task="retrieval",
        options={"between": ["photo", "caption"]},
        ignore=["sku", "price"],
        overrides=["model.size=tiny", "training.epochs=12"],  # small, so that this takes seconds
        out=folder / "run",
        quiet=True,
    )
    scores = model.evaluate(gallery).targets["retrieval"]
    print(f"recall at 10 {scores.metrics['recall_at_10']:.2f}, by chance {scores.baseline['recall_at_10']:.2f}")

    index, added = sm.Index.create(folder / "idx", model, gallery, run=folder / "run", id="sku")
    print(f"{added.rows} of 100 rows indexed")
    for query, where in (("a big blue circle", None), ("little yellow bar", "price < 20")):
        print(f"{query}{f', {where}' if where else ''}")
        for hit in index.search(query, where=where, top=3):
            print(f"  {hit.score:.3f}  {hit.cells['caption']}  {hit.cells['price']}  {hit.cells['photo']}")
    print("like the first row:", index.search(row="gallery-0", top=1)[0].cells["caption"])
