"""Segmentation: the class of each pixel of an image."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, ClassVar, cast

import torch
from torch import Tensor, nn

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
from sensorium.heads.place_maps import place_maps
from sensorium.heads.position_prior import position_prior, prior_side
from sensorium.heads.segmentation import MaskReader, counted_pixels, in_user_pixels, resized, segmentation_loss
from sensorium.heads.segmentation_views import ExampleScorer, class_codes, in_grey, overlaid, segmentation_views
from sensorium.metrics.segmentation import OverlapScorer
from sensorium.nn.dense_decoder import DenseDecoder
from sensorium.signal.regions import connected_regions

REGIONS = 20
"""Maximum number of regions of an answer that can be explained one by one."""


@component
class Segmentation(Task[Tensor]):
    """The class of each pixel of an image, from the feature maps of its encoder and the fused vector of the row.

    The maps are decoded from coarse to fine; the fused vector scales and shifts them at every scale, so that words, sounds
    or table cells may say which thing is meant. The mean mask of the training rows is where learning starts, and the answer
    where a row has no image. Output: logits ``[B, K, h, w]`` at the scale of the finest feature map.
    Source: U-Net, https://arxiv.org/abs/1505.04597; FiLM, https://arxiv.org/abs/1709.07871; cross-entropy with soft Dice
    loss, https://arxiv.org/abs/1809.10486.

    Args:
        hidden: Channels of the decoder at the finest scale; coarser scales have twice as many, if their map does.
        dice: Weight of the Dice loss, which counts every class of an image equally, relative to the cross-entropy, which
            counts every pixel equally.
        dropout: Share of feature maps dropped at the coarsest scale in training.
        focus: The class whose pixels an explanation is about; None: all but the background.
        overlay: Whether an answer also has the image with the classes drawn over it, at the size at which it was read.
    """

    predicts: ClassVar[tuple[str, ...]] = ("mask",)
    reads_as: ClassVar[str | None] = "mask"
    headline: ClassVar[str] = "mean_iou"
    baseline_name: ClassVar[str] = "always answering the mean mask of the training rows"
    mergeable: ClassVar[bool] = False
    fine: ClassVar[bool] = True

    def __init__(
        self,
        goal: Goal,
        dim: int,
        *,
        hidden: int = 32,
        dice: float = 1.0,
        dropout: float = 0.1,
        focus: str | None = None,
        overlay: bool = False,
    ) -> None:
        super().__init__(goal, dim)
        (target,) = goal.targets
        if target not in goal.lies_on:
            raise ConfigError("a mask lies on an image, and there is none", column=target, fix=f"columns.{target}.on=photo")
        if hidden < 1 or dice < 0:
            raise ConfigError(f"segmentation: hidden {hidden} is at least 1 and dice {dice} at least 0")
        self.on = goal.lies_on[target]
        grid = goal.streams[self.on]
        if not isinstance(grid, Grid) or len(grid.size) != 2:
            raise ConfigError(f"a mask lies on an image, and {self.on!r} is {grid}", column=target)
        self.size = (grid.size[0], grid.size[1])
        self.dice, self.overlay = dice, overlay
        self.reader = cast(MaskReader, goal.modality)
        self.classes = self.reader.classes
        if focus is not None and focus not in self.classes:
            known = f"{nearest(focus, self.classes)}; there are: {listed(self.classes)}"
            raise ConfigError(f"segmentation: no class named {focus!r}{known}", column=target)
        self.focus = focus
        levels = goal.levels.get(self.on, ())
        self.has_levels = bool(levels)
        self.decoder = DenseDecoder([level.channels for level in levels] or [dim], dim, hidden, dropout)
        self.last = nn.Conv2d(self.decoder.widths[0], len(self.classes), 1)
        nn.init.normal_(self.last.weight, std=0.01)  # close to the mean mask
        nn.init.zeros_(self.last.bias)  # type: ignore[arg-type]
        side = prior_side(len(self.classes))
        self.prior: Tensor
        self.register_buffer("prior", torch.zeros(len(self.classes), side, side))

    @property
    def pyramids(self) -> tuple[str, ...]:
        # An encoder without feature maps may have tokens on a grid.
        return (self.on,) if self.has_levels else ()

    def fit(self, targets: Iterable[Field]) -> None:
        """Take the mean mask of ``targets`` for a start."""
        self.prior.copy_(position_prior(targets, len(self.classes)))

    def forward(self, fused: Encoded, streams: Mapping[str, Encoded], prompts: Mapping[str, Field]) -> Tensor:
        part = streams[self.on]
        maps = place_maps(part, self.has_levels, self.goal.name, self.on)
        size = (maps[0].shape[2], maps[0].shape[3])
        prior = resized(self.prior[None], size)
        logits = self.last(self.decoder(maps, fused.pooled)) + prior
        return torch.where(part.present[:, None, None, None], logits, prior)

    def loss(self, output: Tensor, target: Field) -> Tensor:
        # At the scale of the image: a finer mask is for scores, and would cost four times as much.
        high, wide = (max(1, mask // image) for mask, image in zip(target.data.shape[1:], self.size, strict=True))
        return segmentation_loss(output, target.data[:, high // 2 :: high, wide // 2 :: wide], self.dice)

    def scorer(self) -> Scorer[Tensor]:
        def compare(output: Tensor, target: Field) -> Tensor:
            return counted_pixels(output, target.data)

        return ExampleScorer(self, compare, self.classes, self.reader.background, self.on)

    def answers(self, output: Tensor, batch: Batch) -> list[Answer]:
        field = batch.inputs.get(self.on)
        outside = int(self.prior.exp().mean(dim=(1, 2)).argmax())
        answers: list[Answer] = []
        for i, logits in enumerate(output):
            if field is not None and field.frame is not None and field.extent is not None and bool(field.present[i]):
                codes, confidence = in_user_pixels(logits, self.size, field, i, outside)
            else:
                chances, which = resized(logits[None].detach().float(), self.size)[0].softmax(dim=0).max(dim=0)
                codes, confidence = which.to(torch.uint8).cpu(), float(chances.mean())
            shares = torch.bincount(codes.flatten(), minlength=len(self.classes)) / codes.numel()
            answer: Answer = {
                "value": self.reader.picture(codes.numpy()),
                "confidence": confidence,
                "areas": dict(zip(self.classes, shares.tolist(), strict=True)),
            }
            if self.overlay and field is not None and bool(field.present[i]):
                drawn = overlaid(in_grey(field.data[i]), class_codes(logits, self.size), self.reader.background)
                answer["overlay"] = Attachment(drawn, "image", note="overlay")
            answers.append(answer)
        return answers

    @property
    def drawn_on(self) -> str:
        return self.on

    @property
    def place_names(self) -> Mapping[str, tuple[str, ...]]:
        background = self.reader.background
        return {name: () for i, name in enumerate(self.classes) if i != background}

    def places(self, answer: Answer, size: tuple[int, int]) -> list[Place]:
        codes = self.reader.codes_of(answer["value"].data)
        shown = [i for i in range(len(self.classes)) if i != self.reader.background]
        regions = {self.classes[i]: codes == i for i in shown}
        return [Place(name, answer["confidence"], region=region) for name, region in regions.items() if region.any()]

    def explained(self, output: Tensor, of: Tensor) -> Tensor:
        """Return the mean probability that ``output`` gives the classes answered in ``of``, over the pixels in focus."""
        answered = of.nan_to_num(0.0).argmax(dim=1).expand(output.shape[0], -1, -1)
        chances = output.float().softmax(dim=1).gather(1, answered[:, None])[:, 0]
        weight = (self._in_focus(answered) & ~of.isnan().any(dim=1)).to(chances)
        # Where nothing of it is answered, the whole mask is in focus.
        weight = torch.where(weight.sum(dim=(1, 2), keepdim=True) > 0, weight, torch.ones_like(weight))
        return (chances * weight).sum(dim=(1, 2)) / weight.sum(dim=(1, 2))

    def _in_focus(self, answered: Tensor) -> Tensor:
        if self.focus is not None:
            return answered == self.classes.index(self.focus)
        background = self.reader.background
        return torch.ones_like(answered, dtype=torch.bool) if background is None else answered != background

    def _regions(self, of: Tensor) -> list[tuple[int, Any]]:
        """The class and the cells of each answered region of the first row, the largest first."""
        regions = connected_regions(of[0].argmax(dim=0).cpu().numpy(), self.reader.background, REGIONS)
        return [region for region in regions if self.focus in (None, self.classes[region[0]])]

    def subjects(self, of: Tensor) -> list[str]:
        words = []
        for code, cells in self._regions(of):
            y, x = ((float(at.mean()) + 0.5) / side for at, side in zip(cells.nonzero(), cells.shape, strict=True))
            middle = f"around {x:.0%} from the left and {y:.0%} from the top"
            words.append(f"{self.classes[code]} {middle}, {cells.mean():.1%} of the image")
        return words

    def about(self, of: Tensor, number: int) -> Tensor:
        # What is outside the region is unknown to the explanation.
        _, cells = self._regions(of)[number - 1]
        return of.masked_fill(~torch.from_numpy(cells).to(of.device), torch.nan)

    def question(self, of: Tensor) -> list[str]:
        what = "the mask" if self.focus is None else self.focus
        if bool(of.isnan().any()):
            what = "the chosen region"
        of = of.nan_to_num(0.0)
        in_focus = self._in_focus(of.argmax(dim=1)).flatten(1).any(dim=1).tolist()
        return [f"mean probability of {what}" if some else "mean probability of the whole mask" for some in in_focus]

    def views(self, scorer: Scorer[Tensor]) -> list[View]:
        return segmentation_views(scorer) if isinstance(scorer, OverlapScorer) and scorer.rows else []

    def baseline(self, targets: Iterable[Field]) -> Any:
        prior: list[Any] = position_prior(targets, len(self.classes)).mul(1e4).round().div(1e4).tolist()
        return prior

    def constant(self, baseline: Any, rows: int) -> Tensor:
        return torch.tensor(baseline)[None].expand(rows, -1, -1, -1)
