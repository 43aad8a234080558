"""Synthetic data for the checks: for each layout, for each kind of cell, and encoded streams."""

from __future__ import annotations

import io
import json
import tempfile
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sensorium.core.batch import Encoded
from sensorium.core.errors import ConfigError
from sensorium.core.layout import Graph, Grid, Ids, Layout, Points, Row
from sensorium.core.modality import Blob

LAYOUTS: tuple[Layout, ...] = (
    Grid(3, (20,)),
    Grid(1, (14, 9)),
    Grid(2, (6, 8, 8)),
    Grid(6, (1,)),
    Ids(50, 12, tuple(f"w{i}" for i in range(50))),
    Points(4, 16),
    Graph(5, 3, 10),
    Graph(4, 2, 8, placed=True),
    Row((0, 0, 4, 0, 3)),
    Row((0, 0)),
    Row((5,)),
)
_PIECES = ("", "�", " a", " b", "c", " the", " red", " dress", "ing", ", ", "连", "衣", "裙", " É", "x")
FEATURED: tuple[Layout, ...] = (
    *LAYOUTS,
    Ids(len(_PIECES), 20, pieces=_PIECES),
    Grid(3, (40,), timed=True),
    Grid(1, (24, 16), timed=True),
    Grid(3, (16, 16)),
    Grid(140, (1,)),
)
"""What features are tried on: besides, text whose spelling is known, a sensor, a spectrogram, a picture and a vector."""


def length(layout: Layout) -> int:
    """The maximum number of steps, ids, points or cells of a row of ``layout``."""
    if isinstance(layout, Grid):
        return layout.size[0]
    if isinstance(layout, Ids):
        return layout.length
    return layout.count if isinstance(layout, (Points, Graph)) else len(layout.cardinalities)


def data(layout: Layout, rows: int, steps: int | None = None, *, seed: int = 0) -> Tensor:
    """Random data ``[B, ...]`` of ``layout`` for ``rows`` rows, drawn by ``seed`` and ``steps`` long (Row: all cells)."""
    draw = torch.Generator().manual_seed(seed)
    n = length(layout) if steps is None else steps
    if isinstance(layout, Grid):
        return torch.randn(rows, layout.channels, n, *layout.size[1:], generator=draw)
    if isinstance(layout, Ids):
        return torch.randint(1, layout.vocabulary, (rows, n), generator=draw)
    if isinstance(layout, Points):
        return torch.randn(rows, n, layout.channels, generator=draw)
    if isinstance(layout, Graph):
        kinds = torch.randint(0, layout.kinds + 1, (rows, n, layout.count), generator=draw)
        parts = [torch.randn(rows, n, layout.channels, generator=draw), kinds.float()]
        if layout.placed:
            known = (torch.rand(rows, n, 1, generator=draw) < 0.8).float()
            parts += [2 * torch.randn(rows, n, 3, generator=draw) * known, known]
        return torch.cat(parts, dim=2)
    cells = [
        torch.randint(0, card, (rows,), generator=draw).float() if card else torch.randn(rows, generator=draw)
        for card in layout.cardinalities
    ]
    return torch.stack(cells, dim=1)


def masks(layout: Layout, rows: int, *, seed: int = 0) -> Tensor:
    """Masks ``[B, N]`` for ``rows`` rows of ``layout``, drawn by ``seed``: lengths differ, at least one step each, one
    row complete; for Row single cells."""
    n = length(layout)
    draw = torch.Generator().manual_seed(seed)
    if isinstance(layout, Row):
        real = torch.rand(rows, n, generator=draw) < 0.7
        real[:, 0] = True
        return real
    lengths = torch.randint(1, n + 1, (rows,), generator=draw)
    lengths[0], lengths[-1] = n, 1
    return torch.arange(n) < lengths[:, None]


