"""A custom task without a target: matching two streams of a row. The whole plug-in is this file."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sensorium.core.answer import Answer
from sensorium.core.batch import Batch, Encoded, Field, Tensors
from sensorium.core.errors import ConfigError, nearest
from sensorium.core.goal import Goal
from sensorium.core.registry import component
from sensorium.core.report_views import Bars, View
from sensorium.core.scorer import Kept, Scorer
from sensorium.core.task import Task
from sensorium.metrics.weighting import mean


@dataclass(frozen=True)
class Sides(Tensors):
    """Both sides of each row in the common space ``[B, E]``, normalised; the rows with both; the inverse temperature."""

    one: Tensor
    other: Tensor
    both: Tensor
    scale: Tensor


@component
class Match(Task[Sides]):
    """Map two streams of a row into one space, so that each can be retrieved by the other among all rows.

    No target: the rows themselves are the supervision, and a row without both sides contributes nothing. The loss of a row
    is the cross-entropy of identifying its other side in the batch, in both directions. Scores are over the whole set: the
    rank of a row's other side among all. Source: Radford et al. 2021, https://arxiv.org/abs/2103.00020, section 2.3.

    Args:
        between: The two streams; by default the first two.
        width: Width of the common space.
        temperature: Softmax temperature; lower values are stricter.
    """

    predicts: ClassVar[tuple[str, ...]] = ()
    headline: ClassVar[str] = "recall_at_1"
    mergeable: ClassVar[bool] = False
    per_row: ClassVar[bool] = False

    def __init__(
        self, goal: Goal, dim: int, *, between: list[str] | None = None, width: int = 32, temperature: float = 0.1
    ) -> None:
        super().__init__(goal, dim)
        sides = list(goal.streams)[:2] if between is None else between
        for side in sides:
            if side not in goal.streams:
                raise ConfigError(f"match: no stream named {side!r}{nearest(side, list(goal.streams))}")
        if len(sides) != 2:
            raise ConfigError(f"match: {len(sides)} streams where two are wanted", fix="between: [photo, note]")
        self.between = (sides[0], sides[1])
        self.project = nn.ModuleList(nn.Linear(dim, width) for _ in self.between)
        self.scale = nn.Parameter(torch.tensor(1 / temperature).log())

    def forward(self, fused: Encoded, streams: Mapping[str, Encoded], prompts: Mapping[str, Field]) -> Sides:
        parts = [streams[name] for name in self.between]
        one, other = (F.normalize(f(p.pooled).float(), dim=1) for f, p in zip(self.project, parts, strict=True))
        return Sides(one, other, parts[0].present & parts[1].present, self.scale.exp().expand(len(one)))

    def loss(self, output: Sides, target: Field) -> Tensor:
        logits = output.one @ output.other.T * output.scale[:, None].clamp(max=100)
        # A row without both sides is a candidate only for itself: its loss is finite, and is multiplied by zero.
        own = torch.eye(len(logits), dtype=torch.bool, device=logits.device)
        logits = logits.masked_fill(~output.both[None, :] & ~own, -1e4)
        back = (output.one @ output.other.T * output.scale[:, None].clamp(max=100)).T
        back = back.masked_fill(~output.both[None, :] & ~own, -1e4)
        index = torch.arange(len(logits), device=logits.device)
        each = F.cross_entropy(logits, index, reduction="none") + F.cross_entropy(back, index, reduction="none")
        return each / 2 * output.both

    def answers(self, output: Sides, batch: Batch) -> list[Answer]:
        likeness = (output.one * output.other).sum(dim=1).tolist()
        return [
            {"value": like if both else None, "vectors": dict(zip(self.between, (one, other), strict=True))}
            for like, both, one, other in zip(
                likeness, output.both.tolist(), output.one.tolist(), output.other.tolist(), strict=True
            )
        ]

    def scorer(self) -> Scorer[Sides]:
        return Ranks()

    def explained(self, output: Sides, of: Sides) -> Tensor:
        """Return the similarity of the two sides; 0 where one is missing."""
        return (output.one * output.other).sum(dim=1) * output.both

    def question(self, of: Sides) -> list[str]:
        return [f"likeness of {' and '.join(self.between)}"] * len(of.one)

    def views(self, scorer: Scorer[Sides]) -> list[View]:
        recall = scorer.compute(names=["recall_at_1", "recall_at_5"])
        chance = 1 / max(scorer.rows, 1)
        bars = [(name.replace("_", " "), float(values[0])) for name, values in recall.items()]
        bars.append(("recall at 1 by chance", chance))
        return [Bars("recall", "How often the other side is found", "Among all rows that have both sides.", values=bars)]


class Ranks(Scorer[Sides]):
    """Keep both sides of complete rows; score the rank of each row's other side among all."""

    def keep(self, output: Sides, batch: Batch) -> Kept:
        rows = output.both & (batch.weight > 0)
        return {"one": output.one[rows].detach().cpu(), "other": output.other[rows].detach().cpu()}

    def ranks(self) -> Tensor:
        """Return the rank of each row's other side ``[rows]``: the number of rows more similar to its first side."""
        one, other = self.kept["one"], self.kept["other"]
        own = (one * other).sum(dim=1)
        parts = [
            (a @ other.T > mine[:, None] + 1e-6).sum(dim=1) for a, mine in zip(one.split(512), own.split(512), strict=True)
        ]
        return torch.cat(parts) if parts else torch.zeros(0, dtype=torch.long)

    def compute(self, weights: Tensor | None = None, names: Collection[str] | None = None) -> dict[str, Tensor]:
        weights = self.ones() if weights is None else weights
        ranks = self.ranks() if self.rows else torch.zeros(0)
        every = {"recall_at_1": ranks < 1, "recall_at_5": ranks < 5, "mean_reciprocal_rank": 1 / (1 + ranks.double())}
        return {name: mean(value, weights) for name, value in every.items() if names is None or name in names}
