"""Retrieval: streams of a row find each other in a common space."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from itertools import combinations, permutations
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sensorium.core import quoting
from sensorium.core.answer import Answer
from sensorium.core.batch import Batch, Encoded, Field
from sensorium.core.errors import ConfigError, nearest
from sensorium.core.goal import Goal
from sensorium.core.layout import Layout
from sensorium.core.registry import component, kind_of
from sensorium.core.report_views import View
from sensorium.core.scorer import Scorer
from sensorium.core.task import Task
from sensorium.heads.common_space import RankScorer, Sides, rank_views
from sensorium.heads.feature_matching import LINEAR, FeatureMatcher, mixed
from sensorium.nn.contrastive_loss import INITIAL_BIAS, MAX_LOG_SCALE, sigmoid_loss, softmax_loss
from sensorium.nn.present_norm import PresentNorm

NETWORK = "the network alone"
RANDOM = "random order"
"""The baseline: ranking without any information."""


@component
class Retrieval(Task[Sides]):
    """Cross-modal retrieval: maps two or more sides of a row into one space, so that each finds the others among all rows.

    Needs no target: the rows themselves are the supervision (``--task retrieval --between photo,caption``). A side is a
    stream, or several joined by ``+``: ``photo,caption+tags``. All pairs of sides contribute where a row has both, so that
    from pairs of A and B and pairs of B and C, A finds C. A row with one side is a wrong candidate for all others.

    ``same`` names a column by which rows match (``--same product``, ``--same label``): an item is a hit if its row has the
    same value there. With ``matches: positive`` such rows are pulled together, also where neither has both sides; with
    ``neutral`` they are only not pushed apart, as the captions of one picture. Without the column only the row itself is a
    hit. Several captions may also stand in one cell: training reads them in turn, scores and an index the first.

    Scores are means over both directions of every pair: ``recall_at_k``, how often a hit is among the first k of all rows;
    ``median_rank`` of the first hit; ``map``, mean average precision.
    Index and search rows with ``sensorium index`` and ``sensorium search``.

    Sources: ``softmax``, Radford et al. 2021 (CLIP), https://arxiv.org/abs/2103.00020, § 2.3; ``sigmoid``, Zhai et al. 2023
    (SigLIP), https://arxiv.org/abs/2303.15343; several positives, Khosla et al. 2020, https://arxiv.org/abs/2004.11362.

    Args:
        between: The sides: streams, or several joined by ``+``. None: every stream is one.
        dimensions: Width of the common space.
        loss: ``softmax``: which candidate of the batch matches; ``sigmoid``: whether each two match.
        temperature: Initial temperature, which is then learned. Lower is stricter.
        matches: What rows with the same value of the column ``same`` are to each other: ``positive`` or ``neutral``.
        dropout: Dropout rate before the projections.
        linear: A linear map of ready features is fitted beside the network, in seconds. ``blended``: its cosines count in
            answers, with a weight learnt from the validation rows; ``beside``: it is only scored; ``none``: there is none.
    """

    predicts: ClassVar[tuple[str, ...]] = ()
    prompted: ClassVar[Mapping[str, str]] = {"same": "key"}
    # Of several captions in a cell training reads another one each time, as if each were a row of its own.
    input_defaults: ClassVar[Mapping[str, Mapping[str, Any]]] = {"text": {"alternatives": "pick"}}
    headline: ClassVar[str] = "recall_at_1"
    baseline_name: ClassVar[str] = "ranking at random"
    mergeable: ClassVar[bool] = False
    per_row: ClassVar[bool] = False

    def __init__(
        self,
        goal: Goal,
        dim: int,
        *,
        between: list[str] | None = None,
        dimensions: int = 64,
        loss: Literal["softmax", "sigmoid"] = "softmax",
        temperature: float = 0.07,
        matches: Literal["positive", "neutral"] = "positive",
        dropout: float = 0.0,
        linear: Literal["blended", "beside", "none"] = "blended",
    ) -> None:
        super().__init__(goal, dim)
        if not 0.01 <= temperature <= 100:
            raise ConfigError(f"retrieval: temperature is {temperature}", fix="0.01 or more; 0.07 is usual")
        if dimensions < 1:
            raise ConfigError(f"retrieval: dimensions is {dimensions}", fix="1 or more")
        if len(goal.prompts) > 1:
            raise ConfigError(f"task {goal.name!r}: rows match by one column, and {len(goal.prompts)} are named")
        for name, reader in goal.prompts.items():
            if kind_of(reader) not in self.prompted.values():
                problem = f"task {goal.name!r}: rows match by keys, and this column is {kind_of(reader)}"
                raise ConfigError(problem, column=name, fix=quoting.as_kind(name, "key"))
        self.composition = _composition(goal, between)
        self.names = list(self.composition)
        self.sigmoid, self.pulls = loss == "sigmoid", matches == "positive"
        streams = [stream for parts in self.composition.values() for stream in parts]
        self.dropout = nn.Dropout(dropout)
        self.project = nn.ModuleList(nn.Linear(dim, dimensions) for _ in streams)
        # Untrained vectors of different rows are nearly parallel; without their common part they differ from the start.
        self.norms = nn.ModuleList(PresentNorm(dimensions) for _ in streams)
        self.log_scale = nn.Parameter(torch.tensor(-math.log(temperature)))
        self.bias = nn.Parameter(torch.tensor(INITIAL_BIAS)) if self.sigmoid else None
        self.dimensions = dimensions
        self.simple = FeatureMatcher(self.composition, goal.streams) if linear != "none" else None
        self.blended = linear == "blended"

    @classmethod
    def suggested_objectives(
        cls, options: Mapping[str, Any], layouts: Mapping[str, Layout]
    ) -> Sequence[str | Mapping[str, Any]]:
        """The loss of whole rows: a row of which a side is hidden has no pair to learn from."""
        return [{"kind": "supervised", "subsets": 0.0}]

    # ── model ──────────────────────────────────────────────────────────────────────────────────────────────────────────

    def forward(self, fused: Encoded, streams: Mapping[str, Encoded], prompts: Mapping[str, Field]) -> Sides:
        projections = iter(zip(self.project, self.norms, strict=True))
        vectors, present = [], []
        for parts in self.composition.values():
            encoded = [streams[stream] for stream in parts]
            each = []
            for part in encoded:
                project, norm = next(projections)
                each.append(norm(project(self.dropout(part.pooled)), part.present))
            total = torch.stack(each).sum(dim=0)
            vectors.append(F.normalize(total, dim=1))
            present.append(torch.stack([one.present for one in encoded]).any(dim=0))
        rows = len(fused.present)
        scale = self.log_scale.clamp(max=MAX_LOG_SCALE).exp().expand(rows)
        bias = torch.zeros_like(scale) if self.bias is None else self.bias.expand(rows)
        own = torch.stack(vectors, dim=1)
        if not self.training and self.prepared_streams and self.simple is not None:
            own = mixed(own, self.simple.match(prompts)[LINEAR].to(own), self.simple.weight)
        return Sides(own, torch.stack(present, dim=1), scale, bias)

    @property
    def prepared_streams(self) -> tuple[str, ...]:
        """All streams, once the linear map counts in answers."""
        counts = self.blended and self.simple is not None and self.simple.weight > 0
        return tuple(self.simple.streams) if counts and self.simple is not None else ()

    @property
    def differentiable(self) -> bool:  # type: ignore[override]
        """Whether gradients flow through ``explained``: ready features have none."""
        return not self.prepared_streams

    def target(self, batch: Batch) -> Field:
        """For each row its code in the column by which rows match, 0 where it has none, and 1 for each side that it has:
        ``[B, 1 + S]`` int64. Present where the row may have a match: two sides, or one and a code."""
        counts = batch.weight > 0
        # A stream that the batch does not hold is hidden by nobody: a task may be tried without inputs.
        present = [
            torch.stack([batch.inputs[s].present if s in batch.inputs else counts for s in parts]).any(dim=0) & counts
            for parts in self.composition.values()
        ]
        sides = torch.stack(present, dim=1)
        code = torch.zeros(batch.rows, dtype=torch.long, device=batch.weight.device)
        for name in self.goal.prompts:
            if name in batch.prompts:
                code = _codes(batch.prompts[name])
        data = torch.cat([code[:, None], sides.long()], dim=1)
        some = sides.sum(dim=1)
        return Field(data, (some > 1) | ((some > 0) & (code != 0)))

    def loss(self, output: Sides, target: Field) -> Tensor:
        code = target.data[:, 0]
        present = output.present & target.data[:, 1:].bool()
        own = torch.eye(len(code), dtype=torch.bool, device=code.device)
        alike = (code[:, None] == code[None, :]) & (code != 0)[:, None] & ~own
        total = output.vectors.new_zeros(len(code))
        terms = output.vectors.new_zeros(len(code))
        scale, bias = output.scale[:1], output.bias[:1]
        for a, b in permutations(range(present.shape[1]), 2):
            logits = output.vectors[:, a] @ output.vectors[:, b].T * scale
            candidates = present[:, b].expand(len(code), -1)
            candidates = candidates if self.pulls else candidates & ~alike
            positive = (own | alike if self.pulls else own) & candidates
            if self.sigmoid:
                value = sigmoid_loss(logits + bias, positive, candidates)
                counts = present[:, a] & candidates.any(dim=1)
            else:
                value = softmax_loss(logits, positive, candidates)
                counts = present[:, a] & positive.any(dim=1)
            total, terms = total + value.masked_fill(~counts, 0.0), terms + counts
        return total / terms.clamp(min=1)

    def merge(self, outputs: Sequence[Sides], share: Tensor, *, vote: bool = False) -> Sides:
        """Vectors of several networks side by side: their cosine is the mean of the networks' cosines."""
        vectors = [one.vectors * share[:, i, None, None].sqrt() for i, one in enumerate(outputs)]
        first = outputs[0]
        return Sides(torch.cat(vectors, dim=2), first.present, first.scale, first.bias)

    # ── answers and scores ─────────────────────────────────────────────────────────────────────────────────────────────

    @property
    def sides(self) -> Mapping[str, tuple[str, ...]]:
        return self.composition

    def side_vectors(self, output: Sides) -> tuple[Tensor, Tensor]:
        return output.vectors, output.present

    def scorer(self) -> Scorer[Sides]:
        return RankScorer(self.target)

    def answers(self, output: Sides, batch: Batch) -> list[Answer]:
        similarity, pairs = output.similarity()
        answers: list[Answer] = [
            {"value": value if count else None} for value, count in zip(similarity.tolist(), pairs.tolist(), strict=True)
        ]
        if len(self.names) > 2:
            cosine = (output.vectors @ output.vectors.transpose(1, 2)).tolist()
            for answer, row, present in zip(answers, cosine, output.present.tolist(), strict=True):
                answer["similarities"] = {
                    f"{self.names[a]}, {self.names[b]}": row[a][b]
                    for a, b in combinations(range(len(self.names)), 2)
                    if present[a] and present[b]
                }
        return answers

    def explained(self, output: Sides, of: Sides) -> Tensor:
        """The mean similarity of the pairs of sides that ``of`` has; a pair that ``output`` lacks counts as 0."""
        similarity, pairs = output.similarity()
        _, whole = of.similarity()
        return similarity * pairs / whole.clamp(min=1)

    def question(self, of: Sides) -> list[str]:
        return [f"similarity of {' and '.join(self.names)}"] * len(of.present)

    def views(self, scorer: Scorer[Sides]) -> list[View]:
        return rank_views(scorer, self.names) if isinstance(scorer, RankScorer) else []

    def fit_simple(self, rows: Iterable[Batch], held_out: Iterable[tuple[Batch, Sides]]) -> str:
        if self.simple is None:
            return ""
        if unread := self.simple.unread:
            return f"no simple method beside it: there are no ready features of {', '.join(unread)}"

        def codes(batch: Batch) -> Tensor:
            # Rows of one code that are only not pushed apart belong to themselves.
            return self.target(batch).data[:, 0] * self.pulls

        self.simple.fit(rows, codes)
        if self.blended:
            self.simple.weigh((b.inputs, out.vectors, out.present, self.target(b).data[:, 0]) for b, out in held_out)
        return ""

    def reference_outputs(self, output: Sides, batch: Batch) -> dict[str, Sides]:
        if self.simple is None or self.simple.unread:
            return {}
        methods = self.simple.match(batch.inputs)
        if output.vectors.shape[2] > self.dimensions and methods:
            methods = {NETWORK: F.normalize(output.vectors[:, :, : self.dimensions], dim=2), **methods}
        return {name: Sides(vectors, output.present, output.scale, output.bias) for name, vectors in methods.items()}

    def baseline(self, targets: Iterable[Field]) -> str:
        """Nothing is known of a ranking from the targets."""
        return RANDOM

    def constant(self, baseline: Any, rows: int) -> Sides:
        device = self.log_scale.device
        vectors = torch.zeros(rows, len(self.names), self.dimensions, device=device)
        everything = torch.ones(rows, len(self.names), dtype=torch.bool, device=device)
        return Sides(vectors, everything, torch.ones(rows, device=device), torch.zeros(rows, device=device))


