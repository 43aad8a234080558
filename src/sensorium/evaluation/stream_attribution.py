"""Stream attribution: Shapley values of the streams for one prediction, and the weights of the fusion."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from math import factorial
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray

from sensorium.core.answer import without_media
from sensorium.core.batch import Batch, Encoded
from sensorium.core.forward import Forward
from sensorium.core.rendering import Rendered
from sensorium.core.task import Task
from sensorium.evaluation.attribution import Map, narrowed, subjects_of
from sensorium.evaluation.nearest_rows import Neighbour
from sensorium.model import Model

EXACT = 8
"""Number of streams up to which every subset is evaluated: 2⁸ fusions of each row."""
PAIRS = 16
"""Above ``EXACT``: number of random orders of the streams, each evaluated forwards and in reverse."""
Values = NDArray[np.float64]


@dataclass(frozen=True)
class Attribution:
    """One prediction attributed to the streams: ``nothing`` plus the ``shares`` equals ``value``.

    Args:
        row: Number of the row in its table, from 1.
        answer: The prediction.
        what: The attributed quantity: ``probability of dog``, or ``value``.
        value: The quantity with all streams of the row.
        nothing: The quantity without any stream.
        shares: Contribution of each stream; 0 for streams that the row lacks.
        errors: Standard error of each contribution; empty if computed exactly.
        missing: Streams that the row lacks.
    """

    row: int
    answer: Any
    what: str
    value: float
    nothing: float
    shares: dict[str, float]
    errors: dict[str, float] = field(default_factory=dict)
    missing: list[str] = field(default_factory=list)


@dataclass
class Explanation(Rendered):
    """Explanations of some rows; ``text()`` renders them for a terminal, ``to_json()`` for programs.

    Args:
        streams: The streams, in the model's order.
        targets: By target, an attribution for each row; empty if predictions are not numbers.
        weights: Weights that the fusion gives the streams of each row ``[rows, S]``; None if it has none.
        inner: For a single row, other internals of the fusion by name: ``gate`` ``[S, D]``, ``attention`` ``[N, N]``.
        tokens: For a single row, the number of tokens of each stream, in the order of ``attention``.
        maps: Attribution maps of the rows for which they were computed.
        nearest: By row, the nearest training rows, if those were given.
        features: For a single row, by stream, the strongest channels of the last convolutions ``[C, *cells]``.
        subjects: For a single row, by target, the parts of its answer that can be explained, in words.
    """

    renderer: ClassVar[str] = "explanation"

    streams: tuple[str, ...]
    targets: dict[str, list[Attribution]]
    weights: Values | None = None
    inner: dict[str, Values] = field(default_factory=dict)
    tokens: dict[str, int] = field(default_factory=dict)
    maps: list[Map] = field(default_factory=list)
    nearest: dict[int, list[Neighbour]] = field(default_factory=dict)
    features: dict[str, Values] = field(default_factory=dict)
    subjects: dict[str, list[str]] = field(default_factory=dict)

    def maps_of(self, row: int, target: str) -> list[Map]:
        """Return the attribution maps of ``row`` for ``target``, one per stream."""
        return [
            attribution_map
            for attribution_map in self.maps
            if attribution_map.row == row and attribution_map.target == target
        ]

    def mean_shares(self, target: str) -> dict[str, float]:
        """Return the mean absolute contribution of each stream to ``target`` over the rows."""
        attributions = self.targets[target]
        return {
            s: float(np.mean([abs(attribution.shares[s]) for attribution in attributions])) if attributions else 0.0
            for s in self.streams
        }

    def to_json(self) -> dict[str, Any]:
        """Return JSON-serialisable data."""
        return {
            "streams": list(self.streams),
            "targets": {
                name: [vars(attribution) for attribution in attributions] for name, attributions in self.targets.items()
            },
            "mean_shares": {name: self.mean_shares(name) for name in self.targets},
            "weights": None if self.weights is None else self.weights.tolist(),
            "inner": {name: values.tolist() for name, values in self.inner.items()},
            "subjects": self.subjects,
            "maps": [attribution_map.to_json() for attribution_map in self.maps],
            "nearest": {
                str(row): [neighbour._asdict() for neighbour in neighbours] for row, neighbours in self.nearest.items()
            },
        }


def explain(
    model: Model,
    batches: Iterable[Batch],
    *,
    rows: Sequence[int] | None = None,
    seed: int = 0,
    about: int | str | None = None,
) -> Explanation:
    """Compute Shapley values of the streams for every row. Streams are encoded once.

    Source: Shapley, A Value for n-Person Games (1953); antithetic sampling of orders: Mitchell et al. 2022,
    https://jmlr.org/papers/v23/21-0439.html.

    Args:
        model: The model, in evaluation mode.
        batches: Prepared batches.
        rows: The rows' numbers in their table, for display; by default counted from 1.
        seed: Seed of the sampled orders; unused with few streams.
        about: Of a single row, the part to explain: its number in ``subjects``, a place ``x,y`` on edges, or
            ``target:number``, ``target:x,y``.
    """
    streams = model.streams
    attributions: dict[str, list[Attribution]] = {name: [] for name in model.tasks}
    weights: list[Values] = []
    inner: dict[str, Values] = {}
    tokens: dict[str, int] = {}
    subjects: dict[str, list[str]] = {}
    done = 0
    with torch.inference_mode():
        for batch in batches:
            run, passes = Forward(model, batch), dict[int, Forward]()
            parts = run.streams
            numbers = list(rows[done : done + batch.rows]) if rows is not None else range(done + 1, done + batch.rows + 1)
            if batch.rows == 1 and done == 0:
                subjects = subjects_of(model.tasks, run)
            for name, task in model.tasks.items():
                game = Game(run, name, task, streams, passes, narrowed(name, task, run, about))
                attributions[name] += _divided(game, streams, parts, numbers, seed) if game.questions else []
            shown = {key: value.detach().double().cpu().numpy() for key, value in model.fusion.weights(parts).items()}
            if "share" in shown:
                weights.append(shown["share"])
            if done == 0 and batch.rows == 1:
                inner = {key: value[0] for key, value in shown.items() if key != "share"}
                tokens = {stream: part.tokens.shape[1] for stream, part in parts.items()}
            done += batch.rows
    single_row = done == 1
    return Explanation(
        streams,
        attributions,
        np.concatenate(weights) if weights else None,
        inner if single_row else {},
        tokens if single_row else {},
        subjects=subjects if single_row else {},
    )


class Game:
    """A cooperative game: the output of a task as a function of the available streams, with cached subsets.

    Args:
        run: The forward pass over the batch.
        name: The task's name.
        task: The task.
        streams: The players.
        passes: Forward passes by subset, shared by the games of a batch so that each subset is fused once.
        whole: The output that is explained; None: that of the pass.

    Attributes:
        questions: By row, the attributed quantity in words; empty if predictions are not numbers.
    """

    def __init__(
        self,
        run: Forward,
        name: str,
        task: Task[Any],
        streams: Sequence[str],
        passes: dict[int, Forward],
        whole: Any = None,
    ) -> None:
        self.run, self.name, self.task, self.streams, self.passes = run, name, task, streams, passes
        self.whole = run.outputs[name] if whole is None else whole
        divisible = task.explained(self.whole, self.whole) is not None
        self.questions = task.question(self.whole) if divisible else []
        self.answers = (
            [without_media(answer["value"]) for answer in task.answers(run.outputs[name], run.batch)] if divisible else []
        )
        self._known: dict[int, Values] = {}

    def of(self, subset: int) -> Values:
        """Return the output ``[B]`` with the streams in ``subset`` (a bit mask; the first stream is the lowest bit)."""
        if subset not in self._known:
            if subset not in self.passes:
                self.passes[subset] = self.run.only(*(s for i, s in enumerate(self.streams) if subset >> i & 1))
            explained = self.task.explained(self.passes[subset].outputs[self.name], self.whole)
            assert explained is not None
            self._known[subset] = explained.double().cpu().numpy()
        return self._known[subset]


def _divided(
    game: Game, streams: Sequence[str], parts: Mapping[str, Encoded], numbers: Sequence[int], seed: int
) -> list[Attribution]:
    count = len(streams)
    shares, errors = exact(game.of, count) if count <= EXACT else sampled(game.of, count, seed)
    with_all, with_none = game.of((1 << count) - 1), game.of(0)
    present = {stream: parts[stream].present.tolist() for stream in streams}
    return [
        Attribution(
            row,
            game.answers[i],
            game.questions[i],
            float(with_all[i]),
            float(with_none[i]),
            # A missing stream contributes exactly 0, not a rounding error.
            {stream: float(shares[s, i]) if present[stream][i] else 0.0 for s, stream in enumerate(streams)},
            {} if errors is None else {stream: float(errors[s, i]) for s, stream in enumerate(streams)},
            [stream for stream in streams if not present[stream][i]],
        )
        for i, row in enumerate(numbers)
    ]


def exact(of: Callable[[int], Values], count: int) -> tuple[Values, None]:
    """Return exact Shapley values ``[S, B]`` (and None for their errors).

    Args:
        of: The output ``[B]`` for a subset of streams (a bit mask).
        count: Number of streams S; all 2^S subsets are evaluated.
    """
    values = np.stack([of(subset) for subset in range(1 << count)])  # [2^S, B]
    chance = [factorial(size) * factorial(count - size - 1) / factorial(count) for size in range(count)]
    weight = np.zeros((count, 1 << count))
    for subset in range(1 << count):
        size = subset.bit_count()
        for s in range(count):
            weight[s, subset] = chance[size - 1] if subset >> s & 1 else -chance[size]
    return weight @ values, None


def sampled(of: Callable[[int], Values], count: int, seed: int, pairs: int = PAIRS) -> tuple[Values, Values]:
    """Estimate Shapley values ``[S, B]`` and their standard errors from random orders and their reverses.

    The contributions of each order sum to the total, and so do their means.

    Args:
        of: The output ``[B]`` for a subset of streams (a bit mask).
        count: Number of streams S.
        seed: Seed of the orders.
        pairs: Number of orders; each is evaluated in reverse too.
    """
    rng = np.random.default_rng(seed)
    drawn = []
    for _ in range(pairs):
        order = rng.permutation(count)
        gains = np.zeros((count, len(of(0))))
        for direction in (order, order[::-1]):
            subset = 0
            for s in direction.tolist():
                gains[s] += (of(subset | 1 << s) - of(subset)) / 2
                subset |= 1 << s
        drawn.append(gains)
    together = np.stack(drawn)
    return together.mean(axis=0), together.std(axis=0, ddof=1) / np.sqrt(pairs)
