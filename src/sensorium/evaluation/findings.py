"""Findings: conclusions from the scores, as sentences."""

from __future__ import annotations

from collections.abc import Mapping
from math import isnan

from torch import Tensor

from sensorium.evaluation.bootstrap import bounds
from sensorium.evaluation.formatting import number
from sensorium.evaluation.results import TargetScores, Verdict
from sensorium.evaluation.stream_subsets import Subset, label

PHRASES = {
    "better": "significantly better than",
    "unclear": "not significantly better than",
    "worse": "significantly worse than",
}


def findings(target: TargetScores, draws: Mapping[Subset, Tensor]) -> list[str]:
    """Return the conclusions on one target: its score, the comparison with the baseline, the value of each stream.

    Args:
        target: Its scores.
        draws: The headline metric in each resample, by subset of streams; resamples are paired.
    """
    if target.rows == 0:
        return [f"{target.name}: no row has a target, so there is nothing to score."]
    if not target.varied:
        same = f"all {target.rows:,} scored rows have the same target, so no score shows whether the model discriminates"
        return [_how_good(target), f"{target.name}: {same}."]
    return [_how_good(target), *_controls(target), *_streams(target, draws)]


def verdict(higher_is_better: bool, whole: Tensor, baseline: Tensor | None) -> Verdict:
    """Return whether a model is significantly better than the baseline.

    Args:
        higher_is_better: Whether larger values of the metric are better.
        whole: The model's metric in each resample ``[R]``.
        baseline: The baseline's metric in the same resamples; None if unknown.
    """
    if baseline is None:
        return "unknown"
    low, high = bounds(whole - baseline if higher_is_better else baseline - whole)
    if isnan(low):
        return "unknown"
    return "better" if low > 0 else "worse" if high < 0 else "unclear"


def _gain(target: TargetScores, ahead: Tensor, behind: Tensor) -> tuple[float, float]:
    """Return the interval of the improvement of ``ahead`` over ``behind``; positive is better for every metric."""
    low, high = bounds(ahead - behind)
    return (low, high) if target.higher_is_better else (-high, -low)


def _how_good(target: TargetScores) -> str:
    name, value = target.named(), target.metrics[target.headline]
    low, high = target.intervals[target.headline]
    text = f"{target.name}: {name} {number(value)} (95 % interval {number(low)} to {number(high)}) on {target.rows:,} rows"
    if target.baseline is None or target.verdict == "unknown":
        return f"{text}."
    return f"{text}: {PHRASES[target.verdict]} {target.baseline_name} ({number(target.baseline[target.headline])})."


def _controls(target: TargetScores) -> list[str]:
    """Return a sentence on each control."""
    head = target.headline
    return [
        f"{target.name}, {name}: {target.named()} {number(control.metrics[head])}, {number(target.metrics[head])} as it is"
        f": {'significantly better' if control.beaten else 'no significant gain'}."
        for name, control in target.controls.items()
    ]


def _streams(target: TargetScores, draws: Mapping[Subset, Tensor]) -> list[str]:
    all_streams = target.whole
    if len(all_streams) < 2 or len(draws) < 2:
        return []
    name = target.named()
    scores = {subset: target.subsets[label(subset)][target.headline] for subset in draws}
    sign = 1 if target.higher_is_better else -1
    sentences, spare = [], []
    best = max(((s,) for s in all_streams), key=lambda subset: _rank(scores[subset], sign))
    if (scores[best] - scores[all_streams]) * sign > 0:
        sure = _gain(target, draws[best], draws[all_streams])[0] > 0
        more = "the other streams hurt significantly" if sure else "the other streams do not help on these rows"
        sentences.append(
            f"{best[0]} alone has {name} {number(scores[best])}, all together {number(scores[all_streams])}: {more}."
        )
    for stream in all_streams:
        rest = tuple(s for s in all_streams if s != stream)
        low, high = _gain(target, draws[all_streams], draws[rest])
        both = f"{name} {number(scores[rest])} without it, {number(scores[all_streams])} with it"
        if isnan(low):
            continue
        if low > 0:
            sentences.append(f"{stream} improves the score significantly: {both}.")
        elif high < 0:
            sentences.append(f"{stream} hurts the score significantly: {both}.")
        else:
            spare.append(stream)
            sentences.append(f"{stream} makes no significant difference on {target.rows:,} rows: {both}.")
    if len(spare) == len(all_streams):
        sentences.append("No single stream is essential: the streams are redundant, or none is informative.")
    return sentences


def _rank(value: float, sign: int) -> float:
    return float("-inf") if isnan(value) else value * sign


def shares(target: TargetScores) -> list[tuple[str, float]]:
    """Return the contribution of each stream to the headline metric of ``target``, largest first."""
    return sorted(target.shapley.items(), key=lambda item: -item[1])