def streams(sizes: dict[str, int], dim: int, present: Tensor, *, seed: int = 0) -> dict[str, Encoded]:
    """Encoded streams with the numbers of tokens in ``sizes`` and width ``dim``, drawn by ``seed``; some tokens masked;
    ``present`` ``[B, S]``."""
    draw = torch.Generator().manual_seed(seed)
    parts = {}
    for i, (name, n) in enumerate(sizes.items()):
        rows = present.shape[0]
        real = torch.rand(rows, n, generator=draw) < 0.7
        real[:, 0] = True
        real &= present[:, i, None]
        tokens = torch.randn(rows, n, dim, generator=draw) * real[..., None]
        pooled = torch.randn(rows, dim, generator=draw) * present[:, i, None]
        parts[name] = Encoded(tokens, real, pooled, present[:, i].clone())
    return parts


def cells(kind: str) -> Sequence[Any]:
    """A dozen cells of the built-in modality ``kind``, opened if they are media."""
    made = _CELLS.get(kind)
    if made is None:
        raise ConfigError(f"there are no sample cells of {kind!r}", fix="pass your own: check_modality(kind, cells)")
    return made()


def _numbers() -> list[Any]:
    return [1.0, 2.5, "3", -4, 1000, 5, 5, 7.5, "1,200", 0, 12.25, 3]


def _categories() -> list[Any]:
    return ["red", "blue", "red", "green", "blue", "red", "NA", "blue", "Red", "green", "pink", "red"]


def _keys() -> list[Any]:
    return ["a1", "b2", "a1", 7, 7.0, "7", b"bytes", "c d", "\u4e2d\u6587", "a2", True, "photos/1.png"]


def _steps() -> list[Any]:
    return [1, 3, "2", 4.0, 2, 3, "5", 1, 4, 3, 2, 3]


def _tags() -> list[Any]:
    return ["a, b", "b, c;d", "a, c", "d, a", "b", "a, b, c", "c", "d, b", "a", "b, a", "c, d", "a;b, d"]


def _dates() -> list[Any]:
    return [f"{day:02d}/{month:02d}/20{year} 1{hour}:30" for day, month, year, hour in _moments()]


def _moments() -> list[tuple[int, int, int, int]]:
    return [(1 + i, 12 - i, 10 + i, i % 10) for i in range(12)]


def _texts() -> list[Any]:
    words = ["Red", "dress", "blue", "Shoes", "lovely", "poor", "ﬁt", "连衣裙", "and", "soft"]
    texts: list[Any] = [" ".join(words[(i * k) % 10] for k in range(1, 4 + i)) for i in range(12)]
    return [*texts[:-1], [texts[-1], texts[3]]]


def _captions() -> list[Any]:
    captions = [
        f"a {colour} {thing} here" for colour in ("red", "blue", "pink") for thing in ("dress", "ﬁt", "Hat", "连衣裙")
    ]
    return [captions[i] if i % 3 else [captions[i], captions[-i]] for i in range(12)]


def _transcripts() -> list[Any]:
    words = ["one", "two!", "three", "One", "zwei-drei"]
    return [" ".join(words[(i * k) % 4 if i else 4] for k in range(1, 2 + i % 3)) for i in range(12)]


