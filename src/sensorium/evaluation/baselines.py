"""What each part of a blend reaches by itself: whether the network earned its time beside what is fitted in seconds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor

from sensorium.core.batch import Batch
from sensorium.core.forward import Forward
from sensorium.core.scorer import Scorer, plain_scores
from sensorium.evaluation.bootstrap import bounds, resample
from sensorium.evaluation.formatting import number, words
from sensorium.model import Model
from sensorium.nn.ensemble import NETWORK, Ensemble

TOGETHER = "together"
"""The whole blend, as it answers."""
EXPERTS = "experts"
"""All experts without the network, as ``--quality fast`` would have them, each counting as it does in the blend."""
ERROR = "calibration_error"
Earned = Literal["yes", "not told apart", "no"]


@dataclass
class Floor:
    """One task: what its parts reach on the same rows.

    Args:
        metric: The headline; ``name`` is how reports write it.
        rows: Rows that were scored.
        scores: It, by part: ``together``, ``network``, each expert, ``experts`` (all of them, where there are several), and
            each expert ``on`` one stream alone (``linear on note``).
        share: How much the network and each expert count in rows that have every stream.
        simple: The best of what needs no network.
        gain: By how much all together are better than that, whatever the metric: the difference, and its 95 % interval over
            bootstrap resamples of the rows, drawn alike for both.
        calibration: The calibration error of the same parts, where the task's answers are probabilities.
        whole: The headline of all together on each stream alone, by stream.
        silent: Whether the network counts nothing, whichever streams a row has.
    """

    metric: str
    name: str
    higher_is_better: bool
    rows: int
    scores: dict[str, float]
    share: dict[str, float]
    simple: str
    gain: tuple[float, float, float]
    calibration: dict[str, float] = field(default_factory=dict)
    whole: dict[str, float] = field(default_factory=dict)
    silent: bool = False

    @property
    def earned(self) -> Earned | None:
        """Whether the network earned its time; None where there is none, or the rows say nothing."""
        _, low, high = self.gain
        if NETWORK not in self.share or low != low:
            return None
        if self.silent:
            return "no"
        return "yes" if low > 0 else "no" if high < 0 else "not told apart"

    def best_on(self, stream: str) -> tuple[str, float] | None:
        """The expert that does best on this stream alone, and its score; None where none reads it."""
        known = {kind: self.scores[on] for kind in self.share if (on := f"{kind} on {stream}") in self.scores}
        return None if not known else (kind := _best(known, self.higher_is_better), known[kind])

    def to_json(self) -> dict[str, Any]:
        """As plain data."""
        return {
            "metric": self.metric,
            "rows": self.rows,
            "scores": self.scores,
            "share": self.share,
            "simple": self.simple,
            "gain": dict(zip(("mean", "low", "high"), self.gain, strict=True)),
            **({"earned": self.earned} if self.earned is not None else {}),
            **({ERROR: self.calibration} if self.calibration else {}),
        }

    def sentences(self) -> list[str]:
        """What it says, in words."""
        scores, metric = self.scores, self.name
        best = f"best simple method {named(self.simple)} {number(scores[self.simple])}"
        alone = f", network alone {number(scores[NETWORK])}" if NETWORK in scores else ""
        counts = ", ".join(f"{part} {100 * value:.0f} %" for part, value in self.share.items())
        found = [f"{metric} {number(scores[TOGETHER])} together; {best}{alone}. What counts: {counts}."]
        if self.earned is not None:
            found.append(f"{self._verdict()}.")
        if self.calibration:
            rest = ", ".join(
                f"{named(part)} {number(self.calibration[part])}" for part in self.calibration if part != TOGETHER
            )
            found.append(f"Calibration error {number(self.calibration[TOGETHER])} together; {rest}.")
        return found

    def _verdict(self) -> str:
        mean, low, high = self.gain
        if self.silent:
            return "The network counts nothing: --quality fast, which trains none, is as good here"
        how = f"{self.name} {'better' if mean >= 0 else 'worse'} by {number(abs(mean))}"
        told = f"{how} than {named(self.simple)}, 95 % interval {low:+.3g} to {high:+.3g}, on {self.rows:,} rows"
        return {
            "yes": f"The network earned its time: told apart ({told})",
            "no": f"The network does harm: told apart ({told}); take --quality fast, which trains none",
            "not told apart": f"With and without the network are not told apart ({told}): --quality fast may be as good",
        }[self.earned or "not told apart"]


def named(part: str) -> str:
    """A part as a sentence calls it."""
    return "all experts" if part == EXPERTS else part


class Parts:
    """The scores of each part of a model, gathered batch by batch; empty where it has no experts.

    Args:
        alone: Whether experts are also asked what they make of each stream alone.
    """

    def __init__(self, model: Model, *, alone: bool = True) -> None:
        self.model = model
        self.ensemble = model.experts if isinstance(model.experts, Ensemble) else None
        self.alone = alone and len(model.streams) > 1
        self.scorers: dict[str, dict[str, Scorer[Any]]] = {}

    def update(self, run: Forward, batch: Batch) -> None:
        """Take in what the parts say of a batch; ``run`` is the pass over it of the model, or of another of the same parts
        that was fitted on other rows."""
        if self.ensemble is None:
            return
        ensemble = run.model.experts
        assert isinstance(ensemble, Ensemble)
        for name in self.ensemble.experts:
            task, scorers = self.model.tasks[name], self.scorers.setdefault(name, {})
            for part, output in self._said(ensemble, name, run).items():
                scorers.setdefault(part, task.scorer()).update(output, batch)

    def _said(self, ensemble: Ensemble, name: str, run: Forward) -> dict[str, Any]:
        task = self.model.tasks[name]
        present = {stream: part.present for stream, part in run.kept.items()}
        each = {kind: task.scored(score) for kind, score in ensemble.scores(name, run.read, present).items()}
        said: dict[str, Any] = {**({NETWORK: run.own[name]} if self.model.network else {}), **each}
        if len(each) > 1:
            said[EXPERTS] = ensemble.blends[name].without(NETWORK, task.plain, each, present)
        for stream in ensemble.heard if self.alone else ():
            only = {s: here & (s == stream) for s, here in present.items()}
            scores = ensemble.scores(name, run.read, only)
            said |= {f"{kind} on {stream}": task.scored(score) for kind, score in scores.items()}
        return said

    def floor(
        self, name: str, together: Scorer[Any], drawn: Tensor, whole: Mapping[str, float], resamples: int, seed: int
    ) -> Floor | None:
        """What the parts of a task reached; None where it has none.

        Args:
            together: What was kept of the whole blend's answers.
            drawn: Its headline in each resample; those of the best simple method are drawn alike.
            whole: Its headline on each stream alone.
        """
        scorers = self.scorers.get(name, {})
        if self.ensemble is None or not scorers or not together.rows:
            return None
        task, blend = self.model.tasks[name], self.ensemble.blends[name]
        head, up = task.headline, task.higher_is_better
        found = {part: plain_scores(scorer) for part, scorer in {TOGETHER: together, **scorers}.items()}
        scores = {part: each[head] for part, each in found.items()}
        whole_parts = [part for part in found if part in (TOGETHER, EXPERTS, *blend.parts)]
        simple = _best({part: scores[part] for part in whole_parts if part not in (TOGETHER, NETWORK)}, up)
        behind = resample(scorers[simple], names=[head], resamples=resamples, seed=seed)[head]
        sign = 1.0 if up else -1.0
        gain = (sign * (scores[TOGETHER] - scores[simple]), *bounds(sign * (drawn - behind)))
        return Floor(
            metric=head,
            name=words(head, together.macro),
            higher_is_better=up,
            rows=together.rows,
            scores=scores,
            share=dict(zip(blend.parts, blend.share[0].tolist(), strict=True)),
            simple=simple,
            gain=gain,
            calibration={part: found[part][ERROR] for part in whole_parts if ERROR in found[part]},
            whole=dict(whole),
            silent=NETWORK in blend.parts and not bool(blend.share[:, blend.parts.index(NETWORK)].any()),
        )


def _best(scores: Mapping[str, float], higher_is_better: bool) -> str:
    """The part with the best score; one that rows say nothing of comes last."""
    sign = 1 if higher_is_better else -1
    return max(scores, key=lambda part: sign * value if (value := scores[part]) == value else float("-inf"))


def shown_streams(found: Floor, most: int) -> Sequence[str]:
    """The streams a page shows, those on which all together do best first."""
    sign = -1 if found.higher_is_better else 1
    order = torch.tensor([sign * value for value in found.whole.values()]).nan_to_num(torch.inf).argsort(stable=True)
    streams = list(found.whole)
    return [streams[i] for i in order.tolist()[:most]]
