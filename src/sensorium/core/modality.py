"""The contract of modalities, the kinds of cells. Imports no torch, so that a table can be inspected without it."""

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
    """The confidence that cells are of a modality (0 to 1), and the reason, in words a user can check."""

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
    """A kind of cell: how it is recognised, fitted, encoded as an array and decoded.

    Keyword-only constructor parameters are the user's options. ``fit`` stores what it learns in ``state`` as plain JSON,
    and nowhere else: options and state define a modality completely.

    A cell is a value of the table. If ``media`` is True, ``fit`` and ``encode`` receive it opened: a ``Blob`` for a path
    or bytes, or the array or list itself. They never receive a missing cell.

    ``encode`` is deterministic and compact (uint8 pictures, int16 sounds), so that its result can be stored and
    memory-mapped; ``prepare`` does whatever needs floats, randomness or a whole batch, on the model's device.
    """

    stream: ClassVar[str | None] = None
    """The stream shared by columns of this kind, which are encoded together; None: each column is a stream of its own."""
    lies_on: ClassVar[tuple[str, ...]] = ()
    """The kinds of input that a target of this kind lies on: boxes on an ``image``. It is resized and augmented too."""
    lies_on_else: ClassVar[tuple[str, ...]] = ()
    """Further kinds of input that it lies on if the table has none of ``lies_on`` and ``on`` names none."""
    task: ClassVar[str | None] = None
    """The default task of a target of this kind; None: it cannot be a target."""
    lies_along: ClassVar[bool] = False
    """True if a target of this kind runs along every input of ``lies_on``, unless ``on`` names one, without coordinates of
    its own: the words of a recording. Inputs then carry frames, so that answers can name places."""
    classed: ClassVar[bool] = False
    """True if targets of this kind have classes; ``classes`` names them once fitted."""
    single: ClassVar[bool] = False
    """True if a target of this kind has exactly one class (a category) rather than several (tags)."""
    widget: ClassVar[str] = "text"
    """The form control for a cell on a page: ``text``, ``number``, ``choice``, ``file:image/*``."""
    media: ClassVar[bool] = False
    """True if cells are files, bytes or arrays: they are opened first, and their encodings are kept in the store."""
    checked: ClassVar[bool] = False
    """True if a table cell may be malformed, so that inspection encodes every cell; media are always checked."""
    several: ClassVar[bool] = False
    """True if a media cell holds several files: ``fit`` and ``encode`` then receive a list of opened files."""
    empty_files: ClassVar[bool] = False
    """True if an empty file is a value (a picture without boxes): it is opened as an empty ``Blob``."""
    ragged: ClassVar[bool] = False
    """True if encoded arrays differ in length along their first axis; a batch pads and masks them."""
    fills: bool = False
    """True if missing table cells are imputed: the encoder reads the imputed value as present."""
    bounds: ClassVar[Mapping[str, float]] = {}
    """The quantities that ``measure`` returns, with the limits of ``encode``: ``pixels``, ``seconds``, ``tokens``."""
    corruptions: ClassVar[tuple[str, ...]] = ()
    """The corruptions of ``corrupt``, for robustness tests; empty: cells can only be removed."""

    def __init__(self) -> None:
        self.state: dict[str, Any] = {}

    @classmethod
    @abstractmethod
    def sniff(cls, cells: Sequence[Any], name: str) -> Guess:
        """The confidence that the raw, non-missing ``cells`` of the column ``name`` are of this modality."""

    @classmethod
    def derived_columns(cls, cells: Sequence[Any], name: str) -> dict[str, dict[str, Any]]:
        """Further columns derived from such cells (the sound of a video), by name, as a recipe declares them.

        ``cells``: some cells of the column ``name``, media opened.
        """
        return {}

    @classmethod
    def written_out(cls, cell: Any) -> bool:
        """Whether a media ``cell`` is text that is the content itself (a SMILES), not the name of a file to be opened."""
        return False

    @abstractmethod
    def fit(self, cells: Iterable[Any]) -> None:
        """Fit ``state`` to the training ``cells``; of media possibly a sample."""

    def notes(self) -> str:
        """What the user should know about the fit, in words; empty if nothing."""
        return ""

    @property
    def classes(self) -> list[str]:
        """The classes of a target, in the order of their indices; empty without classes."""
        return []

    @property
    def in_order(self) -> bool:
        """Whether ``classes`` are ordered from lowest to highest."""
        return False

    @property
    @abstractmethod
    def layout(self) -> Layout:
        """The layout of the data from ``prepare``; known once fitted."""

    @abstractmethod
    def encode(self, cell: Any) -> Array:
        """``cell`` as an array (ragged: the first axis is the length). Raises only ``CellError`` on a bad cell."""

    def missing(self, cell: Any) -> bool:
        """Whether ``cell`` is missing; a modality may keep texts such as ``None`` as values."""
        return is_blank(cell)

    @property
    def reading(self) -> str:
        """How ``fit`` decided to parse the cells (``decimal commas, in cm``), in words; empty by default."""
        return ""

    @property
    def resolved_options(self) -> dict[str, Any]:
        """The values chosen for automatic options (``decimal: auto``); the recipe records them for later tables."""
        return {}

    @property
    def resolved_target_options(self) -> tuple[dict[str, Any], str]:
        """Like ``resolved_options``, for options of targets only, and the reason in words."""
        return {}, ""

    @property
    def logarithmic(self) -> bool:
        """Whether ``encode_target`` returns logarithms, so that differences are relative."""
        return False

    @property
    def heavy_tails(self) -> str:
        """Why a few extreme targets would dominate a squared loss, in words; empty if none do, or if the modality was
        loaded rather than fitted."""
        return ""

    @property
    def doubts(self) -> list[str]:
        """Doubts about how the cells are parsed that a user should check, each a sentence with its remedy."""
        return []

    def unfamiliar(self, cell: Any) -> str:
        """The value in ``cell`` that training rows lack, with a similar known value if any; empty if it is known."""
        return ""

    def measure(self, cell: Any) -> dict[str, float]:
        """The declared size of an opened ``cell`` before decoding, by the names of ``bounds``.

        Empty if unknown; errors of the cell are left to ``encode``.
        """
        return {}

    def extent(self, cell: Any) -> Array | None:
        """The extent of an opened ``cell`` in the user's own units, float32 ``[n]``; None if it has no coordinates.

        Width and height in pixels of an upright image, seconds of a recording. Read from the header where possible.
        """
        return None

    def framing(self, extent: Array) -> Array:
        """Affine maps float32 ``[B, A, A + 1]`` from coordinates in cells of these extents (``extent`` ``[B, n]``) to
        coordinates in the encoded cells, as in ``signal/geometry.py``; ``prepare`` continues them (``Field.frame``)."""
        raise TypeError(f"{type(self).__name__} has no framing: places in its cells have no name")

    def misfit(self, extent: Array, on: Array) -> str:
        """Why a target of this ``extent`` cannot lie on an input of extent ``on``, in words; it then counts as missing.
        Empty if it can."""
        return ""

    def adjusted(self, extent: Array, on: Array) -> str:
        """How ``prepare_target`` adjusts a target of this ``extent`` to an input of extent ``on``; empty if it does not."""
        return ""

    def encode_target(self, cell: Any) -> Array:
        """``cell`` as a target. Differs from ``encode`` for kinds whose inputs, but not targets, may be unknown values."""
        return self.encode(cell)

    def decode(self, value: Array) -> Any:
        """The inverse of ``encode_target``: ``value`` as a JSON-ready cell. Only for kinds that can be targets."""
        raise TypeError(f"{type(self).__name__} cannot be decoded: it cannot be a target")

    @abstractmethod
    def blank(self) -> Array:
        """The placeholder of a missing cell (ragged: length 0)."""

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
        """The encoded cell ``value`` with the corruption ``how`` at ``level``, from 0 (unchanged) to 1 (nearly destroyed).

        Deterministic given ``rng``. The result has the same dtype and shape; a ragged one may change its length.
        """
        if how not in self.corruptions:
            raise ConfigError(f"{type(self).__name__} cannot be corrupted by {how!r}{nearest(how, self.corruptions)}")
        if not 0 <= level <= 1:
            raise ConfigError(f"a level of corruption of {level} is not between 0 and 1")
        return self._corrupted(value, how, level, rng) if level > 0 else value

    def _corrupted(self, value: Array, how: str, level: float, rng: np.random.Generator) -> Array:
        """``corrupt`` for a known ``how`` and a level above 0; defined by modalities with ``corruptions``."""
        raise NotImplementedError(f"{type(self).__name__} names corruptions and has no _corrupted")

    @property
    def store_options(self) -> dict[str, Any]:
        """The options and state that ``encode`` depends on, as JSON: with the cell's content, the key of a stored array.

        By default all options and state. A modality leaves out the options of its ``prepare``, so that changing them does
        not decode cells again.
        """
        from sensorium.core.registry import chosen

        return {**chosen(self), "state": self.state}

    @property
    def longest(self) -> int:
        """Maximum length of a ragged encoding; by default that of the layout."""
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
