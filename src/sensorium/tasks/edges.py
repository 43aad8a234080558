"""Edge detection: the probability of an edge at each pixel of an image."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sensorium.core.answer import Answer, Attachment
from sensorium.core.batch import Batch, Encoded, Field
from sensorium.core.errors import ConfigError
from sensorium.core.goal import Goal
from sensorium.core.layout import Grid
from sensorium.core.places import Place
from sensorium.core.plurals import counted
from sensorium.core.registry import component
from sensorium.core.report_views import View
from sensorium.core.scorer import Scorer
from sensorium.core.task import Task
from sensorium.heads.edge_views import ANSWERED, ShownEdgeScorer, certainty, edge_views, with_edges
from sensorium.heads.edges import SIDE, Agreement, consensus, edge_loss, in_user_pixels, mean_edges, sized, thin_lines
from sensorium.heads.place_maps import place_maps
from sensorium.heads.segmentation_views import in_grey
from sensorium.metrics.edges import EdgeScorer
from sensorium.nn.dense_decoder import DenseDecoder
from sensorium.signal.edges import gradient_strength
from sensorium.signal.regions import connected_regions

Maps = dict[str, Tensor]
"""``edges``: log-odds of an edge ``[B, h, w]``; ``gradient``: those that the gradient of the image gives. Narrowed to a
part, also ``part``: 1 on its pixels ``[1, h, w]``, and ``place``: x and y as the user names them, NaN for a line."""
LINES = 20
"""Maximum number of lines of an answer that can be explained one by one."""
AROUND = 0.03
"""Radius around a chosen place, as a share of the diagonal of the image."""
FLOOR = "the gradient of the image (Sobel)"


@component
class EdgeDetection(Task[Maps]):
    """The edges of an image, as one or several annotators drew them: a probability at each pixel, thinned to lines.

    The feature maps of the image's encoder are decoded to the full size of the prepared image, where features of its pixels
    are added; the fused vector of the row steers the decoder. The mean edge map of the training rows is where learning
    starts, and the answer where a row has no image. Reports also score the gradient of the image.
    Sources: HED, https://arxiv.org/abs/1504.06375; U-Net, https://arxiv.org/abs/1505.04597; thinning by non-maximum
    suppression, https://doi.org/10.1109/TPAMI.1986.4767851.

    Args:
        annotators: What is learnt where annotators differ: ``majority``: edges that at least half agree on, others being
            unknown; ``soft``: the share of annotators who agree.
        hidden: Channels of the decoder at the size of the image; coarser scales have twice as many.
        balance: Exponent of the ratio of other pixels to edges by which edges weigh more: 0 counts all pixels alike, 1
            edges as much as all others.
        dropout: Share of feature maps dropped at the coarsest scale in training.
        threshold: Minimum probability of the edges in an answer.
        max_distance: Largest distance of an answered edge pixel from the true one that it is matched with, as a share of
            the diagonal of the image.
        thresholds: Number of thresholds at which answers are scored.
        overlay: Whether an answer also has the image with the edges drawn over it, at the size at which it was read.
    """

    predicts: ClassVar[tuple[str, ...]] = ("edges",)
    reads_as: ClassVar[str | None] = "edges"
    headline: ClassVar[str] = "ods"
    baseline_name: ClassVar[str] = "always answering the mean edge map of the training rows"
    mergeable: ClassVar[bool] = False
    fine: ClassVar[bool] = True
    explains_places: ClassVar[bool] = True

    def __init__(
        self,
        goal: Goal,
        dim: int,
        *,
        annotators: Agreement = "majority",
        hidden: int = 16,
        balance: float = 0.5,
        dropout: float = 0.1,
        threshold: float = 0.5,
        max_distance: float = 0.0075,
        thresholds: int = 19,
        overlay: bool = False,
    ) -> None:
        super().__init__(goal, dim)
        (target,) = goal.targets
        if target not in goal.lies_on:
            raise ConfigError("edges lie on an image, and there is none", column=target, fix=f"columns.{target}.on=photo")
        shares = 0 <= balance <= 1 and 0 <= threshold <= 1 and 0 < max_distance < 0.5
        if hidden < 1 or thresholds < 1 or not shares:
            problem = (
                "edges: hidden and thresholds are at least 1, balance and threshold from 0 to 1, max_distance from 0 to"
            )
            raise ConfigError(f"{problem} 0.5")
        self.on = goal.lies_on[target]
        grid = goal.streams[self.on]
        if not isinstance(grid, Grid) or len(grid.size) != 2:
            raise ConfigError(f"edges lie on an image, and {self.on!r} is {grid}", column=target)
        self.size = (grid.size[0], grid.size[1])
        self.agreement, self.balance, self.threshold, self.overlay = annotators, balance, threshold, overlay
        self.max_distance = max_distance
        self.scored_levels = [(i + 1) / (thresholds + 1) for i in range(thresholds)]
        levels = goal.levels.get(self.on, ())
        self.has_levels = bool(levels)
        self.pixels = nn.Sequential(
            nn.Conv2d(grid.channels, hidden, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(hidden, hidden, 3, padding=1),
        )
        channels = [hidden, *([level.channels for level in levels] or [dim])]
        self.decoder = DenseDecoder(channels, dim, hidden, dropout)
        self.last = nn.Conv2d(self.decoder.widths[0], 1, 1)
        nn.init.normal_(self.last.weight, std=0.01)  # close to the mean edge map
        nn.init.zeros_(self.last.bias)  # type: ignore[arg-type]
        self.prior: Tensor
        self.register_buffer("prior", torch.zeros(SIDE, SIDE))

    @property
    def pyramids(self) -> tuple[str, ...]:
        return (self.on,) if self.has_levels else ()

    @property
    def prepared_streams(self) -> tuple[str, ...]:
        return (self.on,)

    def fit(self, targets: Iterable[Field]) -> None:
        """Initialise with the mean edge map of ``targets``."""
        self.prior.copy_(mean_edges(targets, self.agreement))

    def forward(self, fused: Encoded, streams: Mapping[str, Encoded], prompts: Mapping[str, Field]) -> Maps:
        part, field = streams[self.on], prompts.get(self.on)
        rows = len(fused.pooled)
        prior = sized(self.prior[None], self.size)
        if field is None:
            known = prior.expand(rows, -1, -1)
            return {"edges": known, "gradient": torch.zeros_like(known)}
        image = field.data.to(fused.pooled.dtype)
        maps = [self.pixels(image), *place_maps(part, self.has_levels, self.goal.name, self.on)]
        logits = self.last(self.decoder(maps, fused.pooled))[:, 0] + prior
        present = part.present[:, None, None]
        gradient = gradient_strength(field.data.float()) * present
        return {"edges": torch.where(present, logits, prior), "gradient": gradient}

    def loss(self, output: Maps, target: Field) -> Tensor:
        size = (int(target.data.shape[2]), int(target.data.shape[3]))
        wanted, known = consensus(target.data, self.agreement)
        return edge_loss(sized(output["edges"], size), wanted, known, self.balance)

    def scorer(self) -> Scorer[Maps]:
        return ShownEdgeScorer(self.target, self.scored_levels, self.max_distance, self.on)

    def answers(self, output: Maps, batch: Batch) -> list[Answer]:
        field = batch.inputs.get(self.on)
        answers: list[Answer] = []
        for i, logits in enumerate(output["edges"]):
            if field is not None and field.frame is not None and field.extent is not None and bool(field.present[i]):
                lines = in_user_pixels(logits, self.size, field, i, self.threshold)
            else:
                lines = thin_lines(sized(logits[None].detach().float().sigmoid(), self.size), self.threshold)[0]
            answer: Answer = {
                "value": Attachment((255 * lines).round().astype(np.uint8), "image", note="edges"),
                "confidence": certainty(logits),
                "share": float((lines > 0).mean()),
            }
            if self.overlay and field is not None and bool(field.present[i]):
                answer["overlay"] = Attachment(self._drawn(field.data[i], logits), "image", note="overlay")
            answers.append(answer)
        return answers

    @property
    def drawn_on(self) -> str:
        return self.on

    @property
    def place_names(self) -> Mapping[str, tuple[str, ...]]:
        return {"edge": ()}

    def places(self, answer: Answer, size: tuple[int, int]) -> list[Place]:
        return [Place("edge", answer["confidence"], region=answer["value"].data > 0, thin=True)]

    def _drawn(self, image: Tensor, logits: Tensor) -> Any:
        """The prepared ``image`` in grey with the edges of ``logits`` drawn over it ``[h, w, 3]``."""
        grey = in_grey(image)
        strength = sized(logits[None].detach().float().sigmoid(), (grey.shape[0], grey.shape[1]))
        lines = thin_lines(strength, self.threshold)[0]
        return with_edges(grey, (lines > 0).astype(np.float32), ANSWERED)

    def explained(self, output: Maps, of: Maps) -> Tensor:
        """Return the mean probability that ``output`` gives the edges answered in ``of``, or its chosen part."""
        lines = self._lines(of).expand_as(output["edges"])
        chances = output["edges"].float().sigmoid()
        return (chances * lines).sum(dim=(1, 2)) / lines.sum(dim=(1, 2))

    def _lines(self, of: Maps) -> Tensor:
        """1 on the answered edges ``[B, h, w]`` or on the chosen part, else 0; all 1 in rows without any."""
        if "part" in of:
            return of["part"]
        lines = torch.from_numpy(thin_lines(of["edges"].detach().float().sigmoid(), self.threshold) > 0)
        lines = lines.to(of["edges"])
        return torch.where(lines.sum(dim=(1, 2), keepdim=True) > 0, lines, torch.ones_like(lines))

    def _answered_lines(self, of: Maps) -> Any:
        """The strength of the answered edges of the first row ``[h, w]``, 0 elsewhere."""
        return thin_lines(of["edges"][:1].detach().float().sigmoid(), self.threshold)[0]

    def _listed_lines(self, of: Maps) -> list[Any]:
        """The pixels ``[h, w]`` of each connected line of the first row, the longest first."""
        return [cells for _, cells in connected_regions(self._answered_lines(of) > 0, 0, LINES, diagonal=True)]

    def subjects(self, of: Maps) -> list[str]:
        strength = self._answered_lines(of)
        words = []
        for cells in self._listed_lines(of):
            y, x = ((float(at.mean()) + 0.5) / side for at, side in zip(cells.nonzero(), cells.shape, strict=True))
            middle = f"around {x:.0%} from the left and {y:.0%} from the top"
            words.append(f"line of {counted(int(cells.sum()), 'pixel')} {middle}: {strength[cells].mean():.2f}")
        return words

    def about(self, of: Maps, number: int) -> Maps:
        part = torch.from_numpy(self._listed_lines(of)[number - 1]).to(of["edges"])
        return {**of, "part": part[None], "place": part.new_full((2,), torch.nan)}

    def about_place(self, of: Maps, place: tuple[float, float], named: tuple[float, float]) -> Maps:
        lines = self._answered_lines(of) > 0
        high, wide = lines.shape
        y, x = np.mgrid[0:high, 0:wide] + 0.5
        distance = np.hypot(x - place[0], y - place[1])
        near = distance <= max(1.0, AROUND * float(np.hypot(high, wide)))
        # Where no edge is answered, the question is why none is.
        part = lines & near if (lines & near).any() else near
        return {**of, "part": torch.from_numpy(part).to(of["edges"])[None], "place": of["edges"].new_tensor(named)}

    def question(self, of: Maps) -> list[str]:
        if "place" in of:
            x, y = of["place"].tolist()
            where = "the chosen line" if x != x else f"an edge near ({x:g}, {y:g})"
            return [f"mean probability of {where}"] * len(of["edges"])
        has_edges = (self._lines(of) < 1).flatten(1).any(dim=1).tolist()
        return [f"mean probability of {'the edges' if found_edges else 'an edge anywhere'}" for found_edges in has_edges]

    def views(self, scorer: Scorer[Maps]) -> list[View]:
        return edge_views(scorer) if isinstance(scorer, EdgeScorer) and scorer.rows else []

    def reference_outputs(self, output: Maps, batch: Batch) -> dict[str, Maps]:
        strength = output["gradient"].clamp(1e-4, 1 - 1e-4)
        return {FLOOR: {"edges": torch.logit(strength), "gradient": output["gradient"]}}

    def baseline(self, targets: Iterable[Field]) -> Any:
        prior: list[Any] = mean_edges(targets, self.agreement).mul(1e4).round().div(1e4).tolist()
        return prior

    def constant(self, baseline: Any, rows: int) -> Maps:
        known = F.interpolate(torch.tensor(baseline)[None, None], self.size, mode="bilinear", align_corners=False)[0]
        maps = known.expand(rows, -1, -1)
        return {"edges": maps, "gradient": torch.zeros_like(maps)}
