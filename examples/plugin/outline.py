"""A custom task for every pixel, and its kind of cell: masks on images. The whole plug-in is this file."""

from __future__ import annotations

import io
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F

from sensorium.core.answer import Answer, Attachment
from sensorium.core.batch import Batch, Encoded, Field
from sensorium.core.errors import CellError, ConfigError
from sensorium.core.goal import Goal
from sensorium.core.layout import Grid, Layout
from sensorium.core.modality import Array, Blob, Guess, Modality
from sensorium.core.registry import component
from sensorium.core.report_views import Table, View
from sensorium.core.scorer import Kept, Scorer
from sensorium.core.task import Task
from sensorium.metrics.weighting import ratio
from sensorium.signal.geometry import identity, resample

IGNORED = 255
MOST = 64_000_000


@component
class Mask(Modality):
    """A mask: an image of class numbers (palette or grey, PNG), or an array ``[H, W]`` of them.

    Encoded as ``[size, size]`` uint8, class indices, stretched; prepared as ``[B, h, w]``, aligned with its image,
    255 where there is no mask.

    Args:
        size: Side of the stored mask in pixels.
    """

    media = True
    lies_on = ("image",)
    task = "outline"
    widget = "file:image/*"

    def __init__(self, *, size: int = 128) -> None:
        super().__init__()
        self.size = size

    @classmethod
    def sniff(cls, cells: Sequence[Any], name: str) -> Guess:
        return Guess(0.0, "a mask looks like a picture: say so")

    def fit(self, cells: Iterable[Any]) -> None:
        seen: set[int] = set()
        for cell in cells:
            try:
                seen |= set(np.unique(_numbers(cell)).tolist())
            except CellError:
                continue  # ``encode`` reports it
        self.state = {"values": sorted(seen)[:IGNORED]}

    @property
    def layout(self) -> Layout:
        return Grid(len(self.state["values"]), (self.size, self.size))

    def extent(self, cell: Any) -> Array:
        height, width = _numbers(cell).shape
        return np.array([width, height], np.float32)

    def framing(self, extent: Array) -> Array:
        computed = np.zeros((len(extent), 2, 3), np.float32)
        computed[:, 0, 0], computed[:, 1, 1] = self.size / extent[:, 0], self.size / extent[:, 1]
        return computed

    def encode(self, cell: Any) -> Array:
        numbers = _numbers(cell)
        codes = np.full(256, IGNORED, np.uint8)
        codes[self.state["values"]] = np.arange(len(self.state["values"]))
        picture = Image.fromarray(codes[numbers])
        return np.array(picture.resize((self.size, self.size), Image.Resampling.NEAREST))

    def decode(self, value: Array) -> Attachment:
        return Attachment(self.numbers(np.asarray(value)), "mask", note="true mask")

    def numbers(self, codes: Array) -> Array:
        """Convert class indices ``codes`` to the numbers used in the table's masks."""
        known = np.zeros(256, np.uint8)
        known[: len(self.state["values"])] = self.state["values"]
        return known[np.asarray(codes).astype(np.uint8)]

    def blank(self) -> Array:
        return np.full((self.size, self.size), IGNORED, np.uint8)

    def prepare_target(self, field: Field, on: Field | None = None) -> Field:
        if on is None or on.frame is None or field.frame is None:
            return field
        size = (on.data.shape[2], on.data.shape[3])
        data = resample(field.data[:, None], field.frame, on.frame, size, fill=IGNORED)[:, 0]
        return replace(field, data=data, frame=on.frame, extent=on.extent)


