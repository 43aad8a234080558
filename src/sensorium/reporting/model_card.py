"""What a model is, what it is meant for and where its limits are: the model card of a report."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from sensorium.core.errors import listed
from sensorium.core.schema import Schema
from sensorium.core.views import LIMITS, Sentence
from sensorium.evaluation.formatting import number

if TYPE_CHECKING:
    from sensorium.evaluation.results import Evaluation, TargetScores


def card(
    schema: Schema, evaluation: Evaluation, *, parameters: int, fusion: str, report: Mapping[str, Any]
) -> list[tuple[str, str]]:
    """The card: a heading and a sentence or two each. Only what is known of this model; what is not known it says so.

    Source: Mitchell et al. 2019, https://arxiv.org/abs/1810.03993.

    Args:
        parameters: The network's numbers.
        report: What training wrote down: rows, course.
    """
    targets = ", ".join(evaluation.targets)
    inputs = listed(f"{c.name} ({c.spec['kind']}{f' of {c.of}' if c.of else ''})" for c in schema.inputs)
    history = report.get("history", [])
    seconds = float(history[-1].get("seconds", 0.0)) if history else 0.0
    held = report.get("valid", {}).get("rows")
    chosen = f", its best epoch chosen on {held:,} others" if isinstance(held, int) else ""
    return [
        ("What it does", f"Answers {targets} from {inputs}. Its streams meet in the fusion {fusion}."),
        ("Learnt from", f"{report.get('rows', 0):,} rows of one table{chosen}. It has seen nothing else of the world."),
        ("Tested on", f"{evaluation.rows:,} rows, those of this page."),
        (
            "Meant for",
            "Rows gathered in the same way as those it learnt from. Any column may be missing; what that costs stands "
            "under the streams' worth.",
        ),
        (
            "Not meant for",
            "Rows of another origin, another time or other people than those tested here, unless tested again there; and "
            "decisions about people for which nobody answers.",
        ),
        ("Limits", " ".join(sentence for t in evaluation.targets.values() for sentence in _limits(t)) or "None showed."),
        ("Size", f"{parameters:,} numbers, {4 * parameters / 1e6:.1f} MB as they are stored."),
        (
            "Cost",
            f"Trained in {seconds:,.0f} seconds ({len(history)} epochs). {_padding(report)}"
            "The energy this took was not measured.",
        ),
    ]


def _padding(report: Mapping[str, Any]) -> str:
    share = report.get("padding", {}).get("trained")
    return f"Of what its encoders read then, {100 * share:.0f} % was padding. " if isinstance(share, float) else ""


def _limits(target: TargetScores) -> list[str]:
    found = [view.text for view in target.views if isinstance(view, Sentence) and view.name == LIMITS]
    if target.verdict in ("unclear", "worse"):
        name = target.named()
        found.append(
            f"{target.name}: {name} {number(target.metrics[target.headline])} does not clearly beat knowing nothing."
        )
    return found
