"""What each stream did to one answer: Shapley values of a row, and how the fusion itself says it weighs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from math import factorial
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray

from sensorium.core.answer import light
from sensorium.core.batch import Batch, Encoded
from sensorium.core.contracts import Task
from sensorium.core.forward import Forward
from sensorium.core.rendering import Rendered
from sensorium.evaluation.attribution import Map
from sensorium.evaluation.nearest_rows import Neighbour
from sensorium.model import Model

EXACT = 8
"""Streams up to which every subset is answered: 2⁸ fusions of each row."""
PAIRS = 16
"""Above it: so many random orders of the streams, and as many more in reverse."""
Values = NDArray[np.float64]


@dataclass(frozen=True)
class Attribution:
    """One answer divided among the streams: ``nothing`` and the ``shares`` add up to ``value``.

    Args:
        row: Which row of the table, counted from 1.
        answer: What the model answers.
        what: What is divided: ``probability of dog``, or ``value``.
        value: That with everything the row has.
        nothing: That with no stream at all.
        shares: By stream. A stream that the row does not have gets 0.
        errors: The standard error of each share, where orders were drawn at random; empty where all were counted.
        missing: Streams that the row does not have.
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
    """Some rows explained. ``text()`` is for a terminal, ``to_json()`` for programs.

    Args:
        streams: In the model's order.
        targets: By target, an attribution a row; none where its answers are no number that could be divided.
        weights: How the fusion weighs each row's streams ``[rows, S]``; None where it does not say.
        inner: Of a single row, what else the fusion shows, by name: ``gate`` ``[S, D]``, ``attention`` ``[N, N]``.
        tokens: Of a single row, how many tokens each stream has, in the order of ``attention``.
        maps: Where in each stream the answers come from, of the rows that were looked at so closely.
        features: Of a single row, by stream, the strongest channels of its encoder's last convolutions ``[C, *cells]``.
        nearest: By row, the training rows that the model holds for most alike, where those were given.
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

    def maps_of(self, row: int, target: str) -> list[Map]:
        """The maps of one row and target, a stream each."""
        return [one for one in self.maps if one.row == row and one.target == target]

    def mean_shares(self, target: str) -> dict[str, float]:
        """By stream, the mean size of its share over the rows: how much it moves answers, either way."""
        found = self.targets[target]
        return {s: float(np.mean([abs(one.shares[s]) for one in found])) if found else 0.0 for s in self.streams}

    def to_json(self) -> dict[str, Any]:
        """Everything as plain data."""
        return {
            "streams": list(self.streams),
            "targets": {name: [vars(one) for one in found] for name, found in self.targets.items()},
            "mean_shares": {name: self.mean_shares(name) for name in self.targets},
            "weights": None if self.weights is None else self.weights.tolist(),
            "inner": {name: values.tolist() for name, values in self.inner.items()},
            "maps": [one.to_json() for one in self.maps],
            "nearest": {str(row): [one._asdict() for one in found] for row, found in self.nearest.items()},
        }


def explain(model: Model, batches: Iterable[Batch], *, rows: Sequence[int] | None = None, seed: int = 0) -> Explanation:
    """Explains every row of some prepared batches; the model is in evaluation mode. Streams are encoded once.

    Source: Shapley, A Value for n-Person Games (1953); orders drawn in pairs, each with its reverse: Mitchell et al. 2022,
    https://jmlr.org/papers/v23/21-0439.html.

    Args:
        rows: The rows' numbers in their table, for the reader.
        seed: Of the orders, where not all of them are counted.
    """
    streams = model.streams
    found: dict[str, list[Attribution]] = {name: [] for name in model.tasks}
    weights: list[Values] = []
    inner: dict[str, Values] = {}
    tokens: dict[str, int] = {}
    done = 0
    with torch.inference_mode():
        for batch in batches:
            run, passes = Forward(model, batch), dict[int, Forward]()
            parts = run.streams
            numbers = list(rows[done : done + batch.rows]) if rows is not None else range(done + 1, done + batch.rows + 1)
            for name, task in model.tasks.items():
                game = Game(run, name, task, streams, passes)
                found[name] += _divided(game, streams, parts, numbers, seed) if game.asked else []
            shown = {key: value.detach().double().cpu().numpy() for key, value in model.fusion.weights(parts).items()}
            if "share" in shown:
                weights.append(shown["share"])
            if done == 0 and batch.rows == 1:
                inner = {key: value[0] for key, value in shown.items() if key != "share"}
                tokens = {stream: part.tokens.shape[1] for stream, part in parts.items()}
            done += batch.rows
    one = done == 1
    return Explanation(
        streams,
        found,
        np.concatenate(weights) if weights else None,
        inner if one else {},
        tokens if one else {},
    )


class Game:
    """A task's answers as a function of which streams play: ``of(subset)`` ``[B]``, each subset answered once.

    ``asked``: of each row, what is divided, in words; empty where the task's answers are no number that could be.
    ``passes`` are shared by the games of one batch, so that each subset of streams is fused but once.
    """

    def __init__(
        self, run: Forward, name: str, task: Task[Any], streams: Sequence[str], passes: dict[int, Forward]
    ) -> None:
        self.run, self.name, self.task, self.streams, self.passes = run, name, task, streams, passes
        self.whole = run.outputs[name]
        divisible = task.explained(self.whole, self.whole) is not None
        self.asked = task.question(self.whole) if divisible else []
        self.answers = [light(answer["value"]) for answer in task.answers(self.whole, run.batch)] if divisible else []
        self._known: dict[int, Values] = {}

    def of(self, subset: int) -> Values:
        """``subset``: a bit for each stream, the first the lowest."""
        if subset not in self._known:
            if subset not in self.passes:
                self.passes[subset] = self.run.only(*(s for i, s in enumerate(self.streams) if subset >> i & 1))
            told = self.task.explained(self.passes[subset].outputs[self.name], self.whole)
            assert told is not None
            self._known[subset] = told.double().cpu().numpy()
        return self._known[subset]


def _divided(
    game: Game, streams: Sequence[str], parts: Mapping[str, Encoded], numbers: Sequence[int], seed: int
) -> list[Attribution]:
    count = len(streams)
    shares, errors = exact(game.of, count) if count <= EXACT else sampled(game.of, count, seed)
    whole, nothing = game.of((1 << count) - 1), game.of(0)
    here = {stream: parts[stream].present.tolist() for stream in streams}
    return [
        Attribution(
            row,
            game.answers[i],
            game.asked[i],
            float(whole[i]),
            float(nothing[i]),
            # What is not there did nothing: not even what rounding says.
            {stream: float(shares[s, i]) if here[stream][i] else 0.0 for s, stream in enumerate(streams)},
            {} if errors is None else {stream: float(errors[s, i]) for s, stream in enumerate(streams)},
            [stream for stream in streams if not here[stream][i]],
        )
        for i, row in enumerate(numbers)
    ]


def exact(of: Callable[[int], Values], count: int) -> tuple[Values, None]:
    """Each stream's gain ``[S, B]``, averaged over all orders in which the streams may come: every subset is answered."""
    values = np.stack([of(subset) for subset in range(1 << count)])  # [2^S, B]
    chance = [factorial(size) * factorial(count - size - 1) / factorial(count) for size in range(count)]
    weight = np.zeros((count, 1 << count))
    for subset in range(1 << count):
        size = subset.bit_count()
        for s in range(count):
            weight[s, subset] = chance[size - 1] if subset >> s & 1 else -chance[size]
    return weight @ values, None


def sampled(of: Callable[[int], Values], count: int, seed: int, pairs: int = PAIRS) -> tuple[Values, Values]:
    """Each stream's gain ``[S, B]`` over random orders and their reverses, and its standard error.

    The gains of one order add up to the whole, and so do their means.
    """
    rng = np.random.default_rng(seed)
    drawn = []
    for _ in range(pairs):
        order = rng.permutation(count)
        gains = np.zeros((count, len(of(0))))
        for way in (order, order[::-1]):
            subset = 0
            for s in way.tolist():
                gains[s] += (of(subset | 1 << s) - of(subset)) / 2
                subset |= 1 << s
        drawn.append(gains)
    together = np.stack(drawn)
    return together.mean(axis=0), together.std(axis=0, ddof=1) / np.sqrt(pairs)
