"""An evaluation as text for a terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sensorium.evaluation.findings import number, shares, words

if TYPE_CHECKING:
    from sensorium.evaluation.evaluate import Evaluation, TargetScores

WIDTH = 24
LONGEST = 20


def written(evaluation: Evaluation) -> str:
    """Every target as a table, its streams as bars, and what it means."""
    blocks = [_target(target) for target in evaluation.targets.values()]
    if evaluation.findings:
        blocks.append("\n".join(["What it means", *(f"  • {sentence}" for sentence in evaluation.findings)]))
    return "\n\n".join(blocks) if blocks else "No rows to evaluate."


def _target(target: TargetScores) -> str:
    width = max(len(words(metric)) for metric in target.metrics)
    lines = [f"{target.name}  ({target.kind}, {target.rows:,} rows)"]
    head = f"    {'':{width}}  {'score':>9}  {'95 % interval':^21}"
    lines.append(head + (f"  {'baseline':>9}" if target.baseline else ""))
    for metric, value in target.metrics.items():
        low, high = target.intervals[metric]
        mark = "→" if metric == target.headline else " "
        line = f"  {mark} {words(metric):{width}}  {number(value):>9}  {number(low):>9} … {number(high):<9}"
        lines.append(line + (f"  {number(target.baseline[metric]):>9}" if target.baseline else ""))
    if len(target.subsets) > 1:
        lines += ["", *_bars(target)]
    if target.shapley:
        each = ", ".join(f"{stream} {value:+.3g}" for stream, value in shares(target))
        lines += ["", f"  What each stream brought: {each}"]
    return "\n".join(lines)


def _bars(target: TargetScores) -> list[str]:
    """The headline with each subset of streams, the best first."""
    scores = [(subset, metrics[target.headline]) for subset, metrics in target.subsets.items()]
    scores.sort(key=lambda item: (item[1] != item[1], -item[1] if target.higher_is_better else item[1]))
    width = max(len(subset) for subset, _ in scores)
    top = max((abs(value) for _, value in scores if value == value), default=1.0) or 1.0
    hidden = scores[LONGEST:]
    lines = [f"  {words(target.headline)} with these streams only"]
    for subset, value in scores[:LONGEST]:
        bar = "█" * round(WIDTH * max(0.0, value) / top) if value == value else ""
        lines.append(f"    {subset:{width}}  {number(value):>9}  {bar}")
    return [*lines, f"    … and {len(hidden)} more"] if hidden else lines
