"""Pretraining: streams of a row find and rebuild each other, without a target."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from itertools import combinations, permutations
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sensorium.core.answer import Answer
from sensorium.core.batch import Batch, Encoded, Field, Ready, Tensors
from sensorium.core.errors import ConfigError
from sensorium.core.goal import Goal
from sensorium.core.layout import Layout
from sensorium.core.recipe import Spec
from sensorium.core.registry import component
from sensorium.core.report_views import Table, View
from sensorium.core.scorer import Kept, Scorer
from sensorium.core.task import Task
from sensorium.heads.common_space import HEADLINE as RECALL
from sensorium.heads.common_space import RankScorer, Sides, rank_views
from sensorium.metrics.weighting import mean
from sensorium.nn.contrastive_loss import MAX_LOG_SCALE, softmax_loss
from sensorium.nn.stream_aims import aims
from sensorium.nn.stream_decoder import StreamDecoder
from sensorium.nn.streams import vectors

MEAN = "the mean of every number"
"""The baseline: what is rebuilt without reading anything."""


@dataclass(frozen=True)
class Learnt(Tensors):
    """What is made of each row.

    Args:
        sides: Its streams in the common space.
        rebuilt: The summaries of its streams, in units of their deviations ``[B, F]``.
        divergence: Of the drawn code from a standard normal ``[B]``; 0 unless it is drawn.
    """

    sides: Sides
    rebuilt: Tensor
    divergence: Tensor


@component
class Pretraining(Task[Learnt]):
    """Pretraining without a target: the streams of a row find each other among other rows and are rebuilt from each other.

    Two losses, added: a contrast between every two streams (InfoNCE), and the squared error of rebuilding each stream from
    the vectors of the others. What is rebuilt is a summary: an image of 16 × 16 cells, 32 segments of a series, how often
    each word occurs, the cells of a table. A row with one stream only rebuilds that stream from itself, and is a wrong
    candidate for the others. A model with one stream is an autoencoder.

    ``explained`` is the share of what the streams hold that is rebuilt: 1 is everything, 0 no better than the mean.
    ``recall_at_1`` is how often another stream of the same row is found first among all rows. An answer is the row's error
    of rebuilding, which is large for unusual rows. Fit other models from a pretrained one with ``--init``.

    Sources: InfoNCE, van den Oord et al. 2018, https://arxiv.org/abs/1807.03748, between streams as in CLIP,
    https://arxiv.org/abs/2103.00020, § 2.3; rebuilding one modality from another, Ngiam et al. 2011 (Multimodal Deep
    Learning), § 3.2, https://dl.acm.org/doi/10.5555/3104482.3104569; ``variational``, Kingma and Welling 2013,
    https://arxiv.org/abs/1312.6114, equation 10, with the weight of β-VAE.

    Args:
        contrast: Weight of the contrast between streams; 0: none.
        rebuild: Weight of rebuilding; 0: none, and what is rebuilt is measured without teaching the encoders.
        source: What a stream is rebuilt from: ``others`` (where a row has any), its ``own`` vector, or ``all``.
        variational: Weight of the divergence of the code from a standard normal; 0: the code is not drawn at random.
        width: Width of the common space; unless given it is that of ``model.size``: 12, 16, 32 or 64.
        hidden: Width of the code and of the decoders' hidden layers.
        temperature: Initial temperature of the contrast, which is then learned. Lower is stricter.
    """

    predicts: ClassVar[tuple[str, ...]] = ()
    headline: ClassVar[str] = "explained"
    baseline_name: ClassVar[str] = f"always answering {MEAN}"
    mergeable: ClassVar[bool] = False
    per_row: ClassVar[bool] = False

    def __init__(
        self,
        goal: Goal,
        dim: int,
        *,
        contrast: float = 1.0,
        rebuild: float = 1.0,
        source: Literal["others", "own", "all"] = "others",
        variational: float = 0.0,
        width: int = 64,
        hidden: int = 128,
        temperature: float = 0.07,
    ) -> None:
        super().__init__(goal, dim)
        for name, value in (("contrast", contrast), ("rebuild", rebuild), ("variational", variational)):
            if value < 0:
                raise ConfigError(f"pretraining: {name} is {value}", fix="a weight is 0 or more")
        if not 0.01 <= temperature <= 100:
            raise ConfigError(f"pretraining: temperature is {temperature}", fix="0.01 or more; 0.07 is usual")
        self.names = list(goal.streams)
        self.contrast = contrast if len(self.names) > 1 else 0.0
        self.rebuild, self.source, self.variational = rebuild, source, variational
        self.width = width if self.contrast > 0 else 0
        self.decoder = StreamDecoder(goal.streams, dim, hidden, sampled=variational > 0)
        self.project = self.log_scale = None
        if self.contrast > 0:
            self.project = nn.ModuleList(nn.Linear(dim, width) for _ in self.names)
            self.log_scale = nn.Parameter(torch.tensor(-math.log(temperature)))

    @classmethod
    def suggested_objectives(cls, options: Mapping[str, Any], layouts: Mapping[str, Layout]) -> list[Spec]:
        """This loss already uses every stream alone; with one stream only, two views of a row."""
        plain: list[Spec] = [{"kind": "supervised", "subsets": 0.0}]
        return plain if len(layouts) > 1 else [*plain, "simclr"]

    @property
    def prepared_streams(self) -> tuple[str, ...]:
        return tuple(self.names)

    # ── model ──────────────────────────────────────────────────────────────────────────────────────────────────────────

    def fit(self, targets: Iterable[Field]) -> None:
        count = len(self.names)
        self.decoder.fit(part.data[part.present][:, count:] for part in targets)

    def target(self, batch: Batch) -> Field:
        """Which streams each row has, 1 or 0, and their summaries, NaN where unknown ``[B, S + F]``. Present where the row
        has any stream."""
        parts, flags = [], []
        nothing = torch.zeros(batch.rows, dtype=torch.bool, device=batch.weight.device)
        for name, place in zip(self.names, self.decoder.places, strict=True):
            field = batch.inputs.get(name)
            flags.append(nothing if field is None else field.present & (batch.weight > 0))
            if field is None or isinstance(field, Ready):
                parts.append(torch.full((batch.rows, place.stop - place.start), torch.nan, device=batch.weight.device))
            else:
                parts.append(aims(self.goal.streams[name], field).float())
        present = torch.stack(flags, dim=1) if flags else nothing[:, None]
        return Field(torch.cat([present.float(), *parts], dim=1), present.any(dim=1))

    def forward(self, fused: Encoded, streams: Mapping[str, Encoded], prompts: Mapping[str, Field]) -> Learnt:
        pooled, presence = vectors(streams, self.names)
        # Without a loss of its own, rebuilding only reads the vectors and measures what they contain.
        read = pooled if self.rebuild > 0 else pooled.detach()
        rebuilt, divergence = self.decoder(read, presence, self.source)
        return Learnt(self._sides(pooled, presence), rebuilt, divergence)

    def _sides(self, pooled: Tensor, presence: Tensor) -> Sides:
        rows = len(pooled)
        if self.project is None or self.log_scale is None:
            empty = pooled.new_zeros(rows, len(self.names), 0)
            return Sides(empty, presence, pooled.new_ones(rows), pooled.new_zeros(rows))
        each = [F.normalize(f(x).float(), dim=1) for f, x in zip(self.project, pooled.unbind(dim=1), strict=True)]
        scale = self.log_scale.clamp(max=MAX_LOG_SCALE).exp().expand(rows)
        return Sides(torch.stack(each, dim=1) * presence.unsqueeze(2), presence, scale, torch.zeros_like(scale))

    def loss(self, output: Learnt, target: Field) -> Tensor:
        errors, known = self._errors(output, target)
        # The probe's own weight does not matter: nothing else learns from it.
        total = (self.rebuild or 1.0) * errors.sum(dim=1) / known.sum(dim=1).clamp(min=1)
        if self.variational > 0:
            total = total + self.variational * output.divergence
        if self.contrast > 0:
            present = output.sides.present & (target.data[:, : len(self.names)] != 0)
            total = total + self.contrast * self._contrast(output.sides, present)
        return total

    def _errors(self, output: Learnt, target: Field) -> tuple[Tensor, Tensor]:
        errors, known = self.decoder.errors(output.rebuilt, target.data[:, len(self.names) :])
        known = known & target.present.unsqueeze(1)
        return errors * known, known

    def _contrast(self, sides: Sides, present: Tensor) -> Tensor:
        """The mean of InfoNCE over all ordered pairs of streams that a row has ``[B]``."""
        rows = len(present)
        own = torch.eye(rows, dtype=torch.bool, device=present.device)
        total, terms = sides.vectors.new_zeros(rows), sides.vectors.new_zeros(rows)
        for a, b in permutations(range(len(self.names)), 2):
            logits = sides.vectors[:, a] @ sides.vectors[:, b].T * sides.scale[:1]
            candidates = present[:, b].expand(rows, -1)
            counts = present[:, a] & present[:, b]
            total = total + softmax_loss(logits, own, candidates).masked_fill(~counts, 0.0)
            terms = terms + counts
        return total / terms.clamp(min=1)

    @property
    def sides(self) -> Mapping[str, tuple[str, ...]]:
        return {name: (name,) for name in self.names} if self.contrast > 0 else {}

    def side_vectors(self, output: Learnt) -> tuple[Tensor, Tensor]:
        return output.sides.vectors, output.sides.present

    # ── answers and scores ─────────────────────────────────────────────────────────────────────────────────────────────

    def scorer(self) -> Scorer[Learnt]:
        return LearntScorer(self)

    def kept_of(self, output: Learnt, batch: Batch) -> Kept:
        """The squared errors ``[n, S]`` in ``output`` of the rows of ``batch`` that count, and which streams are known
        ``[n, S]``."""
        target = self.target(batch)
        errors, known = self._errors(output, target)
        rows = target.present
        return {"errors": errors[rows].detach().double().cpu(), "known": known[rows].cpu()}

    def flags(self, batch: Batch) -> Field:
        """For a ranking: no code, and 1 for each stream that a row of ``batch`` has ``[B, 1 + S]``."""
        target = self.target(batch)
        flags = target.data[:, : len(self.names)].long()
        return Field(torch.cat([torch.zeros_like(flags[:, :1]), flags], dim=1), target.present)

    def answers(self, output: Learnt, batch: Batch) -> list[Answer]:
        errors, known = self._errors(output, self.target(batch))
        whole = errors.sum(dim=1) / known.sum(dim=1).clamp(min=1)
        answers: list[Answer] = []
        for i, (value, each, present_streams) in enumerate(
            zip(whole.tolist(), errors.tolist(), known.tolist(), strict=True)
        ):
            answer: Answer = {"value": value if any(present_streams) else None}
            answer["errors"] = {name: each[s] for s, name in enumerate(self.names) if present_streams[s]}
            if self.contrast > 0:
                unit, present = output.sides.vectors[i], output.sides.present[i]
                answer["similarities"] = {
                    f"{self.names[a]}, {self.names[b]}": float(unit[a] @ unit[b])
                    for a, b in combinations(range(len(self.names)), 2)
                    if bool(present[a] & present[b])
                }
            answers.append(answer)
        return answers

    def explained(self, output: Learnt, of: Learnt) -> Tensor | None:
        """The mean similarity of the pairs of streams that ``of`` has; None without a common space."""
        if self.contrast == 0:
            return None
        similarity, pairs = output.sides.similarity()
        _, whole = of.sides.similarity()
        return similarity * pairs / whole.clamp(min=1)

    def question(self, of: Learnt) -> list[str]:
        return [f"similarity of {' and '.join(self.names)}"] * len(of.rebuilt)

    def views(self, scorer: Scorer[Learnt]) -> list[View]:
        if not isinstance(scorer, LearntScorer) or not scorer.rows:
            return []
        source = {"others": "the other streams", "own": "its own vector", "all": "all streams"}[self.source]
        rows: list[dict[str, str | int | float]] = [
            {"stream": name, "explained": share, "rows": count}
            for name, share, count in zip(self.names, *scorer.by_stream(), strict=True)
            if count
        ]
        note = f"Each rebuilt from {source}: 1 is everything, 0 no better than {MEAN}."
        shown: list[View] = [Table("rebuilt", "How much of each stream is rebuilt", note, rows=rows, words={})]
        return shown + (rank_views(scorer.ranks, self.names) if scorer.ranks is not None else [])

    def baseline(self, targets: Iterable[Field]) -> str:
        """Nothing is known before a row is read but the means."""
        return MEAN

    def constant(self, baseline: Any, rows: int) -> Learnt:
        device = self.decoder.mean.device
        everything = torch.ones(rows, len(self.names), dtype=torch.bool, device=device)
        vector = torch.zeros(rows, len(self.names), self.width, device=device)
        sides = Sides(vector, everything, torch.ones(rows, device=device), torch.zeros(rows, device=device))
        return Learnt(sides, torch.zeros(rows, self.decoder.size, device=device), torch.zeros(rows, device=device))


class LearntScorer(Scorer[Learnt]):
    """The share of the streams that is rebuilt, and how often streams of a row find each other.

    Args:
        task: The task whose outputs are scored.
    """

    def __init__(self, task: Pretraining) -> None:
        super().__init__()
        self._task = task
        self._ranks: RankScorer | None = RankScorer(task.flags) if task.contrast > 0 else None
        self._stale = False

    @property
    def ranks(self) -> RankScorer | None:
        """The rankings of the rows so far; None without a common space."""
        if self._ranks is not None and self._stale:
            kept = self.kept
            self._ranks.load({name: kept[name] for name in ("vectors", "present", "code")})
            self._stale = False
        return self._ranks

    def keep(self, output: Learnt, batch: Batch) -> Kept:
        own = self._task.kept_of(output, batch)
        if self._ranks is None:
            return own
        ranked = self._ranks.keep(output.sides, batch)
        counted = self._task.target(batch).present
        # A ranking keeps rows with a stream in the output, these are rows with a stream in the batch.
        heard = (output.sides.present & (self._task.flags(batch).data[:, 1:] != 0)).any(dim=1) & (batch.weight > 0)
        rows = int(counted.sum())
        place = heard[counted].cpu()
        return {**own, **{name: _spread(values, place, rows) for name, values in ranked.items()}}

    def update(self, output: Learnt, batch: Batch) -> None:
        super().update(output, batch)
        self._stale = True

    def load(self, kept: Kept) -> None:
        super().load(kept)
        self._stale = bool(kept)

    def by_stream(self) -> tuple[list[float], list[int]]:
        """Of each stream the share that is rebuilt, and in how many rows it was to be."""
        errors, known = self.kept["errors"], self.kept["known"]
        count = known.sum(dim=0)
        share = 1 - errors.sum(dim=0) / count.clamp(min=1)
        return share.tolist(), count.tolist()

    def compute(self, weights: Tensor | None = None, names: Collection[str] | None = None) -> dict[str, Tensor]:
        weights = self.ones() if weights is None else weights
        scores: dict[str, Tensor] = {}
        if names is None or "explained" in names:
            scores["explained"] = self._explained(weights)
        if self._ranks is not None:
            wanted = [name for name in (RECALL, "median_rank") if names is None or name in names]
            ranks = self.ranks if self.rows else self._ranks
            assert ranks is not None
            scores |= ranks.compute(weights, wanted) if wanted else {}
        return scores

    def _explained(self, weights: Tensor) -> Tensor:
        if not self.rows:
            return torch.full((len(weights),), torch.nan, dtype=torch.float64)
        errors, known = self.kept["errors"], self.kept["known"].double()
        counts = known.sum(dim=1)
        scored = counts > 0
        return 1 - mean((errors.sum(dim=1) / counts.clamp(min=1))[scored], weights[:, scored])


def _spread(values: Tensor, place: Tensor, rows: int) -> Tensor:
    """``values`` of some of ``rows`` rows put at the rows where ``place`` is True; zeros elsewhere."""
    whole = values.new_zeros((rows, *values.shape[1:]))
    whole[place] = values
    return whole
