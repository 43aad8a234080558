"""Edge maps of an image, drawn by one or several annotators."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from math import ceil
from statistics import median
from typing import TYPE_CHECKING, Any

import numpy as np

from sensorium.codecs.edges import ANNOTATORS, edge_size, read_edges, shrunk
from sensorium.codecs.image import PIXELS
from sensorium.core.answer import Attachment
from sensorium.core.errors import CellError, ConfigError
from sensorium.core.layout import Grid, Layout
from sensorium.core.modality import Array, Guess, Modality
from sensorium.core.plurals import counted
from sensorium.core.registry import component, find
from sensorium.signal.overlaid_map import map_misfit, stretched_frames

if TYPE_CHECKING:
    import torch

    from sensorium.core.batch import Field

VOID = 255
"""Value of unknown pixels: outside the image, and for annotators that a cell does not have."""
LARGEST = 256
"""Longer side in pixels at which edge maps are stored, unless they are smaller or ``size`` says otherwise."""
MANY = 0.4
"""Share of edge pixels above which a map is probably inverted, or not an edge map."""


@component
class Edges(Modality):
    """Edges of an image as drawn by one or several annotators: a picture file for each, or an array of all.

    A cell names one file, or several as a list or as ``a.png;b.png``; an NPY file or an array may be a stack
    ``[annotators, height, width]``. A pixel above half of the largest value is an edge. Masks give their boundaries with
    ``boundaries``. Encoded as ``[A, H, W]`` uint8: 1 edge, 0 none, 255 unknown. As a target it follows its image through
    resizing, cropping and augmentation.

    Args:
        boundaries: Whether cells hold masks, whose class boundaries are the edges.
        dark: Whether edges are dark on light.
        annotators: Maximum number of annotators read from a cell; further ones are dropped.
        size: Longer side of the stored map in pixels; None: that of the usual training map, at most 256.
    """

    media = True
    several = True
    lies_on = ("image",)
    task = "edges"
    widget = "file:image/*"
    bounds = {"pixels": PIXELS}

    def __init__(
        self, *, boundaries: bool = False, dark: bool = False, annotators: int = 8, size: int | None = None
    ) -> None:
        super().__init__()
        if not 1 <= annotators <= ANNOTATORS:
            raise ConfigError(f"edges: {annotators} annotators are not between 1 and {ANNOTATORS}")
        if size is not None and not 4 <= size <= 4096:
            raise ConfigError(f"edges: a size of {size} pixels is not between 4 and 4096")
        self.boundaries, self.dark, self.annotators, self.size = boundaries, dark, annotators, size

    @classmethod
    def sniff(cls, cells: Sequence[Any], name: str) -> Guess:
        pictures = find("modalities", "images").sniff(cells, name)
        return Guess(0.6 * pictures.score, f"{pictures.reason}; as a target, edge maps of several annotators")

    def fit(self, cells: Iterable[Any]) -> None:
        sizes: list[tuple[int, int]] = []
        counts: list[int] = []
        shares: list[float] = []
        for cell in cells:
            try:
                edges = self._read(cell)
            except CellError:
                continue  # reported by encode
            counts.append(len(edges))
            sizes.append((edges.shape[1], edges.shape[2]))
            shares.append(float(edges.mean()))
        high, wide = (int(median(side)) for side in zip(*sizes, strict=True)) if sizes else (LARGEST, LARGEST)
        by = min(1.0, LARGEST / max(high, wide)) if self.size is None else self.size / max(high, wide)
        self.state = {
            "height": max(1, round(high * by)),
            "width": max(1, round(wide * by)),
            "annotators": max(counts, default=1),
            "share": round(float(np.mean(shares)), 5) if shares else 0.0,
        }

    def _read(self, cell: Any) -> Array:
        return read_edges(cell, boundaries=self.boundaries, dark=self.dark)[: self.annotators]

    def notes(self) -> str:
        source = "boundaries of masks, " if self.boundaries else ""
        return (
            f"{source}up to {counted(self.state['annotators'], 'annotator')}, {self.state['share']:.1%} of pixels are edges"
        )

    @property
    def doubts(self) -> list[str]:
        if self.state["share"] < MANY:
            return []
        how = "dark: false" if self.dark else "dark: true"
        return [
            f"{self.state['share']:.0%} of its pixels are edges; are they dark on light ({how}), or boundaries of masks?"
        ]

    @property
    def layout(self) -> Layout:
        return Grid(self.state["annotators"], (self.state["height"], self.state["width"]))

    def measure(self, cell: Any) -> dict[str, float]:
        size = edge_size(cell)
        return {} if size is None else {"pixels": float(size[0] * size[1])}

    def extent(self, cell: Any) -> Array | None:
        """Return the width and height of the map in pixels."""
        size = edge_size(cell)
        return None if size is None else np.array(size[::-1], np.float32)

    def misfit(self, extent: Array, on: Array) -> str:
        return map_misfit("an edge map", extent, on)

    def framing(self, extent: Array) -> Array:
        """Map pixels of the edge map to pixels of the stored one, which is stretched."""
        return stretched_frames(extent, self.state["width"], self.state["height"])

    def encode(self, cell: Any) -> Array:
        result = self.blank()
        edges = shrunk(self._read(cell), (self.state["height"], self.state["width"]))[: len(result)]
        result[: len(edges)] = edges
        return result

    def decode(self, value: Array) -> list[Attachment]:
        """Return the map of each annotator as a picture, edges white on black."""
        known = [edge_map for edge_map in np.asarray(value) if (edge_map != VOID).any()]
        return [Attachment((255 * (edge_map == 1)).astype(np.uint8), "image", note="true edges") for edge_map in known]

    def blank(self) -> Array:
        return np.full((self.state["annotators"], self.state["height"], self.state["width"]), VOID, np.uint8)

    def prepare(self, field: Field, generator: torch.Generator | None = None) -> Field:
        """Return edge maps as an input: 1 on edges, else 0, ``[B, A, H, W]`` float32."""
        return replace(field, data=((field.data == 1) & field.present[:, None, None, None]).float())

    def prepare_target(self, field: Field, on: Field | None = None) -> Field:
        """Return the maps in the pixels of the prepared image ``on``, ``[B, A, h, w]`` uint8; 255 is unknown.

        Where the image is smaller than the map, a pixel with an edge anywhere in it is an edge, so that lines stay whole.
        """
        if on is None or on.frame is None or field.frame is None:
            return field
        import torch
        from torch.nn import functional as F

        from sensorium.signal.geometry import compose, resample

        high, wide = on.data.shape[2:]
        finer = max(1, ceil(max(self.state["height"] / high, self.state["width"] / wide) - 1e-6))
        scale = on.frame.new_tensor([[finer, 0, 0], [0, finer, 0]]).expand(len(on.frame), -1, -1)
        own = field.frame
        if on.extent is not None and field.extent is not None:
            ratio = field.extent / on.extent.clamp(min=1)  # from pixels of the image to those of the map
            own = torch.cat([own[:, :, :2] * ratio[:, None], own[:, :, 2:]], dim=2)
        grid = compose(scale, on.frame)
        data = resample(field.data, own, grid, (high * finer, wide * finer), fill=VOID)
        if finer > 1:
            edges = F.max_pool2d((data == 1).float(), finer) > 0
            unknown = F.max_pool2d((data != VOID).float(), finer) == 0
            data = torch.where(unknown, VOID, edges.to(torch.uint8)).to(torch.uint8)
        return replace(field, data=data, frame=on.frame, extent=on.extent)

    @property
    def store_options(self) -> dict[str, Any]:
        state = {key: self.state[key] for key in ("height", "width", "annotators")}
        return {"boundaries": self.boundaries, "dark": self.dark, "annotators": self.annotators, "state": state}
