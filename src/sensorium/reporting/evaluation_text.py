"""Evaluations as text for a terminal."""

from __future__ import annotations

from sensorium.core.plurals import counted
from sensorium.evaluation.findings import shares
from sensorium.evaluation.formatting import number, words
from sensorium.evaluation.results import Evaluation, TargetScores
from sensorium.evaluation.robustness import Robustness

WIDTH = 24
LONGEST = 20


def text(evaluation: Evaluation) -> str:
    """Render ``evaluation`` as text: metrics and streams of every target, robustness and findings."""
    blocks = [_target(target) for target in evaluation.targets.values()]
    blocks += [_robustness(result) for result in evaluation.robustness.values()]
    if evaluation.findings:
        blocks.append("\n".join(["Findings", *(f"  • {sentence}" for sentence in evaluation.findings)]))
    return "\n\n".join(blocks) if blocks else "No rows to evaluate."


def _target(target: TargetScores) -> str:
    width = max(len(target.named(metric)) for metric in target.metrics)
    lines = [f"{target.name}  ({target.kind}, {counted(target.rows, 'row')})"]
    head = f"    {'':{width}}  {'score':>9}  {'95 % interval':^21}"
    lines.append(head + (f"  {'baseline':>9}" if target.baseline else ""))
    for metric, value in target.metrics.items():
        low, high = target.intervals[metric]
        mark = "→" if metric == target.headline else " "
        line = f"  {mark} {target.named(metric):{width}}  {number(value):>9}  {number(low):>9} … {number(high):<9}"
        lines.append(line + (f"  {number(target.baseline[metric]):>9}" if target.baseline else ""))
    if target.controls:
        lines += ["", *_controls(target)]
    if len(target.subsets) > 1:
        lines += ["", *_bars(target)]
    if target.shapley:
        listed = ", ".join(f"{stream} {value:+.3g}" for stream, value in shares(target))
        lines += ["", f"  Contribution of each stream: {listed}"]
    if target.floor is not None:
        lines += ["", "  Components", *(f"    {sentence}" for sentence in target.floor.sentences())]
    return "\n".join(lines)


def _controls(target: TargetScores) -> list[str]:
    """Every metric of the controls, a line each."""
    rows = {"as it is": target.metrics, **{name: control.metrics for name, control in target.controls.items()}}
    if target.baseline:
        rows["without any input"] = target.baseline
    width = max(map(len, rows))
    names = {metric: target.named(metric) for metric in target.metrics}
    wide = {metric: max(11, len(name)) for metric, name in names.items()}
    lines = ["  What the scores are worth"]
    lines += [f"    {'':{width}}" + "".join(f"  {name:>{wide[metric]}}" for metric, name in names.items())]
    return lines + [
        f"    {name:{width}}" + "".join(f"  {number(values[metric]):>{wide[metric]}}" for metric in names)
        for name, values in rows.items()
    ]


def _bars(target: TargetScores) -> list[str]:
    """The headline metric with each subset of streams, best first."""
    scores = [(subset, metrics[target.headline]) for subset, metrics in target.subsets.items()]
    scores.sort(key=lambda item: (item[1] != item[1], -item[1] if target.higher_is_better else item[1]))
    width = max(len(subset) for subset, _ in scores)
    top = max((abs(value) for _, value in scores if value == value), default=1.0) or 1.0
    hidden = scores[LONGEST:]
    lines = [f"  {target.named()} with these streams only"]
    for subset, value in scores[:LONGEST]:
        bar = "█" * round(WIDTH * max(0.0, value) / top) if value == value else ""
        lines.append(f"    {subset:{width}}  {number(value):>9}  {bar}")
    return [*lines, f"    … and {len(hidden)} more"] if hidden else lines


def _robustness(result: Robustness) -> str:
    """The robustness curves and their areas."""
    if not result.curves:
        return f"{result.target}: nothing to remove or corrupt"
    width = max(len(curve.stream) for curve in result.curves)
    how_width = max(len(curve.how) for curve in result.curves)
    steps = "".join(f"{step:>9.2f}" for step in result.curves[0].steps)
    degradation = "as a stream is removed (share of rows) or corrupted (level)"
    lines = [f"{result.target}: {words(result.metric)} {degradation}, {counted(result.rows, 'row')}"]
    lines.append(f"  {'':{width}}  {'':{how_width}}{steps}     area")
    before = ""
    for curve in result.curves:
        name, before = ("" if curve.stream == before else curve.stream), curve.stream
        values = "".join(f"{number(value):>9}" for value in curve.scores)
        lines.append(f"  {name:{width}}  {curve.how:{how_width}}{values}{number(curve.area):>9}")
    parts = [("removal", result.removal_area), ("corruption", result.corruption_area)]
    means = ", ".join(f"{name} {number(value)}" for name, value in parts if value == value)
    lines.append(f"  mean area: {means}  (share of the clean score retained, averaged over the curve)")
    for stream, best in result.references.items():
        left = result.of(stream)[0].scores[-1]
        reference = f"the best model trained without it scores {number(best.score)} ({best.name})"
        lines.append(f"  without {stream} this model scores {number(left)}; {reference}")
    return "\n".join(lines)
