"""Rows in a common space: what a task that matches the sides of a row returns, and how the matches are scored."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from itertools import permutations
from typing import NamedTuple

import torch
from torch import Tensor

from sensorium.core.batch import Batch, Field, Tensors
from sensorium.core.report_views import Bars, Table, View
from sensorium.core.scorer import Kept, Scorer
from sensorium.metrics.retrieval import CUTOFFS, chance, rank_queries, weighted_median
from sensorium.metrics.weighting import mean

HEADLINE = "recall_at_1"
RECALLS = tuple(f"recall_at_{k}" for k in CUTOFFS)
METRICS = (*RECALLS, "median_rank", "map")
EQUAL = 1 - 1e-5
"""Cosine from which two items of one code count as the same item."""
MOST_COPIES = 2_000
"""Items of one code among which copies are looked for."""


@dataclass(frozen=True)
class Sides(Tensors):
    """The sides of each row in the common space.

    Args:
        vectors: Unit vectors ``[B, S, E]``, zero where a side is absent.
        present: ``[B, S]`` bool.
        scale: The inverse temperature, for each row alike ``[B]``.
        bias: The bias of the sigmoid loss ``[B]``, 0 for others.
    """

    vectors: Tensor
    present: Tensor
    scale: Tensor
    bias: Tensor

    def similarity(self) -> tuple[Tensor, Tensor]:
        """The mean cosine of all pairs of sides of each row ``[B]``, 0 without a pair, and the number of pairs ``[B]``."""
        cosine = self.vectors @ self.vectors.transpose(1, 2)
        both = self.present[:, :, None] & self.present[:, None, :]
        both = both.triu(diagonal=1)
        pairs = both.sum(dim=(1, 2))
        return (cosine * both).sum(dim=(1, 2)) / pairs.clamp(min=1), pairs


class Direction(NamedTuple):
    """The rankings of one side for the queries of another: its values per query, and the rows of the queries ``[Q]``."""

    query: int
    gallery: int
    rows: Tensor
    values: dict[str, Tensor]
    same: Tensor


class RankScorer(Scorer[Sides]):
    """Scores of all rankings: each side of a row is a query for every other side among all rows.

    An item is a hit for a query of the same row, or of a row with the same code. Resamples are of queries; the gallery
    stays whole. Scores are means over the directions (picture to words, words to picture).

    Args:
        target: Returns for a batch ``[B, 1 + S]`` whole numbers: the code of each row, 0 where it has none, and 1 for
            each side that the row has.
    """

    def __init__(self, target: Callable[[Batch], Field]) -> None:
        super().__init__()
        self._target = target
        self._directions: dict[tuple[str, ...], list[Direction]] = {}

    def keep(self, output: Sides, batch: Batch) -> Kept:
        field = self._target(batch)
        # The answer of a baseline has every side: what the row itself lacks is no item.
        present = output.present & field.data[:, 1:].bool()
        rows = present.any(dim=1) & (batch.weight > 0)
        return {
            "vectors": output.vectors[rows].detach().float().cpu(),
            "present": present[rows].cpu(),
            "code": field.data[rows, 0].cpu(),
        }

    def update(self, output: Sides, batch: Batch) -> None:
        super().update(output, batch)
        self._directions = {}

    def load(self, kept: Kept) -> None:
        super().load(kept)
        self._directions = {}

    def directions(self, names: Sequence[str] = ("recall", "rank", "precision")) -> list[Direction]:
        """The rankings of every pair of sides, scored by ``names`` as in ``rank_queries``."""
        key = tuple(names)
        if key not in self._directions:
            self._directions[key] = list(self._ranked(key)) if self.rows else []
        return self._directions[key]

    def _ranked(self, names: Sequence[str]) -> Iterator[Direction]:
        kept = self.kept
        vectors, present, code = kept["vectors"], kept["present"], kept["code"]
        # Rows without a code have one of their own: the codes of all others are not below zero.
        code = torch.where(code != 0, code, -1 - torch.arange(len(code)))
        items = [_distinct(vectors[:, s], present[:, s], code) for s in range(present.shape[1])]
        for a, b in permutations(range(present.shape[1]), 2):
            rows = present[:, a].nonzero()[:, 0]
            same = torch.cat([code[rows], code[items[b]]])
            values = rank_queries(vectors[rows, a], vectors[items[b], b], same, names)
            yield Direction(a, b, rows, values, same)

    def compute(self, weights: Tensor | None = None, names: Collection[str] | None = None) -> dict[str, Tensor]:
        weights = self.ones() if weights is None else weights
        wanted = [name for name in METRICS if names is None or name in names]
        need = ["recall"] * any(name in RECALLS for name in wanted)
        need += ["rank"] * ("median_rank" in wanted) + ["precision"] * ("map" in wanted)
        each: dict[str, list[Tensor]] = {name: [] for name in wanted}
        for one in self.directions(need):
            some = next(iter(one.values.values()))
            scored = ~some.isnan()
            if not bool(scored.any()):
                continue
            weight = weights[:, one.rows[scored]]
            for name in wanted:
                values = one.values[{"median_rank": "rank", "map": "precision"}.get(name, name)][scored]
                each[name].append(weighted_median(values, weight) if name == "median_rank" else mean(values, weight))
        nothing = torch.full((len(weights),), torch.nan, dtype=torch.float64)
        return {name: torch.stack(parts).nanmean(dim=0) if parts else nothing for name, parts in each.items()}


def _distinct(vectors: Tensor, present: Tensor, code: Tensor) -> Tensor:
    """The items ``[n]`` of a gallery: rows that have the side, without the copies of an item within one code.

    A picture that stands in five rows, once with each of its captions, is one item.
    """
    rows = present.nonzero()[:, 0]
    order = rows[code[rows].argsort(stable=True)]
    _, counts = torch.unique_consecutive(code[order], return_counts=True)
    keep = torch.ones(len(order), dtype=torch.bool)
    start = 0
    for count in counts.tolist():
        if 1 < count <= MOST_COPIES:
            part = vectors[order[start : start + count]]
            copies = (part @ part.T > EQUAL).tril(diagonal=-1)
            keep[start : start + count] = ~copies.any(dim=1)
        start += count
    return order[keep].sort().values


def rank_views(scorer: RankScorer, sides: Sequence[str]) -> list[View]:
    """The scores of each direction and how often a hit is found, beside chance, for a report.

    Args:
        scorer: The scorer that holds the rows.
        sides: The names of the sides.
    """
    rows: list[dict[str, str | int | float]] = []
    bars: list[tuple[str, float]] = []
    for one in scorer.directions():
        scored = ~one.values["rank"].isnan()
        if not bool(scored.any()):
            continue
        name = f"{sides[one.query]} → {sides[one.gallery]}"
        ones = torch.ones(1, int(scored.sum()), dtype=torch.float64)
        random = chance(one.same, len(one.rows))
        row: dict[str, str | int | float] = {"direction": name}
        row |= {recall: float(one.values[recall][scored].mean()) for recall in RECALLS}
        row["chance"] = float(random["recall_at_10"][scored].mean())
        row["median_rank"] = float(weighted_median(one.values["rank"][scored], ones)[0])
        row["map"] = float(one.values["precision"][scored].mean())
        row |= {"queries": int(scored.sum()), "gallery": len(one.same) - len(one.rows)}
        rows.append(row)
        bars += [(f"{name}, first {k}", float(row[f"recall_at_{k}"])) for k in CUTOFFS]
        bars.append((f"{name}, first 10 by chance", float(row["chance"])))
    if not rows:
        return []
    words = {name: name.replace("_at_", " at ").replace("_", " ") for name in (*RECALLS, "median_rank")}
    words |= {"chance": "recall at 10 by chance", "map": "mean average precision"}
    note = "A hit is an item of the same row, or of a row with the same value of the column that says which match."
    return [
        Table("directions", "Retrieval by direction", note, rows=rows, words=words),
        Bars("recall", "How often a hit is among the first", "Of all queries.", values=bars),
    ]
