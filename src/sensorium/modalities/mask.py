"""Masks: the class of each pixel of an image."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace
from statistics import median
from typing import TYPE_CHECKING, Any

import numpy as np

from sensorium.codecs.image import PIXELS
from sensorium.codecs.mask import is_coloured, mask_size, read_mask
from sensorium.codecs.regions import are_regions, region_classes
from sensorium.core.answer import Attachment
from sensorium.core.errors import CellError, ConfigError, listed
from sensorium.core.layout import Grid, Layout
from sensorium.core.modality import Array, Guess, Modality
from sensorium.core.registry import component, find
from sensorium.signal.overlaid_map import map_misfit, stretched_frames

if TYPE_CHECKING:
    import torch

    from sensorium.core.batch import Field

VOID = 255
"""Stored and prepared in place of a class where nothing is known."""
CLASSES = 64
"""Most classes that are learnt from the pixels; more have to be named."""
LARGEST = 256
"""Longer side in pixels at which masks are stored, unless they are smaller or ``size`` says otherwise."""
COVERED = 0.9
"""Smallest share of the pixels that the values taken for classes must cover, or it is no mask."""
RARE = 0.002
"""Where there are more than ``CLASSES`` values, those of a smaller share of the pixels are taken for smoothed edges."""
BACKGROUND = "background"
"""The class of pixels of no region, where regions have names."""
DENSE = 4
"""Numbers of classes are below this multiple of their count, where 255 may be void."""
FINEST = 4
"""Most pixels of a prepared mask along the side of one of its image."""


@component
class Mask(Modality):
    """A mask, the class of each pixel of an image: a picture file of class numbers or of colours, an array, or JSON.

    A picture in grey or with a palette holds class numbers, one in colour a colour for each class. JSON is COCO's run
    lengths, or regions as run lengths or polygons (``codecs/regions.py``), whose classes have numbers or names. Classes are
    learnt from the training masks.
    Encoded as ``[H, W]`` uint8, class indices, 255 where nothing is known; as a target it follows its image through
    resizing, cropping and augmentation, and answers are written as the training masks were.

    Args:
        size: Longer side of the stored mask in pixels; None: that of the usual training mask, at most 256.
        classes: The name of each class and its number or colour (``#rrggbb``), as in ``{road: 1, car: "#00008e"}``; pixels
            of other values are void. None: every value of the training masks is a class, named for it, or as regions name
            it.
        void: Values of pixels of which nothing is known and nothing is learnt: numbers or colours, separated by commas;
            ``none``; ``auto`` is 255 where the other values are two or more small numbers.
        palette: Whether a picture with a palette is read as colours, not as numbers.
        files: The class of each file of a cell that names a file for each class, ``a.png;b.png``: pixels other than 0 are
            of the class, the rest background. Where several classes lie, the last counts.
    """

    media = True
    lies_on = ("image",)
    task = "segmentation"
    widget = "file:image/*"
    bounds = {"pixels": PIXELS}

    def __init__(
        self,
        *,
        size: int | None = None,
        classes: dict[str, Any] | None = None,
        void: str = "auto",
        palette: bool = False,
        files: list[str] | None = None,
    ) -> None:
        super().__init__()
        if size is not None and not 4 <= size <= 4096:
            raise ConfigError(f"mask: a size of {size} pixels is not between 4 and 4096")
        self.size, self.void, self.palette = size, void, palette
        if files is not None and (classes is not None or palette or not 1 <= len(set(files)) == len(files) < VOID - 1):
            raise ConfigError("mask: files are different names of classes, without classes and palette beside them")
        self.files = None if files is None else [str(name) for name in files]
        if self.files is not None:
            self.several = True  # type: ignore[misc]  # of this column alone
            classes = {"background": 0, **{name: i for i, name in enumerate(self.files, 1)}}
        self._named = None if classes is None else {str(name): _value(value) for name, value in classes.items()}
        if self._named is not None and not 2 <= len(set(self._named.values())) == len(self._named) < VOID:
            raise ConfigError("mask: classes are 2 to 254 names of different numbers or colours")
        self._void = () if void in ("auto", "none") else tuple(_value(part.strip()) for part in void.split(","))

    @classmethod
    def sniff(cls, cells: Sequence[Any], name: str) -> Guess:
        share = sum(map(are_regions, cells)) / max(len(cells), 1)
        if share >= COVERED:
            return Guess(0.98 * share, f"{share:.0%} of the cells are regions with a size")
        picture = find("modalities", "image").sniff(cells, name)
        # An input that is a picture is an image: as a mask it would have to be the answer.
        return Guess(0.6 * picture.score, f"{picture.reason}; as a target, a mask")

    def fit(self, cells: Iterable[Any]) -> None:
        counts: Counter[int] = Counter()
        sizes: list[tuple[int, int]] = []
        coloured = 0
        learnt: dict[str, int] = {}
        numbered = False
        self.state = {}
        for cell in cells:
            if self._named is None:
                for name in region_classes(cell):
                    numbered = numbered or isinstance(name, int)
                    if isinstance(name, str):
                        learnt.setdefault(name, len(learnt) + 1)
            try:
                values = self._read(cell, learnt or None)
            except CellError:
                continue  # reported by encode
            sizes.append(values.shape)
            coloured += self.files is None and is_coloured(cell, palette=self.palette)
            numbers, times = np.unique(values, return_counts=True)
            # Of a photo by mistake not every colour is counted.
            often = np.argsort(-times, kind="stable")[: 4 * VOID]
            counts.update(dict(zip(numbers[often].tolist(), times[often].tolist(), strict=True)))
        high, wide = (int(median(side)) for side in zip(*sizes, strict=True)) if sizes else (LARGEST, LARGEST)
        longer = max(high, wide)
        by = min(1.0, LARGEST / longer) if self.size is None else self.size / longer
        names = sorted(learnt.keys() - {BACKGROUND})
        if names and numbered:
            problem = "mask: some regions have numbers for classes, others names"
            raise ConfigError(problem, fix="name them all, or give the numbers of the names: classes: {road: 1, car: 2}")
        if len(names) > VOID - 2:
            raise ConfigError(f"mask: regions have {len(names):,} classes, and at most {VOID - 2} are learnt")
        self.state = {
            "height": max(1, round(high * by)),
            "width": max(1, round(wide * by)),
            "coloured": coloured > len(sizes) / 2,
            **({"names": [BACKGROUND, *names]} if learnt else {}),
        }
        self.state |= self._classes(counts)

    @property
    def named(self) -> dict[str, int] | None:
        """The number or colour of each class with a name, as the user or the regions of the training masks name them."""
        names = self.state.get("names")
        return self._named if names is None else {name: i for i, name in enumerate(names)}

    def _classes(self, counts: Counter[int]) -> dict[str, Any]:
        """What the values of pixels mean: ``values`` are those of the classes, ``void`` those that count as unknown."""
        void = self._void
        others = [value for value in counts if value != VOID]
        # Class numbers lie close together; 0, 128 and 255 are levels of grey.
        dense = len(others) > 1 and max(others) < DENSE * len(others)
        if self.void == "auto" and self.named is None and VOID in counts and dense:
            void = (VOID,)
        known = {value: count for value, count in counts.items() if value not in void}
        if self.named is not None:
            unknown = [VOID] if "names" in self.state and VOID in counts else []
            return {"values": list(self.named.values()), "void": [*void, *unknown], "smoothed": False}
        smoothed = len(known) > CLASSES
        if smoothed:
            whole = sum(known.values())
            often = {value: count for value, count in known.items() if count >= RARE * whole}
            if not 2 <= len(often) <= CLASSES or sum(often.values()) < COVERED * whole:
                raise ConfigError(
                    f"its pictures have more than {CLASSES} values, as photos have: they are no masks",
                    fix="name another target, or its classes: {kind: mask, classes: {road: 1, car: 2}}",
                )
            known = often
        return {"values": sorted(known) or [0, 1], "void": list(void), "smoothed": smoothed}

    def notes(self) -> str:
        void = [f"#{value:06x}" if self.state["coloured"] else str(value) for value in self.state["void"]]
        between = ["values between them count as the nearest"] if self.state["smoothed"] else []
        return "; ".join([f"classes {listed(self.classes)}", *([f"{listed(void)} is void"] if void else []), *between])

    @property
    def classes(self) -> list[str]:
        if self.named is not None:
            return list(self.named)
        values = self.state.get("values", [])
        return [f"#{value:06x}" if self.state["coloured"] else str(value) for value in values]

    @property
    def background(self) -> int | None:
        """The index of the class that is not foreground: that of number 0, or of black; None where no class is."""
        values = self.state["values"]
        return values.index(0) if 0 in values else None

    @property
    def layout(self) -> Layout:
        return Grid(len(self.state["values"]), (self.state["height"], self.state["width"]))

    def _read(self, cell: Any, names: dict[str, int] | None = None) -> Array:
        """The number of each pixel of a mask ``[H, W]``, from one file or a file for each class; ``names`` are those of
        regions, if not ``named``."""
        if self.files is None:
            return read_mask(cell, palette=self.palette, names=names or self.named)
        if not isinstance(cell, list) or len(cell) != len(self.files):
            count = len(cell) if isinstance(cell, list) else 1
            raise CellError(
                f"{count} files for {len(self.files)} classes", fix=f"name a file for each of {listed(self.files)}"
            )
        layers = [read_mask(part) for part in cell]
        if len({layer.shape for layer in layers}) > 1:
            raise CellError("the files of its classes differ in size", fix="draw all on the same image")
        values = np.zeros(layers[0].shape, np.int32)
        for number, layer in enumerate(layers, 1):
            values[layer != 0] = number
        return values

    def _size(self, cell: Any) -> tuple[int, int] | None:
        return mask_size(cell[0] if self.files is not None and isinstance(cell, list) and cell else cell)

    def measure(self, cell: Any) -> dict[str, float]:
        size = self._size(cell)
        return {} if size is None else {"pixels": float(size[0] * size[1])}

    def extent(self, cell: Any) -> Array | None:
        """Return the width and height of the mask in pixels."""
        size = self._size(cell)
        return None if size is None else np.array(size[::-1], np.float32)

    def misfit(self, extent: Array, on: Array) -> str:
        return map_misfit("a mask", extent, on)

    def framing(self, extent: Array) -> Array:
        """Map pixels of the mask to pixels of the stored one, which is stretched."""
        return stretched_frames(extent, self.state["width"], self.state["height"])

    def encode(self, cell: Any) -> Array:
        values = self._read(cell)
        size = (self.state["height"], self.state["width"])
        rows, columns = (
            ((np.arange(to) + 0.5) * (of / to)).astype(np.int64) for to, of in zip(size, values.shape, strict=True)
        )
        return self._codes(values[rows[:, None], columns])

    def _codes(self, values: Array) -> Array:
        """The class index of each of ``values``."""
        known = np.array(self.state["values"])
        distinct, place = np.unique(values, return_inverse=True)
        if self.state["smoothed"]:
            channels = (16, 8, 0) if self.state["coloured"] else (0,)
            bits = 0xFF if self.state["coloured"] else 0xFFFFFF
            apart = sum(((distinct[:, None] >> c & bits) - (known >> c & bits)) ** 2 for c in channels)
            codes = np.asarray(apart).argmin(axis=1)
        else:
            match = distinct[:, None] == known
            codes = np.where(match.any(axis=1), match.argmax(axis=1), VOID)
        codes = np.where(np.isin(distinct, self.state["void"]), VOID, codes)
        return codes.astype(np.uint8)[place].reshape(values.shape)

    def pixels(self, codes: Array) -> Array:
        """Convert class indices ``codes`` ``[H, W]`` to pixels as the training masks have them.

        Returns:
            Class numbers ``[H, W]`` (uint8, or uint16 where one needs it), or colours ``[H, W, 3]`` uint8. Unknown pixels
            get the first void value, else 0.
        """
        unknown = (self.state["void"] or [0])[0]
        table = np.full(VOID + 1, unknown, np.int64)
        table[: len(self.state["values"])] = self.state["values"]
        values = table[np.asarray(codes).astype(np.uint8)]
        if self.state["coloured"]:
            return np.stack([values >> shift & 0xFF for shift in (16, 8, 0)], axis=-1).astype(np.uint8)
        return values.astype(np.uint8 if table.max() <= 0xFF else np.uint16)

    def codes_of(self, pixels: Array) -> Array:
        """Return the class indices ``[H, W]`` uint8 of ``pixels`` as ``pixels()`` gives them; 255 is no class."""
        return self._codes(read_mask(pixels))

    def picture(self, codes: Array, note: str = "mask") -> Attachment:
        """Return class indices ``codes`` ``[H, W]`` as a picture like the training masks, described by ``note``."""
        return Attachment(self.pixels(codes), "image" if self.state["coloured"] else "mask", note=note)

    def decode(self, value: Array) -> Attachment:
        return self.picture(np.asarray(value), "true mask")

    def blank(self) -> Array:
        return np.full((self.state["height"], self.state["width"]), VOID, np.uint8)

    def prepare(self, field: Field, generator: torch.Generator | None = None) -> Field:
        """Return masks as indicators of the classes, ``[B, K, H, W]`` float32: a mask that is an input."""
        import torch

        codes = field.data.long()[:, None]
        which = torch.arange(len(self.state["values"]), device=codes.device)[None, :, None, None]
        return replace(field, data=((codes == which) & field.present[:, None, None, None]).float())

    def prepare_target(self, field: Field, on: Field | None = None) -> Field:
        """Return class indices ``[B, h, w]`` uint8 aligned with the prepared image ``on``, 255 outside the mask.

        The grid is a whole multiple of the image's, so that masks finer than the image keep their edges. A mask of another
        size than its image is stretched to it.
        """
        if on is None or on.frame is None or field.frame is None:
            return field
        import torch

        from sensorium.signal.geometry import compose, resample

        high, wide = on.data.shape[2:]
        times = min(FINEST, max(1, round(max(self.state["height"], self.state["width"]) / max(high, wide))))
        finer = on.frame.new_tensor([[times, 0, 0], [0, times, 0]]).expand(len(on.frame), -1, -1)
        grid = compose(finer, on.frame)
        own = field.frame
        if on.extent is not None and field.extent is not None:
            ratio = field.extent / on.extent.clamp(min=1)  # from pixels of the image to those of the mask
            own = torch.cat([own[:, :, :2] * ratio[:, None], own[:, :, 2:]], dim=2)
        data = resample(field.data[:, None], own, grid, (high * times, wide * times), fill=VOID)[:, 0]
        return replace(field, data=data, frame=grid, extent=on.extent)

    @property
    def store_options(self) -> dict[str, Any]:
        files = {} if self.files is None else {"files": self.files}
        return {"palette": self.palette, "state": self.state, **files}


def _value(value: Any) -> int:
    """The value of a pixel that a user wrote: a number, or a colour ``#rrggbb`` as ``0xRRGGBB``."""
    text = str(value).strip().lower()
    try:
        number = int(text[1:], 16) if text.startswith("#") and len(text) == 7 else int(text)
    except ValueError:
        number = -1
    if isinstance(value, bool) or not 0 <= number <= 0xFFFFFF:
        raise ConfigError(f"mask: {value!r} is no class number and no colour", fix="give 3, or '#00ff00'")
    return number
