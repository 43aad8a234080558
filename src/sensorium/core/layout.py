"""Layouts: the five shapes in which modalities pass data to encoders, the narrow waist of the library.

Shape letters everywhere: **B** rows, **N** tokens, **D** width, **C** channels, **S** streams.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar


@dataclass(frozen=True)
class Grid:
    """Samples on a regular grid of one to three dimensions: a picture, a spectrogram, a sensor, a video.

    Data ``[B, channels, *size]``. Where rows differ in length, the first axis of ``size`` is the padded one (time, for
    sound and sensors) and the field's mask is ``[B, length]``; ``size[0]`` is then the longest to expect.

    ``timed``: the first axis is time, as of a sound, a sensor, a video.
    """

    channels: int
    size: tuple[int, ...]
    timed: bool = field(default=False, compare=False)
    encoder: ClassVar[str] = "convnet"


@dataclass(frozen=True)
class Ids:
    """Whole numbers from a vocabulary, one after the other: words, tokens. Data ``[B, N]`` int64, 0 pads.

    ``words``, where known: the word that each id stands for, empty where it stands for none (padding, a part of a word).
    ``pieces``, where known: what each id spells, with a blank before what begins a word; put together they are the text.
    """

    vocabulary: int
    length: int
    words: tuple[str, ...] = field(default=(), compare=False, repr=False)
    pieces: tuple[str, ...] = field(default=(), compare=False, repr=False)
    encoder: ClassVar[str] = "transformer"


@dataclass(frozen=True)
class Points:
    """An unordered set of points. Data ``[B, N, channels]``, the first three a position."""

    channels: int
    count: int
    encoder: ClassVar[str] = "pointnet"


@dataclass(frozen=True)
class Graph:
    """Nodes and the edges between them. Data ``[B, N, channels + count]``, one row a node.

    First a node's features; then, for each node in the same order, by which kind of edge it hears that node: 0 for none, 1
    to ``kinds`` otherwise. So nodes and edges are one tensor, ragged along its first axis. ``count`` is the most nodes.
    """

    channels: int
    kinds: int
    count: int
    encoder: ClassVar[str] = "graph"


@dataclass(frozen=True)
class Row:
    """Cells of a table side by side. Data ``[B, cells]`` float32, mask ``[B, cells]``: which cells were really there.

    ``cardinalities[i] == 0``: cell i is a number. ``n > 0``: cell i is a code, 0 for unknown and 1 .. n - 1 for the
    known values (float32 holds codes up to 2²⁴ exactly).
    """

    cardinalities: tuple[int, ...]
    encoder: ClassVar[str] = "mlp"

    def __add__(self, other: Row) -> Row:
        return Row(self.cardinalities + other.cardinalities)


Layout = Grid | Ids | Points | Graph | Row
