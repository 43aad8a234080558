"""The model card of a report: purpose, data and limitations of a model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from sensorium.core.errors import listed
from sensorium.core.report_views import LIMITS, Sentence
from sensorium.core.schema import Schema
from sensorium.evaluation.formatting import number

if TYPE_CHECKING:
    from sensorium.evaluation.results import Evaluation, TargetScores


def card(
    schema: Schema, evaluation: Evaluation, *, parameters: int, fusion: str, report: Mapping[str, Any]
) -> list[tuple[str, str]]:
    """Return the entries of the model card as pairs of heading and text.

    Source: Mitchell et al. 2019, https://arxiv.org/abs/1810.03993.

    Args:
        schema: The model's schema.
        evaluation: Its evaluation.
        parameters: Number of parameters of the network.
        fusion: Name of the fusion.
        report: The training report: rows, history.
    """
    targets = ", ".join(evaluation.targets)
    inputs = listed(f"{c.name} ({c.spec['kind']}{f' of {c.of}' if c.of else ''})" for c in schema.inputs)
    history = report.get("history", [])
    seconds = float(history[-1].get("seconds", 0.0)) if history else 0.0
    held = report.get("valid", {}).get("rows")
    chosen = f"; the best epoch was selected on {held:,} validation rows" if isinstance(held, int) else ""
    return [
        ("Purpose", f"Predicts {targets} from {inputs}. The streams are combined by the fusion {fusion}."),
        ("Training data", f"{report.get('rows', 0):,} rows of one table{chosen}."),
        ("Evaluation data", f"{evaluation.rows:,} rows, those of this page."),
        (
            "Intended use",
            "Rows collected in the same way as the training data. Any column may be missing; the resulting loss of "
            "accuracy is shown under the contributions of the streams.",
        ),
        (
            "Out-of-scope use",
            "Rows of another origin, time or population than those evaluated here, unless evaluated again; and decisions "
            "about people without human accountability.",
        ),
        (
            "Limitations",
            " ".join(sentence for t in evaluation.targets.values() for sentence in _limits(t)) or "None were observed.",
        ),
        ("Size", f"{parameters:,} parameters, {4 * parameters / 1e6:.1f} MB on disk."),
        (
            "Cost",
            f"Trained in {seconds:,.0f} seconds ({len(history)} epochs). {_padding(report)}"
            "Energy consumption was not measured.",
        ),
    ]


def _padding(report: Mapping[str, Any]) -> str:
    share = report.get("padding", {}).get("trained")
    return f"Padding was {100 * share:.0f} % of the encoders' input. " if isinstance(share, float) else ""


def _limits(target: TargetScores) -> list[str]:
    limits = [view.text for view in target.views if isinstance(view, Sentence) and view.name == LIMITS]
    if target.verdict in ("unclear", "worse"):
        name = target.named()
        value = number(target.metrics[target.headline])
        limits.append(f"{target.name}: {name} {value} is not significantly better than the baseline.")
    return limits
