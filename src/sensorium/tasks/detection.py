"""Detection: where the things on an image are, and what they are."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, ClassVar, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sensorium.core.answer import Answer, Attachment
from sensorium.core.batch import Batch, Encoded, Field
from sensorium.core.errors import ConfigError, listed, nearest
from sensorium.core.goal import Goal
from sensorium.core.layout import Grid
from sensorium.core.places import Place
from sensorium.core.registry import component
from sensorium.core.report_views import View
from sensorium.core.scorer import Scorer
from sensorium.core.task import Task
from sensorium.heads.box_prior import SIDE, USUAL, box_prior
from sensorium.heads.box_targets import box_targets, corners_of, focal_loss, side_loss
from sensorium.heads.detection import BoxWriter, image_size, in_user_pixels, peak_boxes, peaks_of, true_boxes
from sensorium.heads.detection_views import ShownScorer, certainty, detection_views, with_boxes
from sensorium.heads.place_maps import place_maps
from sensorium.heads.segmentation_views import in_grey
from sensorium.metrics.detection import BoxSet, DetectionScorer
from sensorium.nn.dense_decoder import DenseDecoder

Maps = dict[str, Tensor]
RARE = -2.2
"""Log-odds of a centre with which every cell begins."""
FAR = 4.0
"""Largest logarithm of the distance to a side over its mean."""


@component
class Detection(Task[Maps]):
    """The things on an image: a box, a class and a score for each.

    The feature maps of the image's encoder are decoded from coarse to fine; the fused vector of the row scales and shifts
    the features at every scale, so that words, sounds or table cells may say which things are meant. Every cell of the
    finest map answers whether the centre of a thing of each class lies in it, and how far the sides of its box are. Where a
    row has no image, the mean boxes of the training rows are the answer. Output: ``heat``, log-odds ``[B, K, h, w]``, and
    ``sides``, distances in pixels of the prepared image ``[B, 4, h, w]``.
    Source: TTFNet, https://arxiv.org/abs/1909.00700; CenterNet, https://arxiv.org/abs/1904.07850; FiLM,
    https://arxiv.org/abs/1709.07871.

    Args:
        hidden: Channels of the decoder at the finest scale; coarser scales have twice as many, if their map does.
        sides: Weight of the loss of the boxes' sides relative to that of their centres.
        dropout: Share of feature maps dropped at the coarsest scale in training.
        threshold: Boxes with a lower score are not answered; scores count them all the same.
        overlap: Of two boxes of one class that overlap by more than this (IoU), the less confident one is dropped.
        focus: The class whose most confident box is explained; None: the most confident box of all.
        overlay: Whether an answer also has the image with the boxes drawn on it, at the size at which it was read.
    """

    predicts: ClassVar[tuple[str, ...]] = ("boxes",)
    reads_as: ClassVar[str | None] = "boxes"
    # Blood cells at 240 pixels: the platelets would be 7 pixels wide at 128.
    base_defaults: ClassVar[Mapping[str, Mapping[str, Any]]] = {"image": {"limit": 240}}
    headline: ClassVar[str] = "map"
    baseline_name: ClassVar[str] = "always answering the mean boxes of the training rows"
    mergeable: ClassVar[bool] = False
    fine: ClassVar[bool] = True

    def __init__(
        self,
        goal: Goal,
        dim: int,
        *,
        hidden: int = 32,
        sides: float = 5.0,
        dropout: float = 0.1,
        threshold: float = 0.4,
        overlap: float = 0.6,
        focus: str | None = None,
        overlay: bool = False,
    ) -> None:
        super().__init__(goal, dim)
        (target,) = goal.targets
        if target not in goal.lies_on:
            raise ConfigError("boxes lie on an image, and there is none", column=target, fix=f"columns.{target}.on=photo")
        if hidden < 1 or sides < 0 or not (0 <= threshold <= 1 and 0 < overlap <= 1):
            problem = f"detection: hidden {hidden} is at least 1, sides {sides} at least 0, and threshold {threshold} and"
            raise ConfigError(f"{problem} overlap {overlap} from 0 to 1")
        self.on = goal.lies_on[target]
        grid = goal.streams[self.on]
        if not isinstance(grid, Grid) or len(grid.size) != 2:
            raise ConfigError(f"boxes lie on an image, and {self.on!r} is {grid}", column=target)
        self.size = (grid.size[0], grid.size[1])
        self.side_weight, self.threshold, self.overlap, self.overlay = sides, threshold, overlap, overlay
        self.reader = cast(BoxWriter, goal.modality)
        self.classes = goal.modality.classes
        if focus is not None and focus not in self.classes:
            known = f"{nearest(focus, self.classes)}; there are: {listed(self.classes)}"
            raise ConfigError(f"detection: no class named {focus!r}{known}", column=target)
        self.focus = None if focus is None else self.classes.index(focus)
        levels = goal.levels.get(self.on, ())
        self.has_levels = bool(levels)
        self.decoder = DenseDecoder([level.channels for level in levels] or [dim], dim, hidden, dropout)
        width = self.decoder.widths[0]
        self.heads = nn.ModuleList(
            nn.Sequential(nn.Conv2d(width, width, 3, padding=1), nn.ReLU(), nn.Conv2d(width, count, 1))
            for count in (len(self.classes), 4)
        )
        for head, start in zip(self.heads, (RARE, 0.0), strict=True):
            nn.init.normal_(head[-1].weight, std=0.01)  # type: ignore[index]
            nn.init.constant_(head[-1].bias, start)  # type: ignore[index]
        self.prior_heat: Tensor
        self.prior_sides: Tensor
        self.boxes_per_row: Tensor
        self.register_buffer("prior_heat", torch.full((len(self.classes), SIDE, SIDE), RARE))
        self.register_buffer("prior_sides", torch.full((4, SIDE, SIDE), USUAL / 2))
        self.register_buffer("boxes_per_row", torch.ones(()))

    @property
    def pyramids(self) -> tuple[str, ...]:
        # An encoder without feature maps may have tokens on a grid.
        return (self.on,) if self.has_levels else ()

    def fit(self, targets: Iterable[Field]) -> None:
        """Take the mean boxes of ``targets`` for a start."""
        prior = box_prior(targets, len(self.classes), self.size)
        self.prior_heat.copy_(prior.heat)
        self.prior_sides.copy_(prior.sides)
        self.boxes_per_row.fill_(prior.per_row)

    def forward(self, fused: Encoded, streams: Mapping[str, Encoded], prompts: Mapping[str, Field]) -> Maps:
        part = streams[self.on]
        maps = place_maps(part, self.has_levels, self.goal.name, self.on)
        size = (maps[0].shape[2], maps[0].shape[3])
        prior_heat, prior_sides = (
            F.interpolate(known[None], size, mode="bilinear", align_corners=False)
            for known in (self.prior_heat, self.prior_sides * self._pixels(self.prior_sides))
        )
        features = self.decoder(maps, fused.pooled)
        heat, raw = (head(features) for head in self.heads)
        usual = prior_sides.mean(dim=(2, 3), keepdim=True)
        sides = usual * raw.float().clamp(-FAR, FAR).exp()
        present = part.present[:, None, None, None]
        return {"heat": torch.where(present, heat, prior_heat), "sides": torch.where(present, sides, prior_sides)}

    def _pixels(self, like: Tensor) -> Tensor:
        """What shares of width and height are multiplied by to be pixels of the prepared image, ``[4, 1, 1]``."""
        return like.new_tensor([self.size[1], self.size[0]] * 2)[:, None, None]

    def loss(self, output: Maps, target: Field) -> Tensor:
        rows, count = target.data.shape[:2]
        mask = torch.ones(rows, count, dtype=torch.bool, device=target.data.device) if target.mask is None else target.mask
        real = mask & target.present[:, None]
        size = (output["heat"].shape[2], output["heat"].shape[3])
        true = box_targets(target.data, real, len(self.classes), size, self.size)
        centres = focal_loss(output["heat"], true.heat, true.unknown)
        # Divided by the mean number of boxes of a row, not by the row's own: every box counts alike.
        return (centres + self.side_weight * side_loss(output["sides"], true, self.size)) / self.boxes_per_row

    def scorer(self) -> Scorer[Maps]:
        def find(output: Maps, batch: Batch) -> tuple[list[int], list[BoxSet], list[BoxSet]]:
            target = self.target(batch)
            rows: list[int] = [] if target is None else target.present.nonzero()[:, 0].tolist()
            if target is None or not rows:
                return [], [], []
            detections = peak_boxes(output["heat"][rows], output["sides"][rows], self.size, self.overlap)
            return rows, detections, [true_boxes(target, row) for row in rows]

        return ShownScorer(find, self.classes, self.threshold, self.on, self.size)

    @property
    def answer_columns(self) -> Mapping[str, tuple[str, ...]]:
        return {"confidence": ("confidence",), **{f"count={name}": ("counts", name) for name in self.classes}}

    def answers(self, output: Maps, batch: Batch) -> list[Answer]:
        image = batch.inputs.get(self.on)
        answers: list[Answer] = []
        for row, peaks in enumerate(peak_boxes(output["heat"], output["sides"], self.size, self.overlap)):
            sure = peaks.scores >= self.threshold
            detections = BoxSet(peaks.boxes[sure], peaks.classes[sure], peaks.scores[sure])
            own = in_user_pixels(detections, image, row, self.size)
            answer: Answer = {
                "value": self._listed(own, image_size(image, row, self.size), scores=True),
                "confidence": certainty(own.scores, peaks.scores),
                "counts": {name: int((own.classes == code).sum()) for code, name in enumerate(self.classes)},
            }
            if self.overlay and image is not None and bool(image.present[row]):
                answer["overlay"] = Attachment(with_boxes(in_grey(image.data[row]), detections), "image", note="overlay")
            answers.append(answer)
        return answers

    @property
    def drawn_on(self) -> str:
        return self.on

    @property
    def place_names(self) -> Mapping[str, tuple[str, ...]]:
        return dict.fromkeys(self.classes, ())

    def places(self, answer: Answer, size: tuple[int, int]) -> list[Place]:
        return [
            Place(item["label"], item.get("score"), box=tuple(self.reader.corners(item["box"], size)))  # type: ignore[arg-type]
            for item in answer["value"]
        ]

    def truths(self, batch: Batch) -> list[Any]:
        target, image = self.target(batch), batch.inputs.get(self.on)
        if target is None:
            return [None] * batch.rows
        truths: list[Any] = []
        for row, present in enumerate(target.present.tolist()):
            true = in_user_pixels(true_boxes(target, row), image, row, self.size)
            wanted = BoxSet(*(part[true.scores == 0] for part in true))
            size = image_size(image, row, self.size)
            truths.append(self._listed(wanted, size, scores=False) if present else None)
        return truths

    def _listed(self, detections: BoxSet, size: tuple[float, float], *, scores: bool) -> list[dict[str, Any]]:
        """Boxes as plain data, written as the training boxes were; ``size`` is the width and height of the image."""
        return [
            {
                "box": self.reader.answer(corners, size),
                "label": self.classes[code],
                **({"score": round(score, 4)} if scores else {}),
            }
            for corners, code, score in zip(
                detections.boxes.double().numpy(), detections.classes.tolist(), detections.scores.tolist(), strict=True
            )
        ]

    def _reference_answers(self, of: Maps) -> tuple[Tensor, Tensor]:
        """The class and the place in the map ``[B]`` of the most confident centre in focus."""
        heat = of["heat"].float() if self.focus is None else of["heat"][:, self.focus : self.focus + 1].float()
        best = heat.flatten(1).argmax(dim=1)
        cells = heat.shape[2] * heat.shape[3]
        return best // cells + (self.focus or 0), best % cells

    def explained(self, output: Maps, of: Maps) -> Tensor:
        """Return the score in ``output`` of the most confident box of ``of``."""
        code, place = self._reference_answers(of)
        heat = output["heat"].float().sigmoid().flatten(2)
        rows = len(heat)
        return heat[torch.arange(rows, device=heat.device), code.expand(rows), place.expand(rows)]

    def _listed_peaks(self, of: Maps) -> list[tuple[int, int, float]]:
        """The class, the cell and the score of each answered box of the first row, the most confident first."""
        (boxes, cells), *_ = peaks_of(of["heat"][:1], of["sides"][:1], self.size, self.overlap)
        peaks = zip(boxes.classes.tolist(), cells.tolist(), boxes.scores.tolist(), strict=True)
        return [peak for peak in peaks if peak[2] >= self.threshold and self.focus in (None, peak[0])]

    def subjects(self, of: Maps) -> list[str]:
        peaks = self._listed_peaks(of)
        return [f"{self.question(self.about(of, i))[0]}: {peak[2]:.2f}" for i, peak in enumerate(peaks, 1)]

    def about(self, of: Maps, number: int) -> Maps:
        code, cell, _ = self._listed_peaks(of)[number - 1]
        heat = torch.full_like(of["heat"], -1e4).flatten(2)
        heat[:, code, cell] = of["heat"].flatten(2)[:, code, cell]
        return {**of, "heat": heat.reshape(of["heat"].shape)}

    def question(self, of: Maps) -> list[str]:
        code, place = self._reference_answers(of)
        corners = corners_of(of["sides"].float(), self.size).flatten(2)
        boxes = corners[torch.arange(len(code), device=corners.device), :, place].round().long().tolist()
        return [
            f"score of {self.classes[kind]} from ({box[0]}, {box[1]}) to ({box[2]}, {box[3]})"
            for kind, box in zip(code.tolist(), boxes, strict=True)
        ]

    def views(self, scorer: Scorer[Maps]) -> list[View]:
        return detection_views(scorer) if isinstance(scorer, DetectionScorer) and scorer.rows else []

    def baseline(self, targets: Iterable[Field]) -> Any:
        prior = box_prior(targets, len(self.classes), self.size)
        return {
            "heat": prior.heat.mul(1e4).round().div(1e4).tolist(),
            "sides": prior.sides.mul(1e4).round().div(1e4).tolist(),
        }

    def constant(self, baseline: Any, rows: int) -> Maps:
        sides = torch.tensor(baseline["sides"])
        maps = {"heat": torch.tensor(baseline["heat"]), "sides": sides * self._pixels(sides)}
        return {name: one[None].expand(rows, -1, -1, -1) for name, one in maps.items()}
