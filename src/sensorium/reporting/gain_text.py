"""Rendering of the gain from a base for a terminal."""

from __future__ import annotations

from statistics import mean

from sensorium.core.plurals import counted
from sensorium.evaluation.gain import Gain, Scores, deviation


def text(gain: Gain) -> str:
    """Return the scores of ``gain`` with and without the base, and warnings where the base makes a score worse."""
    lines = [
        f"{gain.metric} of {gain.target} on {counted(gain.test_rows, 'row')}, mean ± deviation of "
        f"{counted(gain.seeds, 'sample')} of labelled rows"
    ]
    for labels, by_stream in gain.scores.items():
        lines.append(f"  {counted(labels, 'labelled row')}")
        width = max(len(name or "all streams") for name in by_stream)
        for name, scores in by_stream.items():
            lines.append(f"    {name or 'all streams':<{width}}  {_line(scores, gain.higher_is_better)}")
    lines += [f"  {counted(labels, 'labelled row')}: {why}" for labels, why in gain.failed.items()]
    for labels, by_stream in gain.scores.items():
        lost = [
            name or "all streams" for name, scores in by_stream.items() if scores.verdict(gain.higher_is_better) == "worse"
        ]
        if lost:
            lines.append(f"  warning: with {counted(labels, 'labelled row')} the base makes worse: {', '.join(lost)}")
    return "\n".join(lines)


def _line(scores: Scores, higher_is_better: bool) -> str:
    words = {"better": "better", "worse": "WORSE", "alike": "within the spread"}[scores.verdict(higher_is_better)]
    scratch, base = (f"{mean(values):.3f} ± {deviation(values):.3f}" for values in (scores.scratch, scores.base))
    return f"scratch {scratch}  base {base}  {scores.difference:+.3f}  {words}"
