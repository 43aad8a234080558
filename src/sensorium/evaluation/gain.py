"""The gain from starting from a base, by number of labelled rows: results as data."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import mean, stdev
from typing import Any, ClassVar, Literal

from sensorium.core.rendering import Rendered

Verdict = Literal["better", "worse", "alike"]


@dataclass(frozen=True)
class Scores:
    """The scores of several seeds, from scratch and from the base, on the same labelled rows.

    Args:
        scratch: Scores of models that start from random weights.
        base: Scores of models that start from the base.
    """

    scratch: Sequence[float]
    base: Sequence[float]

    @property
    def difference(self) -> float:
        """The mean score from the base minus the mean score from scratch."""
        return mean(self.base) - mean(self.scratch)

    @property
    def spread(self) -> float:
        """The larger of the two standard deviations over the seeds; 0 with one seed."""
        return max(deviation(self.scratch), deviation(self.base))

    def verdict(self, higher_is_better: bool) -> Verdict:
        """Return ``better`` or ``worse`` if the means differ by more than the spread, else ``alike``.

        Args:
            higher_is_better: Whether a larger score is better.
        """
        gained = self.difference if higher_is_better else -self.difference
        return "better" if gained > self.spread else "worse" if gained < -self.spread else "alike"


def deviation(values: Sequence[float]) -> float:
    """Return the standard deviation of ``values``; 0 for a single value."""
    return stdev(values) if len(values) > 1 else 0.0


@dataclass(frozen=True)
class Gain(Rendered):
    """The gain from starting from a base, by number of labelled rows.

    Args:
        target: The target.
        metric: The metric.
        higher_is_better: Whether a larger score is better.
        test_rows: Number of scored rows, on which no model is trained.
        seeds: Number of samples of labelled rows; a model from scratch and one from the base are trained on each.
        scores: The scores by number of labelled rows and stream; ``""`` is all streams together.
        failed: By number of labelled rows, the reason why no model could be trained.
        seconds: CPU seconds of this process.
    """

    renderer: ClassVar[str] = "gain_text"

    target: str
    metric: str
    higher_is_better: bool
    test_rows: int
    seeds: int
    scores: dict[int, dict[str, Scores]] = field(default_factory=dict)
    failed: dict[int, str] = field(default_factory=dict)
    seconds: float = 0.0

    def to_json(self) -> dict[str, Any]:
        """Return JSON-serialisable data."""
        by_labels = {
            str(labels): {
                stream or "all": {
                    "scratch": list(stream_scores.scratch),
                    "base": list(stream_scores.base),
                    "difference": stream_scores.difference,
                    "spread": stream_scores.spread,
                    "verdict": stream_scores.verdict(self.higher_is_better),
                }
                for stream, stream_scores in by_stream.items()
            }
            for labels, by_stream in self.scores.items()
        }
        return {
            "target": self.target,
            "metric": self.metric,
            "higher_is_better": self.higher_is_better,
            "test_rows": self.test_rows,
            "seeds": self.seeds,
            "labels": by_labels,
            "failed": {str(labels): why for labels, why in self.failed.items()},
            "seconds": self.seconds,
        }