def _composition(goal: Goal, between: list[str] | None) -> dict[str, tuple[str, ...]]:
    """The streams of each side, by its name."""
    known = list(goal.streams)
    named = known if between is None else between
    sides: dict[str, tuple[str, ...]] = {}
    taken: dict[str, str] = {}
    for side in named:
        # A stream may itself have a plus in its name.
        parts = (side,) if side in known else tuple(part.strip() for part in str(side).split("+"))
        for part in parts:
            if part not in known:
                _check_table_column(goal, part)
                note = "; columns of the table are together the stream 'table'" if "table" in known else ""
                raise ConfigError(f"retrieval: no stream named {part!r}{nearest(part, known)}{note}")
            if part in taken:
                raise ConfigError(f"retrieval: the stream {part!r} is named twice", fix="name each stream once")
            taken[part] = side
        sides[side] = parts
    if len(sides) < 2:
        raise ConfigError(
            f"retrieval: it is between two or more streams, and {len(sides)} {'is' if len(sides) == 1 else 'are'} named",
            fix=f"--between {','.join([*known, 'caption'][:2])}",
        )
    return sides


def _check_table_column(goal: Goal, name: str) -> None:
    """Raise ``ConfigError`` with the way to a stream of its own if ``name`` is a column of the table stream."""
    for stream, columns in goal.inputs.items():
        if name in columns and stream != name:
            kind = kind_of(columns[name])
            raise ConfigError(
                f"retrieval: {name!r} is read as {kind} and is part of the stream {stream!r}, not a stream of its own",
                column=name,
                fix=f"{quoting.as_kind(name, 'text')} where its cells are texts; or --between with {stream!r}",
            )


def _codes(field: Field) -> Tensor:
    """Whole numbers ``[B]`` that are equal where the cells of ``field`` are, 0 where a row has none."""
    data = field.data.reshape(len(field.present), -1)
    # A key has two numbers of 24 bits, in 0 to 1; a category or a number has one.
    parts = (data.double().nan_to_num(0.0) * (1 << 24)).round().long()
    code = parts[:, 0] + 1
    for i in range(1, parts.shape[1]):
        code = code * (1 << 24) + parts[:, i]
    return torch.where(field.present, code, torch.zeros_like(code))
