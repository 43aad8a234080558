"""Layouts: the five data shapes between modalities and encoders.

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
    """A sequence of vocabulary indices: words, tokens. Data ``[B, N]`` int64, 0 pads.

    ``words``, if known: the word of each index, empty for padding and parts of words.
    ``pieces``, if known: the spelling of each index, with a leading blank at the start of a word; concatenated they are
    the text.
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

    First the features of a node, then its row of the adjacency matrix: the kind of the edge from each node, 1 to
    ``kinds``, or 0 for none. Nodes and edges are thus one tensor, ragged along its first axis. ``count`` is the maximum
    number of nodes.

    ``placed``: nodes may lie in space. Data ``[B, N, channels + count + 4]``: then x, y, z and 1, or four times 0 where
    the position is unknown. Only distances mean something.
    """

    channels: int
    kinds: int
    count: int
    placed: bool = False
    encoder: ClassVar[str] = "graph"

    @property
    def width(self) -> int:
        """The length of a node's row of data."""
        return self.channels + self.count + (4 if self.placed else 0)


@dataclass(frozen=True)
class Row:
    """Table cells side by side. Data ``[B, cells]`` float32, mask ``[B, cells]``: cells that are present.

    ``cardinalities[i] == 0``: cell i is a number. ``n > 0``: cell i is a code, 0 for unknown and 1 .. n - 1 for the
    known values (float32 holds codes up to 2²⁴ exactly).
    """

    cardinalities: tuple[int, ...]
    encoder: ClassVar[str] = "mlp"

    def __add__(self, other: Row) -> Row:
        return Row(self.cardinalities + other.cardinalities)


Layout = Grid | Ids | Points | Graph | Row