def _messages() -> list[Any]:
    turns = [
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": "Ho"},
        {"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "连衣裙?"}]},
        {"role": "assistant", "content": "yes"},
    ]
    return [
        "yes",
        "no",
        ["yes", "yeah", "yes"],
        "a red dress",
        json.dumps(turns),
        turns,
        7,
        "no",
        "ﬁt",
        "yes",
        '["a"]',
        "no",
    ]


@cache
def files() -> tuple[str, ...]:
    """Paths of small files for options that name one: a tokeniser, word vectors."""
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from tokenizers.pre_tokenizers import Whitespace

    folder = Path(tempfile.mkdtemp(prefix="sensorium-samples-"))
    tokenizer = Tokenizer(WordLevel({"?": 0, "red": 1, "dress": 2}, unk_token="?"))
    tokenizer.pre_tokenizer = Whitespace()
    tokenizer.save(str(folder / "tokenizer.json"))
    numbers = " ".join(str(i / 10) for i in range(100))
    (folder / "vectors.txt").write_text(f"w5 {numbers}\nw6 {numbers[::-1]}\n", encoding="utf-8")
    return str(folder / "tokenizer.json"), str(folder / "vectors.txt")


def _pictures() -> list[Any]:
    from PIL import Image

    draw = np.random.default_rng(0)
    made = []
    for i in range(12):
        size = (40 + i, 48 if i else 100, 3)  # one of another ratio than the others
        file = io.BytesIO()
        Image.fromarray(draw.integers(0, 256, size, dtype=np.uint8)).save(file, "PNG")
        made.append(Blob(file.getvalue(), f"{i}.png"))
    return made


def _masks() -> list[Any]:
    from PIL import Image

    draw = np.random.default_rng(0)
    made: list[Any] = []
    for i in range(12):
        numbers = np.zeros((40 + i, 48), np.uint8)
        y, x = draw.integers(0, 20, 2)
        numbers[y : y + 16, x : x + 20] = 1
        numbers[y + 5 : y + 9, x + 4 : x + 9] = 2
        numbers[:2] = 255
        picture = Image.fromarray(numbers)
        picture.putpalette([0, 0, 0, 200, 30, 30, 30, 200, 30])
        file = io.BytesIO()
        picture.save(file, "PNG")
        made.append(Blob(file.getvalue(), f"{i}.png"))
    return made


def _edges() -> list[Any]:
    from PIL import Image

    draw = np.random.default_rng(0)
    made: list[Any] = []
    for i in range(12):
        maps = np.zeros((1 + i % 3, 24 + i // 2, 24), np.uint8)
        y, x = draw.integers(2, 8, 2)
        for k, edge_map in enumerate(maps):
            edge_map[y : y + 12, [x + k, x + 13]] = edge_map[[y, y + 11 + k], x : x + 12] = 255
        parts = [io.BytesIO() for _ in maps]
        for edge_map, part in zip(maps, parts, strict=True):
            Image.fromarray(edge_map).save(part, "PNG")
        made.append([maps] if i % 4 == 3 else [Blob(part.getvalue(), f"{i}.png") for part in parts])
    return made


def _labels() -> list[Any]:
    made: list[Any] = []
    for i in range(12):
        half = [[0, 3 + i, "walk"], [3 + i, 9 + i, "run"], [9 + i, 12 + 2 * i, "walk" if i % 2 else None]]
        steps = ["walk"] * (4 + i) + [None, "run", "run"]
        made.append(steps if i % 3 == 2 else half[: 1 + i % 3] if i % 2 else json.dumps(half[: 2 + i % 2]))
    return made


def _sounds() -> list[Any]:
    import soundfile

    draw = np.random.default_rng(0)
    made = []
    for i in range(12):
        rate, steps = 8000, 2400 + 400 * i
        wave = 0.3 * np.sin(np.arange(steps) * (0.05 + 0.02 * i)) + 0.05 * draw.standard_normal(steps)
        file = io.BytesIO()
        soundfile.write(file, np.stack([wave, 0.5 * wave], axis=1), rate, format="WAV")
        made.append(Blob(file.getvalue(), f"{i}.wav"))
    return made


def _series() -> list[Any]:
    draw = np.random.default_rng(0)
    made = [draw.standard_normal((24 + i, 3)).astype(np.float32).cumsum(axis=0) for i in range(12)]
    made[2][5:11, 1] = made[4][3:5, 0] = np.nan  # sensors fail for a while
    return made


def _clouds() -> list[Any]:
    draw = np.random.default_rng(0)
    return [draw.standard_normal((30 + 5 * i, 4)).astype(np.float32) * [1, 2, 0.5, 9] for i in range(12)]


def _vectors() -> list[Any]:
    draw = np.random.default_rng(0)
    return [draw.standard_normal(6).astype(np.float32) * (1 + i) for i in range(12)]


def _videos() -> list[Any]:
    draw = np.random.default_rng(0)
    return [draw.integers(0, 256, (6 + i, 20, 24, 3), dtype=np.uint8) for i in range(12)]


def _boxes() -> list[Any]:
    draw = np.random.default_rng(0)
    made: list[Any] = []
    for i in range(10):
        sides = [[*draw.integers(0, 12, 2).tolist(), *draw.integers(3, 9, 2).tolist()] for _ in range(i % 4)]
        made.append([[*four, ("cat", "dog", "0")[(i + k) % 3]] for k, four in enumerate(sides)])
    yolo = Blob(b"0 0.5 0.5 0.25 0.5\n1 0.25 0.5 0.25 0.25\n", "yolo.txt")
    corners = "".join(f"<{name}>{number}</{name}>" for name, number in (("xmin", 2), ("ymin", 3), ("xmax", 9), ("ymax", 9)))
    voc = f"<annotation><object><name>dog</name><bndbox>{corners}</bndbox></object></annotation>"
    return [*made, yolo, Blob(voc.encode(), "voc.xml")]


def _volumes() -> list[Any]:
    draw = np.random.default_rng(0)
    return [draw.normal(0, 300, (8 + i % 3, 12, 10)).astype(np.float32) for i in range(12)]


def _graphs() -> list[Any]:
    draw = np.random.default_rng(0)
    made = []
    for i in range(12):
        nodes = [["red", "blue", "grey"][k] for k in draw.integers(0, 3, 3 + i % 5)]
        edges = [[k, k + 1, "near" if k % 2 else "far"] for k in range(len(nodes) - 1)]
        made.append({"nodes": nodes, "edges": edges})
    return made


_ETHANOL = ((-0.89, 0.17, -0.31, "C"), (0.43, -0.35, 0.24, "C"), (1.42, 0.65, 0.05, "O"))


def _molecules() -> list[Any]:
    plain = ["CCO", "c1ccccc1", "CC(=O)O", "C#N", "CC(C)C", "O=C=O", "c1ccncc1", "CCN", "CS(=O)C"]
    # Ethanol with positions: the number of atoms and bonds, an atom or a bond a line.
    atoms = "".join(f"{x:10.4f}{y:10.4f}{z:10.4f} {a:<3} 0  0\n" for x, y, z, a in _ETHANOL)
    head = "\n     made here        3D\n\n  3  2  0  0  0  0  0  0  0  0999 V2000\n"
    ethanol = f"{head}{atoms}  1  2  1  0\n  2  3  1  0\nM  END\n"
    return [*plain, "[Na+].[Cl-]", "N[C@@H](C)C(=O)O", Blob(ethanol.encode(), "ethanol.mol")]


def _albums() -> list[Any]:
    pictures = _pictures()
    return [pictures[: 1 + i % 4] for i in range(12)]


def _keypoints() -> list[Any]:
    draw = np.random.default_rng(0)
    made: list[Any] = [
        [[round(float(x), 2), round(float(y), 2), 2] for x, y in draw.uniform(1, 19, (3, 2))] for _ in range(12)
    ]
    made[1] = {"0": made[1][0], "2": {"x": 3, "y": 4.5, "visible": 1}}
    made[2][1] = None
    made[3] = json.dumps(made[3])
    made[4] = [number for point in made[4] for number in point]
    return made


_CELLS = {
    "missing": _numbers,
    "images": _albums,
    "graph": _graphs,
    "molecule": _molecules,
    "video": _videos,
    "volume": _volumes,
    "points": _clouds,
    "vector": _vectors,
    "key": _keys,
    "number": _numbers,
    "category": _categories,
    "ordinal": _steps,
    "tags": _tags,
    "datetime": _dates,
    "text": _texts,
    "sentences": _captions,
    "transcript": _transcripts,
    "line": _pictures,
    "messages": _messages,
    "part_of_speech": lambda: [f"{text}!" for text in _texts()[:-1]],
    "image": _pictures,
    "mask": _masks,
    "edges": _edges,
    "keypoints": _keypoints,
    "boxes": _boxes,
    "labels": _labels,
    "audio": _sounds,
    "series": _series,
}
