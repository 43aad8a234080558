"""Test data for kinds of cells that have no real data set: real digits as points, graphs, vectors and short films, and
Chinese sentences.

The digits are those of ``av_digits``; only their representation is synthetic. The sentences are made of clauses that people
could have written: three neutral ones and one that decides the class, in random order.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Picture = NDArray[np.float64]
FILM = 6  # frames

NEUTRAL = (
    "周末和朋友一起去的",
    "店在地铁站旁边",
    "我点了一碗牛肉面",
    "第二次来这里",
    "当时快到晚上八点",
    "用手机付的钱",
    "外面正在下雨",
    "我们坐在窗户旁边",
    "孩子要了一杯果汁",
    "人不多也不少",
)
GOOD = ("味道非常好", "服务员很热情", "值得再来", "我很满意", "价格便宜又新鲜", "大家都喜欢")
BAD = ("味道太差了", "服务员态度恶劣", "再也不来了", "我很失望", "价格贵又不新鲜", "大家都不喜欢")


def grey(path: Path) -> Picture:
    """A picture ``[28, 28]`` in 0 to 1."""
    from PIL import Image

    with Image.open(path) as picture:
        return np.asarray(picture.convert("L"), dtype=np.float64) / 255


def coarse(picture: Picture) -> Picture:
    """Return the means of the blocks of 4 × 4 pixels, ``[7, 7]``."""
    mean: Picture = picture.reshape(7, 4, 7, 4).mean(axis=(1, 3))
    return mean


def points(picture: Picture, folder: Path, name: str, rng: np.random.Generator) -> str:
    """Write the bright pixels as points (x, y, half the brightness) and return the file name."""
    down, across = np.nonzero(picture > 0.3)
    cloud = np.stack([across / 14 - 1, 1 - down / 14, picture[down, across] / 2], axis=1)
    np.save(folder / f"{name}.npy", cloud.astype(np.float32))
    return f"{folder.name}/{name}.npy"


def graph(picture: Picture, folder: Path, name: str, rng: np.random.Generator) -> str:
    """Return the blocks that are not black as the nodes of a graph; adjacent blocks share an edge."""
    cells = coarse(picture)
    places = [(int(i), int(j)) for i, j in np.argwhere(cells > 0.15)]
    number = {place: n for n, place in enumerate(places)}
    nodes = [[j / 3 - 1, 1 - i / 3, float(cells[i, j])] for i, j in places]
    neighbours = ((0, 1), (1, 0), (1, 1), (1, -1))
    edges = [[number[i, j], number[i + a, j + b]] for i, j in places for a, b in neighbours if (i + a, j + b) in number]
    return json.dumps({"nodes": nodes, "edges": edges})


def vector(picture: Picture, folder: Path, name: str, rng: np.random.Generator) -> str:
    """Write the 49 block means as a vector and return the file name."""
    np.save(folder / f"{name}.npy", coarse(picture).astype(np.float32).ravel())
    return f"{folder.name}/{name}.npy"


def film(picture: Picture, folder: Path, name: str, rng: np.random.Generator) -> str:
    """Write frames of noise, two consecutive ones of which show the digit, and return the file name."""
    from PIL import Image

    frames = rng.uniform(0, 0.35, (FILM, 28, 28))
    start = int(rng.integers(FILM - 1))
    frames[start : start + 2] = np.maximum(frames[start : start + 2], picture)
    first, *rest = (Image.fromarray((255 * frame).astype(np.uint8)) for frame in frames)
    first.save(folder / f"{name}.gif", save_all=True, append_images=rest, duration=100)
    return f"{folder.name}/{name}.gif"


SHAPES: dict[str, Callable[[Picture, Path, str, np.random.Generator], str]] = {
    "points": points,
    "graph": graph,
    "vector": vector,
    "film": film,
}


def make(digits: Path, folder: Path, shape: str, rows: int = 1000, held: int = 200) -> Path:
    """Write ``train.csv`` and ``valid.csv`` with the digits of the folder ``digits`` as another kind of cell."""
    for part, most in (("train", rows), ("valid", held)):
        with (digits / f"{part}.csv").open(encoding="utf-8", newline="") as file:
            options: list[dict[str, Any]] = list(csv.DictReader(file))
        rng = np.random.default_rng(len(part))
        chosen = [options[i] for i in sorted(rng.permutation(len(options))[:most])]
        at = folder / part
        at.mkdir(parents=True, exist_ok=True)
        lines = [
            {shape: SHAPES[shape](grey(digits / row["image"]), at, f"{i:05d}", rng), "label": row["label"]}
            for i, row in enumerate(chosen)
        ]
        _write(folder / f"{part}.csv", lines)
    return folder


def chinese(folder: Path, rows: int = 1000, held: int = 200) -> Path:
    """Write ``train.csv`` and ``valid.csv``: reviews of a restaurant, and whether they are positive."""
    for seed, (part, count) in enumerate((("train", rows), ("valid", held))):
        rng = np.random.default_rng(seed)
        lines = []
        for i in range(count):
            clauses = [NEUTRAL[j] for j in rng.permutation(len(NEUTRAL))[:3]]
            verdict = (GOOD if i % 2 else BAD)[int(rng.integers(6))]
            clauses.insert(int(rng.integers(4)), verdict)
            lines.append({"text": "，".join(clauses) + "。", "label": "好评" if i % 2 else "差评"})
        folder.mkdir(parents=True, exist_ok=True)
        _write(folder / f"{part}.csv", lines)
    return folder


def _write(path: Path, lines: list[dict[str, Any]]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, lines[0], lineterminator="\n")
        writer.writeheader()
        writer.writerows(lines)