def _numbers(cell: Any) -> Array:
    """Return the numbers of a mask ``[H, W]`` uint8."""
    if isinstance(cell, np.ndarray):
        if cell.ndim != 2 or cell.dtype.kind not in "bui" or cell.size > MOST:
            raise CellError(f"an array {cell.dtype}{list(cell.shape)} is no mask", fix="give whole numbers [H, W]")
        return cell.astype(np.uint8)
    if not isinstance(cell, Blob):
        raise CellError(f"a {type(cell).__name__} is no mask")
    try:
        with Image.open(io.BytesIO(cell.data)) as picture:
            if picture.width * picture.height > MOST:
                raise CellError(f"a mask of {picture.width} x {picture.height} pixels is too large", file=cell.name)
            return np.array(picture if picture.mode in ("P", "L") else picture.convert("L"), np.uint8)
    except (OSError, SyntaxError, ValueError) as error:
        raise CellError("is no picture that can be read", file=cell.name) from error


@component
class Outline(Task[Tensor]):
    """The class of each pixel of an image, from the feature maps of its encoder and the fused vector of the row.

    Output: logits ``[B, K, h, w]`` on the prepared image. Target: class indices ``[B, h, w]``, 255 is ignored. The
    fused vector scales and shifts the features (FiLM), so that texts or sounds may influence the mask.
    Source: top-down sums of feature maps, Lin et al. 2017, https://arxiv.org/abs/1612.03144; FiLM, Perez et al. 2018,
    https://arxiv.org/abs/1709.07871.

    Args:
        hidden: Channels of the maps that are summed.
    """

    predicts: ClassVar[tuple[str, ...]] = ("outline",)
    headline: ClassVar[str] = "mean_iou"
    baseline_name: ClassVar[str] = "always answering the commonest class of the training rows"
    mergeable: ClassVar[bool] = False

    def __init__(self, goal: Goal, dim: int, *, hidden: int = 16) -> None:
        super().__init__(goal, dim)
        (target,) = goal.targets
        if target not in goal.lies_on:
            raise ConfigError(f"outline: {target!r} lies on no picture", fix=f"columns.{target}.on=photo")
        self.on = goal.lies_on[target]
        grid = goal.streams[self.on]
        assert isinstance(grid, Grid)
        self.size, self.reader = grid.size, goal.modality
        self.classes = [str(value) for value in goal.modality.state["values"]]
        self.lateral = nn.ModuleList(nn.Conv2d(level.channels, hidden, 1) for level in goal.levels[self.on])
        self.steer = nn.Linear(dim, 2 * hidden)
        self.mix = nn.Conv2d(hidden, hidden, 3, padding=1)
        self.last = nn.Conv2d(hidden, len(self.classes), 1)

    @property
    def pyramids(self) -> tuple[str, ...]:
        return (self.on,)

    def fit(self, targets: Iterable[Field]) -> None:
        """Initialise the biases with the class frequencies of the training masks."""
        with torch.no_grad():
            self.last.bias.copy_(self._shares(targets).log())

    def _shares(self, targets: Iterable[Field]) -> Tensor:
        count = torch.ones(len(self.classes))
        for part in targets:
            pixels = part.data[part.present].long()
            count += torch.bincount(pixels[pixels < len(count)].cpu(), minlength=len(count))
        return count / count.sum()

    def forward(self, fused: Encoded, streams: Mapping[str, Encoded], prompts: Mapping[str, Field]) -> Tensor:
        maps = [f(level) for f, level in zip(self.lateral, streams[self.on].pyramid, strict=True)]
        result = maps[-1]
        for finer in reversed(maps[:-1]):
            result = finer + F.interpolate(result, finer.shape[2:], mode="nearest")
        scale, shift = self.steer(fused.pooled)[:, :, None, None].chunk(2, dim=1)
        result = self.mix((result * (1 + scale) + shift).relu()).relu()
        logits: Tensor = F.interpolate(self.last(result), self.size, mode="bilinear", align_corners=False)
        return logits

    def loss(self, output: Tensor, target: Field) -> Tensor:
        wanted = torch.where(target.data < len(self.classes), target.data.long(), IGNORED)
        each = F.cross_entropy(output, wanted, ignore_index=IGNORED, reduction="none")
        return each.sum(dim=(1, 2)) / (wanted != IGNORED).sum(dim=(1, 2)).clamp(min=1)

    def answers(self, output: Tensor, batch: Batch) -> list[Answer]:
        chances, codes = output.detach().float().softmax(dim=1).max(dim=1)
        field = batch.inputs.get(self.on)
        results: list[Answer] = []
        for i, code in enumerate(codes):
            numbers = code[None, None].to(torch.uint8)
            if field is not None and field.frame is not None and field.extent is not None and bool(field.present[i]):
                # Back to the pixels of the user's image; parts outside the encoder's crop get the most frequent class.
                wide, high = (int(n) for n in field.extent[i].tolist())
                frame, most = field.frame[i : i + 1], int(code.flatten().mode().values)
                numbers = resample(numbers, frame, identity(1, 2, frame), (high, wide), fill=most)
            mask = self.reader.numbers(numbers[0, 0].cpu().numpy())  # type: ignore[attr-defined]
            results.append({"value": Attachment(mask, "mask", note="mask"), "confidence": float(chances[i].mean())})
        return results

    def scorer(self) -> Scorer[Tensor]:
        return Overlaps(self)

    def explained(self, output: Tensor, of: Tensor) -> Tensor:
        """Return the mean probability of the classes predicted in ``of``."""
        index = of.argmax(dim=1, keepdim=True).expand(output.shape[0], -1, -1, -1)
        return output.float().softmax(dim=1).gather(1, index).mean(dim=(1, 2, 3))

    def question(self, of: Tensor) -> list[str]:
        return ["mean probability of the mask"] * of.shape[0]

    def views(self, scorer: Scorer[Tensor]) -> list[View]:
        if not isinstance(scorer, Overlaps) or scorer.rows == 0:
            return []
        iou = scorer.iou(scorer.ones())[0].tolist()
        pixels = scorer.kept["counts"][:, :, 2].sum(dim=0).tolist()
        rows = [
            {"class": name, "pixels": int(count), "IoU": value}
            for name, count, value in zip(self.classes, pixels, iou, strict=True)
        ]
        return [Table("per_class", "Each class", "Intersection over union of all rows together.", rows=rows)]

    def baseline(self, targets: Iterable[Field]) -> list[float]:
        results: list[float] = self._shares(targets).log().tolist()
        return results

    def constant(self, baseline: Sequence[float], rows: int) -> Tensor:
        return torch.tensor(baseline)[None, :, None, None].expand(rows, -1, *self.size)


