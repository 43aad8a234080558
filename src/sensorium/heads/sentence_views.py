"""Report views of generated sentences: the best, the worst, the least certain, and those generated most often."""

from __future__ import annotations

from collections import Counter

from sensorium.core.report_views import LIMITS, Cell, Sentence, Table, View
from sensorium.heads.sentence_scorer import SentenceScorer

SHOWN = 8
REFERENCES = 3
FEW_KINDS = 0.1
"""Share of distinct sentences, compared with that of the references, below which a report warns."""


def sentence_views(scorer: SentenceScorer) -> list[View]:
    """Return the best, worst and least certain sentences of ``scorer`` beside their references, and the most frequent."""
    head = scorer.metrics[0]
    value, sure = scorer.of_rows(head), scorer.kept["confidence"]

    def table(name: str, title: str, note: str, order: list[int]) -> Table:
        return Table(name, title, note, rows=[_row(scorer, i, head, float(value[i]), float(sure[i])) for i in order])

    # Equally good rows are ordered by certainty.
    ranked = sorted(range(scorer.rows), key=lambda i: (-float(value[i]), -float(sure[i])))
    unsure = sorted(range(scorer.rows), key=lambda i: float(sure[i]))
    common = Counter(scorer.generated).most_common(SHOWN)
    views: list[View] = [
        table("best", "Best sentences", f"The rows with the highest {head}.", ranked[:SHOWN]),
        table("worst", "Worst sentences", f"The rows with the lowest {head}, the most certain last.", ranked[-SHOWN:]),
        table("least_sure", "Least certain sentences", "The rows with the lowest probability of a token.", unsure[:SHOWN]),
        Table(
            "generated",
            "Most frequent sentences",
            f"{len(set(scorer.generated)):,} different sentences were generated for {scorer.rows:,} rows; their references "
            f"have {len({row[0] for row in scorer.references}):,}.",
            rows=[{"sentence": text or "(nothing)", "rows": count} for text, count in common],
        ),
    ]
    different = len({row[0] for row in scorer.references})
    if len(set(scorer.generated)) < FEW_KINDS * different:
        text = f"It generated {len(set(scorer.generated)):,} different sentences where the references have {different:,}."
        views.append(Sentence(LIMITS, "", text=text))
    return views


def _row(scorer: SentenceScorer, i: int, head: str, value: float, sure: float) -> dict[str, Cell]:
    references = scorer.references[i]
    more = f" (and {len(references) - REFERENCES} more)" if len(references) > REFERENCES else ""
    return {
        "generated": scorer.generated[i] or "(nothing)",
        "reference": " / ".join(references[:REFERENCES]) + more,
        head: round(value, 4),
        "confidence": round(sure, 4),
    }
