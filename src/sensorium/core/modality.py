"""What a kind of cell promises. Free of torch at import, so that a table can be looked at without it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from sensorium.core.errors import ConfigError, nearest
from sensorium.core.layout import Graph, Grid, Ids, Layout, Points

if TYPE_CHECKING:
    import torch

    from sensorium.core.batch import Field

Array = NDArray[Any]


class Guess(NamedTuple):
    """How surely some cells are of a modality (0 to 1), and why, in words a user can check."""

    score: float
    reason: str


class Blob(NamedTuple):
    """An opened media cell: the bytes, and a name (a path as the table wrote it, or ``<bytes>``) for messages."""

    data: bytes
    name: str


@dataclass(frozen=True)
class Folder:
    """An opened cell that names a folder: the files of one recording, such as the slices of a scan, by name."""

    files: tuple[Blob, ...]
    name: str


def is_blank(cell: Any) -> bool:
    """Whether ``cell`` is missing: None, NaN, NaT, or a text such as an empty one, ``N/A`` or ``null``."""
    if cell is None:
        return True
    if isinstance(cell, str):
        return cell.strip().lower() in _BLANKS
    if isinstance(cell, (bool, int, bytes)):
        return False
    # Tensors and pictures compare element by element, at the cost of all of them.
    if (getattr(cell, "shape", ()) and not isinstance(cell, np.ndarray)) or hasattr(cell, "getbands"):
        return False
    if hasattr(cell, "as_py") and getattr(cell, "is_valid", True) is False:
        return True  # a null of Arrow
    try:
        return bool(cell != cell)  # NaN, NaT and their kin differ from themselves
    except (TypeError, ValueError):
        # pandas' NA is neither true nor false.
        return type(cell).__name__ == "NAType"


_BLANKS = frozenset({"", "na", "n/a", "nan", "null", "none", "nil", "#n/a", "-nan", "<na>", "nat"})


class Encodes(Protocol):
    """What an array cache requires of the encoder of its cells."""

    @property
    def ragged(self) -> bool:
        """Whether encoded cells differ in length."""

    def blank(self) -> Array:
        """An encoded missing cell."""

    def encode(self, cell: Any) -> Array:
        """``cell`` as an array."""


class Modality(ABC):
    """A kind of cell: how it is recognised, learnt from, turned into an array and back.

    Keyword-only constructor parameters are the user's options. What ``fit`` learns goes into ``state`` as plain JSON, and
    nowhere else: a modality with the same options and state is the same modality.

    A cell is what stands in the table. Where ``media`` is True, ``fit`` and ``encode`` get it opened: a ``Blob`` for a path
    or bytes, or the array or list itself. A missing cell never reaches ``fit`` or ``encode``.

    ``encode`` is deterministic and compact (uint8 picture, int16 sound), so that it can be stored and memory-mapped;
    whatever needs floats, randomness or a whole batch is done by ``prepare`` on the model's device.
    """

    stream: ClassVar[str | None] = None
    """Columns whose modalities name the same stream are encoded side by side; None: the column is its own stream."""
    lies_on: ClassVar[tuple[str, ...]] = ()
    """The kinds of input that such a target lies on: boxes on an ``image``. Resizing and augmenting move it with them."""
    lies_on_else: ClassVar[tuple[str, ...]] = ()
    """Further kinds of input that it lies on, where the table has none of ``lies_on`` and ``on`` names none."""
    task: ClassVar[str | None] = None
    """The task kind used where such a column is the target and none is named; None: cannot be a target."""
    lies_along: ClassVar[bool] = False
    """True where such a target runs along every input of ``lies_on``, unless ``on`` names one, and has no places of its own
    there: the words of a recording. Inputs then carry frames, so that answers can name places."""
    classed: ClassVar[bool] = False
    """True where a target of this kind has classes: ``classes`` names them once it is fitted."""
    single: ClassVar[bool] = False
    """True where a target of this kind has exactly one of its classes (a category), and not several (tags)."""
    widget: ClassVar[str] = "text"
    """How a page asks for it: ``text``, ``number``, ``choice``, ``file:image/*``."""
    media: ClassVar[bool] = False
    """True where the cell is a file, bytes or an array: it is opened first, and what it encodes to is kept in the store."""
    checked: ClassVar[bool] = False
    """True where a cell of the table may be malformed, so that a look at the table encodes each; media always are."""
    several: ClassVar[bool] = False
    """True where a media cell holds several files: then ``fit`` and ``encode`` get a list of opened ones."""
    empty_files: ClassVar[bool] = False
    """True where a file of 0 bytes is a value: a list of boxes without any. It is then opened as an empty ``Blob``."""
    ragged: ClassVar[bool] = False
    """True where encoded arrays differ in length along their first axis and are padded and masked in a batch."""
    fills: bool = False
    """True where something sensible stands for a missing table cell: the encoder reads it as if it were there."""
    bounds: ClassVar[Mapping[str, float]] = {}
    """What ``measure`` tells of a cell, and how much of each ``encode`` takes: ``pixels``, ``seconds``, ``tokens``."""
    corruptions: ClassVar[tuple[str, ...]] = ()
    """The ways ``corrupt`` can spoil a cell, to see what a model bears; none: only its removal can be tried."""

    def __init__(self) -> None:
        self.state: dict[str, Any] = {}

    @classmethod
    @abstractmethod
    def sniff(cls, cells: Sequence[Any], name: str) -> Guess:
        """How likely the raw, non-missing ``cells`` of the column ``name`` are of this modality."""

    @classmethod
    def beside(cls, cells: Sequence[Any], name: str) -> dict[str, dict[str, Any]]:
        """Derived columns that such cells offer besides (the sound of a video), by name, as a recipe declares them.

        ``cells``: a few of the column ``name``, opened where they are media.
        """
        return {}

    @abstractmethod
    def fit(self, cells: Iterable[Any]) -> None:
        """Fit ``state`` to training ``cells``, for media possibly a sample of the column."""

    def notes(self) -> str:
        """What ``fit`` learnt that a user should know, in words; empty where there is nothing to say."""
        return ""

    @property
    def classes(self) -> list[str]:
        """The values that a target may have, in the order of their indices; empty where it has no classes."""
        return []

    @property
    def in_order(self) -> bool:
        """Whether ``classes`` are steps on one scale, from the lowest to the highest."""
        return False

    @property
    @abstractmethod
    def layout(self) -> Layout:
        """The shape that ``prepare`` hands to an encoder; known once fitted."""

    @abstractmethod
    def encode(self, cell: Any) -> Array:
        """``cell`` as an array (ragged: the first axis is the length). Raises only ``CellError`` on a bad cell."""

    def missing(self, cell: Any) -> bool:
        """Whether ``cell`` is missing; a modality may keep texts such as ``None`` as values."""
        return is_blank(cell)

    @property
    def reading(self) -> str:
        """How ``fit`` decided to read the cells (``decimal commas, in cm``), in words; empty where nothing is to tell."""
        return ""

    @property
    def settled(self) -> dict[str, Any]:
        """The options left to the cells (``decimal: auto``) as these decided; a recipe keeps them for later tables."""
        return {}

    @property
    def settled_target(self) -> tuple[dict[str, Any], str]:
        """As ``settled``, of options that cells decide for a target alone, and what they decided in words."""
        return {}, ""

    @property
    def logarithmic(self) -> bool:
        """Whether what ``encode_target`` gives is a logarithm: a step up is so many per cent more."""
        return False

    @property
    def heavy_tails(self) -> str:
        """Why a few targets lie so far out that they would pull at all others, in words; empty where none do, and of a
        modality that was not fitted here."""
        return ""

    @property
    def doubts(self) -> list[str]:
        """What a user should look at in how the cells are read, each a sentence with its remedy."""
        return []

    def unfamiliar(self, cell: Any) -> str:
        """The value in ``cell`` that training did not have, with the similar one it may stand for; empty if none."""
        return ""

    def measure(self, cell: Any) -> dict[str, float]:
        """How large an (opened) cell says it is, before it is decoded, by the names of ``bounds``.

        Empty where nothing is known of it; what is wrong with a cell is for ``encode`` to say.
        """
        return {}

    def extent(self, cell: Any) -> Array | None:
        """The extent of an (opened) ``cell`` in the user's own units, float32 ``[n]``; None if it has no coordinates.

        Width and height in pixels of an upright image, seconds of a recording. Read from the header where possible.
        """
        return None

    def framing(self, extent: Array) -> Array:
        """Affine maps float32 ``[B, A, A + 1]`` from coordinates in cells of these extents (``extent`` ``[B, n]``) to
        coordinates in the encoded cells, as in ``signal/geometry.py``; ``prepare`` continues them (``Field.frame``)."""
        raise TypeError(f"{type(self).__name__} has no framing: places in its cells have no name")

    def misfit(self, extent: Array, on: Array) -> str:
        """Why a target of this ``extent`` cannot lie on an input of extent ``on``, in words, for such a cell counts as
        missing; empty where it can."""
        return ""

    def adjusted(self, extent: Array, on: Array) -> str:
        """What ``prepare_target`` changes about a target of this ``extent`` so that it lies on an input of extent ``on``,
        in words; empty where nothing."""
        return ""

    def encode_target(self, cell: Any) -> Array:
        """``cell`` as a target; differs from ``encode`` where an input may be unknown but a target may not."""
        return self.encode(cell)

    def decode(self, value: Array) -> Any:
        """The cell that ``encode_target`` turned into ``value``, as JSON-ready Python. Only where it can be a target."""
        raise TypeError(f"{type(self).__name__} cannot be decoded: it cannot be a target")

    @abstractmethod
    def blank(self) -> Array:
        """What stands in the place of a missing cell (ragged: length 0)."""

    def prepare(self, field: Field, generator: torch.Generator | None = None) -> Field:
        """The stored arrays of ``field`` as float data in the layout's shape; with ``generator`` (training) augmented.

        If the field has a ``frame`` (from ``framing``), so has the result, including the augmentation.
        """
        return field

    def prepare_target(self, field: Field, on: Field | None = None) -> Field:
        """The stored targets of ``field`` as tasks read them, never augmented by themselves.

        ``on``: the prepared input that they lie on, if any. Its ``frame`` maps the user's pixels or seconds to the
        resized and augmented input; the target follows.
        """
        return field

    def corrupt(self, value: Array, how: str, level: float, rng: np.random.Generator) -> Array:
        """The encoded cell ``value`` degraded by the corruption ``how``: ``level`` 0 leaves it unchanged, 1 leaves
        little of it.

        Deterministic given ``rng``. The result has the same dtype and shape; a ragged one may change its length.
        """
        if how not in self.corruptions:
            raise ConfigError(f"{type(self).__name__} cannot be corrupted by {how!r}{nearest(how, self.corruptions)}")
        if not 0 <= level <= 1:
            raise ConfigError(f"a level of corruption of {level} is not between 0 and 1")
        return self._corrupted(value, how, level, rng) if level > 0 else value

    def _corrupted(self, value: Array, how: str, level: float, rng: np.random.Generator) -> Array:
        """``corrupt`` for a known ``how`` and a level above 0: what a modality with ``corruptions`` defines."""
        raise NotImplementedError(f"{type(self).__name__} names corruptions and has no _corrupted")

    @property
    def store_options(self) -> dict[str, Any]:
        """The options and state that ``encode`` depends on, as JSON: with the cell's content, the key of a stored array.

        By default all options and all state; a modality whose ``prepare`` has options of its own leaves those out here, so
        that changing them decodes nothing again.
        """
        from sensorium.core.registry import chosen

        return {**chosen(self), "state": self.state}

    @property
    def longest(self) -> int:
        """The most steps that ``encode`` returns, where ragged; by default what the layout says."""
        layout = self.layout
        if isinstance(layout, Grid):
            return layout.size[0]
        return layout.length if isinstance(layout, Ids) else layout.count if isinstance(layout, (Points, Graph)) else 1

    def collate(self, items: Sequence[Array | None], *, whole: bool = False) -> Field:
        """The encoded arrays ``items`` (None: missing) as one field, padded and masked where ragged.

        ``whole``: pad to ``longest`` rather than to the longest of the batch.
        """
        import torch

        from sensorium.core.batch import Field

        present = torch.tensor([item is not None for item in items], dtype=torch.bool)
        blank = self.blank()
        arrays = [blank if item is None else item for item in items]
        if not self.ragged:
            data = np.stack(arrays) if arrays else np.zeros((0, *blank.shape), blank.dtype)
            mask = torch.ones(data.shape, dtype=torch.bool) if self.fills else None
            return Field(torch.from_numpy(data), present, mask)
        from sensorium.core.padding import padded

        lengths = np.array([len(array) for array in arrays], dtype=np.int64)
        out, real = padded(lengths, blank.shape[1:], blank.dtype, self.longest if whole else 1)
        for i, array in enumerate(arrays):
            out[i, : len(array)] = array
        return Field(torch.from_numpy(out), present, torch.from_numpy(real))
