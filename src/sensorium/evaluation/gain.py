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
        scratch: Of models that start from random weights.
        base: Of models that start from the base.
    """

    scratch: Sequence[float]
    base: Sequence[float]

    @property
    def difference(self) -> float:
        """The mean of the base less the mean from scratch."""
        return mean(self.base) - mean(self.scratch)

    @property
    def spread(self) -> float:
        """The larger standard deviation over the seeds of the two; 0 with one seed."""
        return max(deviation(self.scratch), deviation(self.base))

    def verdict(self, higher_is_better: bool) -> Verdict:
        """Whether the means differ by more than the spread, ``higher_is_better`` saying in which direction."""
        gained = self.difference if higher_is_better else -self.difference
        return "better" if gained > self.spread else "worse" if gained < -self.spread else "alike"


def deviation(values: Sequence[float]) -> float:
    """The standard deviation of ``values``, 0 of one."""
    return stdev(values) if len(values) > 1 else 0.0


@dataclass(frozen=True)
class Gain(Rendered):
    """The gain from a base.

    Args:
        target: The target.
        metric: What is scored.
        higher_is_better: Whether a larger score is better.
        test_rows: Rows that are scored, which no model learns from.
        seeds: How many samples of labelled rows, each with a model from scratch and one from the base.
        scores: By number of labelled rows and stream, ``""`` for all streams together.
        failed: By number of labelled rows, why nothing could be trained.
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
        """Everything as plain data."""
        each = {
            str(labels): {
                stream or "all": {
                    "scratch": list(one.scratch),
                    "base": list(one.base),
                    "difference": one.difference,
                    "spread": one.spread,
                    "verdict": one.verdict(self.higher_is_better),
                }
                for stream, one in by_stream.items()
            }
            for labels, by_stream in self.scores.items()
        }
        return {
            "target": self.target,
            "metric": self.metric,
            "higher_is_better": self.higher_is_better,
            "test_rows": self.test_rows,
            "seeds": self.seeds,
            "labels": each,
            "failed": {str(labels): why for labels, why in self.failed.items()},
            "seconds": self.seconds,
        }