class Overlaps(Scorer[Tensor]):
    """Keep per row and class the numbers of correct, predicted and true pixels ``[rows, K, 3]``, and no masks."""

    def __init__(self, task: Outline) -> None:
        super().__init__()
        self._target, self._classes = task.target, len(task.classes)

    def keep(self, output: Tensor, batch: Batch) -> Kept:
        target = self._target(batch)
        if target is None:
            return {"counts": torch.zeros(0, self._classes, 3)}
        true = target.data.long()
        predicted, known = output.argmax(dim=1), true < self._classes
        counts = [
            torch.stack([(predicted == k) & (true == k), (predicted == k) & known, true == k], dim=1).sum(dim=(2, 3))
            for k in range(self._classes)
        ]
        return {"counts": torch.stack(counts, dim=1)[target.present].float().cpu()}

    def iou(self, weights: Tensor) -> Tensor:
        """Return the IoU by class ``[R, K]``; NaN where a class is neither true nor predicted."""
        both, predicted, true = torch.einsum("rn,nkc->crk", weights, self.kept["counts"].double())
        return ratio(both, predicted + true - both)

    def compute(self, weights: Tensor | None = None, names: Collection[str] | None = None) -> dict[str, Tensor]:
        weights = self.ones() if weights is None else weights
        if self.rows == 0:
            every = dict.fromkeys(("mean_iou", "pixel_accuracy"), weights.new_full((len(weights),), torch.nan))
        else:
            counts = torch.einsum("rn,nkc->rc", weights, self.kept["counts"].double())
            every = {"mean_iou": self.iou(weights).nanmean(dim=1), "pixel_accuracy": ratio(counts[:, 0], counts[:, 2])}
        return {name: value for name, value in every.items() if names is None or name in names}
