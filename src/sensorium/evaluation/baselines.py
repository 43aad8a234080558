"""Scores of each component of an ensemble: whether the network improves on the experts, which are fitted in seconds."""

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
"""The complete ensemble."""
EXPERTS = "experts"
"""All experts without the network, as with ``--quality fast``, with their weights in the ensemble."""
ERROR = "calibration_error"
Earned = Literal["yes", "not told apart", "no"]


@dataclass
class ComponentScores:
    """The scores of an ensemble's components on the same rows, for one task.

    Args:
        metric: The headline metric.
        name: Its display name.
        higher_is_better: Whether larger values are better.
        rows: Number of scored rows.
        scores: The metric by component: ``together``, ``network``, each expert, ``experts`` (all of them, if there are
            several), and each expert ``on`` a single stream (``linear on note``).
        share: Ensemble weights of the network and each expert for rows that have every stream.
        simple: The best component that needs no network.
        gain: Improvement of the ensemble over ``simple`` (positive is better for every metric): the difference and its
            95 % paired bootstrap interval.
        calibration: The calibration error of the same components, for tasks that predict probabilities.
        whole: The metric of the ensemble on each single stream.
        silent: Whether the network has zero weight for every set of streams.
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
        """Whether the network improves the ensemble significantly; None without a network or an interval."""
        _, low, high = self.gain
        if NETWORK not in self.share or low != low:
            return None
        if self.silent:
            return "no"
        return "yes" if low > 0 else "no" if high < 0 else "not told apart"

    def best_on(self, stream: str) -> tuple[str, float] | None:
        """Return the expert with the best score on ``stream`` alone and that score; None if none reads it."""
        known = {kind: self.scores[on] for kind in self.share if (on := f"{kind} on {stream}") in self.scores}
        return None if not known else (kind := _best(known, self.higher_is_better), known[kind])

    def to_json(self) -> dict[str, Any]:
        """Return JSON-serialisable data."""
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
        """Return the results as sentences."""
        scores, metric = self.scores, self.name
        best = f"best simple method {named(self.simple)} {number(scores[self.simple])}"
        alone = f", network alone {number(scores[NETWORK])}" if NETWORK in scores else ""
        weights = ", ".join(f"{part} {100 * value:.0f} %" for part, value in self.share.items())
        lines = [f"Ensemble {metric} {number(scores[TOGETHER])}; {best}{alone}. Ensemble weights: {weights}."]
        if self.earned is not None:
            lines.append(f"{self._verdict()}.")
        if self.calibration:
            rest = ", ".join(
                f"{named(part)} {number(self.calibration[part])}" for part in self.calibration if part != TOGETHER
            )
            lines.append(f"Calibration error: ensemble {number(self.calibration[TOGETHER])}; {rest}.")
        return lines

    def _verdict(self) -> str:
        mean, low, high = self.gain
        if self.silent:
            return "The network has zero weight in the ensemble: --quality fast, which trains none, is equally good here"
        how = f"{self.name} {'better' if mean >= 0 else 'worse'} by {number(abs(mean))}"
        gain = f"{how} than {named(self.simple)}, 95 % interval {low:+.3g} to {high:+.3g}, on {self.rows:,} rows"
        return {
            "yes": f"The network improves the ensemble significantly ({gain})",
            "no": f"The network makes the ensemble significantly worse ({gain}); use --quality fast, which trains none",
            "not told apart": f"The network makes no significant difference ({gain}): --quality fast may be as good",
        }[self.earned or "not told apart"]


def named(part: str) -> str:
    """Return the display name of the component ``part``."""
    return "all experts" if part == EXPERTS else part


class ComponentAccumulator:
    """Accumulates the scores of each component of a model over batches; empty for a model without experts.

    Args:
        model: The model.
        alone: Whether to score the experts on each single stream too.
    """

    def __init__(self, model: Model, *, alone: bool = True) -> None:
        self.model = model
        self.ensemble = model.experts if isinstance(model.experts, Ensemble) else None
        self.alone = alone and len(model.streams) > 1
        self.scorers: dict[str, dict[str, Scorer[Any]]] = {}

    def update(self, run: Forward, batch: Batch) -> None:
        """Add the outputs of the components for a batch.

        Args:
            run: The forward pass of the model, or of another with the same components fitted on other rows.
            batch: The batch.
        """
        if self.ensemble is None:
            return
        ensemble = run.model.experts
        assert isinstance(ensemble, Ensemble)
        for name in self.ensemble.experts:
            task, scorers = self.model.tasks[name], self.scorers.setdefault(name, {})
            for part, output in self._outputs(ensemble, name, run).items():
                scorers.setdefault(part, task.scorer()).update(output, batch)

    def _outputs(self, ensemble: Ensemble, name: str, run: Forward) -> dict[str, Any]:
        task = self.model.tasks[name]
        present = {stream: part.present for stream, part in run.kept.items()}
        by_expert = {kind: task.scored(score) for kind, score in ensemble.scores(name, run.read, present).items()}
        outputs: dict[str, Any] = {**({NETWORK: run.own[name]} if self.model.network else {}), **by_expert}
        if len(by_expert) > 1:
            outputs[EXPERTS] = ensemble.blends[name].without(NETWORK, task.plain, by_expert, present)
        for stream in ensemble.heard if self.alone else ():
            only = {s: mask & (s == stream) for s, mask in present.items()}
            scores = ensemble.scores(name, run.read, only)
            outputs |= {f"{kind} on {stream}": task.scored(score) for kind, score in scores.items()}
        return outputs

    def floor(
        self, name: str, together: Scorer[Any], drawn: Tensor, whole: Mapping[str, float], resamples: int, seed: int
    ) -> ComponentScores | None:
        """Return the scores of a task's components; None if it has none.

        Args:
            name: The task.
            together: The scorer of the complete ensemble.
            drawn: Its headline metric in each resample ``[R]``.
            whole: Its headline metric on each single stream.
            resamples: Number of bootstrap resamples.
            seed: Seed of the resamples; with the same seed the resamples are paired with ``drawn``.
        """
        scorers = self.scorers.get(name, {})
        if self.ensemble is None or not scorers or not together.rows:
            return None
        task, blend = self.model.tasks[name], self.ensemble.blends[name]
        head, up = task.headline, task.higher_is_better
        by_part = {part: plain_scores(scorer) for part, scorer in {TOGETHER: together, **scorers}.items()}
        scores = {part: metrics[head] for part, metrics in by_part.items()}
        whole_parts = [part for part in by_part if part in (TOGETHER, EXPERTS, *blend.parts)]
        simple = _best({part: scores[part] for part in whole_parts if part not in (TOGETHER, NETWORK)}, up)
        behind = resample(scorers[simple], names=[head], resamples=resamples, seed=seed)[head]
        sign = 1.0 if up else -1.0
        gain = (sign * (scores[TOGETHER] - scores[simple]), *bounds(sign * (drawn - behind)))
        return ComponentScores(
            metric=head,
            name=words(head, together.macro),
            higher_is_better=up,
            rows=together.rows,
            scores=scores,
            share=dict(zip(blend.parts, blend.share[0].tolist(), strict=True)),
            simple=simple,
            gain=gain,
            calibration={part: by_part[part][ERROR] for part in whole_parts if ERROR in by_part[part]},
            whole=dict(whole),
            silent=NETWORK in blend.parts and not bool(blend.share[:, blend.parts.index(NETWORK)].any()),
        )


def _best(scores: Mapping[str, float], higher_is_better: bool) -> str:
    """Return the component with the best score; NaN ranks last."""
    sign = 1 if higher_is_better else -1
    return max(scores, key=lambda part: sign * value if (value := scores[part]) == value else float("-inf"))


def shown_streams(scores: ComponentScores, most: int) -> Sequence[str]:
    """Return the ``most`` streams of ``scores`` on which the ensemble scores best, best first."""
    sign = -1 if scores.higher_is_better else 1
    order = torch.tensor([sign * value for value in scores.whole.values()]).nan_to_num(torch.inf).argsort(stable=True)
    streams = list(scores.whole)
    return [streams[i] for i in order.tolist()[:most]]
