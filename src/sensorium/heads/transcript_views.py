"""Report views of transcripts: the best, the worst, the least certain, and which words were taken for which."""

from __future__ import annotations

from sensorium.core.report_views import LIMITS, Cell, Matrix, Sentence, Table, View
from sensorium.heads.transcript_scorer import TranscriptScorer
from sensorium.metrics.transcripts import NOTHING, confusions

SHOWN = 8
MANY = 0.1
"""Share of omitted or inserted words above which a report mentions them."""


def transcript_views(scorer: TranscriptScorer) -> list[View]:
    """Return tables of the best, the worst and the least certain transcripts of ``scorer``, and the confused words."""
    kept = scorer.kept
    words, sure = kept["words"], kept["confidence"].tolist()
    rate = (words[:, 0] / words[:, 1].clamp(min=1)).tolist()

    def table(name: str, title: str, note: str, order: list[int]) -> Table:
        rows: list[dict[str, Cell]] = [
            {
                "recognised": kept["answer"][i] or NOTHING,
                "true": kept["truth"][i],
                "errors": int(words[i, 0]),
                "confidence": round(sure[i], 4),
            }
            for i in order
        ]
        return Table(name, title, note, rows=rows)

    # Equally good rows: the longest first.
    ranked = sorted(range(scorer.rows), key=lambda i: (rate[i], -int(words[i, 1]), -sure[i]))
    unsure = sorted(range(scorer.rows), key=lambda i: sure[i])
    names, counts = confusions(kept["truth"], kept["differing"])
    pairs = sorted(
        ((n, true, other) for true, row in zip(names, counts, strict=True) for other, n in zip(names, row, strict=True)),
        reverse=True,
    )
    wrong = [(n, true, other) for n, true, other in pairs if n and true != other]
    views: list[View] = [
        table("best", "Best transcripts", "The longest of those with the fewest errors.", ranked[:SHOWN]),
        table("worst", "Worst transcripts", "Those with the most errors per word.", ranked[::-1][:SHOWN]),
        table("least_sure", "Least certain transcripts", "Those with the lowest probability.", unsure[:SHOWN]),
        Table(
            "confused",
            "Confused words",
            f"The most frequent errors; {NOTHING} stands for a word that was left out or inserted.",
            rows=[{"true": true, "recognised": other, "times": n} for n, true, other in wrong[: 2 * SHOWN]],
        ),
    ]
    if len(names) <= Matrix.most:
        note = "A row for each true word, a column for what was recognised."
        views.append(Matrix("confusion", "Words taken for others", note, labels=names, counts=counts))
    total = max(int(words[:, 1].sum()), 1)
    left_out = sum(n for n, _, other in wrong if other == NOTHING)
    inserted = sum(n for n, true, _ in wrong if true == NOTHING)
    for count, what in ((left_out, "left out"), (inserted, "inserted")):
        if count > MANY * total:
            text = f"{count:,} words were {what}, {count / total:.0%} of those that were said or written."
            views.append(Sentence(LIMITS, "", text=text))
    return views
