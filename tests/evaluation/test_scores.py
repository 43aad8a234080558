"""Intervals, subsets and Shapley values by the properties that define them."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import combinations, permutations
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from sensorium.core.batch import Batch, Field, joined
from sensorium.core.goal import Goal
from sensorium.core.scorer import Scorer, plain_scores
from sensorium.core.task import Task
from sensorium.evaluation.bootstrap import bounds, intervals, resample
from sensorium.evaluation.evaluate import evaluate
from sensorium.evaluation.score_accumulator import ScoreAccumulator
from sensorium.evaluation.stream_subsets import label, stream_contributions, subsets_of
from sensorium.metrics.class_tables import calibration, confusion, per_class
from sensorium.metrics.pair_scorer import PairScorer, from_function
from sensorium.model import Model
from sensorium.tasks.classification import Classification
from sensorium.tasks.regression import Regression

Make = Callable[..., tuple[Model, list[Batch]]]


def classifier(count: int = 3) -> Classification:
    names = [f"c{k}" for k in range(count)]
    reader: Any = SimpleNamespace(classes=names, decode=lambda value: names[int(value[0])], ragged=False)
    return Classification(Goal.of(reader), 4)


def answers(rows: int, count: int = 3, seed: int = 0) -> tuple[Tensor, Field]:
    generator = torch.Generator().manual_seed(seed)
    truth = torch.randint(count, (rows,), generator=generator)
    logits = torch.randn(rows, count, generator=generator) + 1.2 * torch.nn.functional.one_hot(truth, count)
    return logits, Field(truth.float()[:, None], torch.ones(rows, dtype=torch.bool))


def scored(task: Task[Any], output: Tensor, target: Field) -> Scorer[Any]:
    scorer = task.scorer()
    scorer.update(output, Batch({}, {"target": target}, torch.ones(output.shape[0])))
    return scorer


def score(task: Task[Any], output: Tensor, target: Field) -> dict[str, float]:
    return plain_scores(scored(task, output, target))


def test_rows_without_a_target_do_not_count() -> None:
    logits, target = answers(50)
    half = torch.arange(50) < 25
    hidden = Field(torch.where(half[:, None], target.data, torch.nan), half)
    assert score(classifier(), logits, hidden) == score(classifier(), logits[:25], target.map(lambda t: t[:25]))
    none = score(classifier(), logits, target.hide(torch.zeros(50, dtype=torch.bool)))
    assert all(math.isnan(value) for value in none.values())
    assert next(iter(none)) == "accuracy"


def test_a_weighted_resample_is_the_score_of_the_repeated_rows() -> None:
    logits, target = answers(40)
    task = classifier()
    drawn = resample(scored(task, logits, target), resamples=5, seed=3)
    index = torch.randint(40, (5, 40), generator=torch.Generator().manual_seed(3))
    for i in range(5):
        expected = score(task, logits[index[i]], target.map(lambda t, i=i: t[index[i]]))  # type: ignore[misc]
        assert {name: float(values[i]) for name, values in drawn.items()} == pytest.approx(expected, abs=1e-6)


def test_library_metrics_are_scored_on_the_same_rows() -> None:
    from torchmetrics import MeanAbsoluteError
    from torchmetrics.classification import MulticlassAccuracy

    logits, target = answers(30)
    task = classifier()
    own = resample(scored(task, logits, target), names=["accuracy"], resamples=20, seed=1)["accuracy"]
    foreign = PairScorer(task, task.compare, {"accuracy": from_function(MulticlassAccuracy(3, average="micro"))})
    foreign.load(scored(task, logits, target).kept)
    torch.testing.assert_close(resample(foreign, resamples=20, seed=1)["accuracy"], own, atol=1e-6, rtol=0)
    number: Any = SimpleNamespace(decode=lambda value: float(value[0]), logarithmic=False)
    price = Regression(Goal.of(number), 4)
    numbers = scored(price, torch.randn(30, 1), Field(torch.randn(30, 1), torch.ones(30, dtype=torch.bool)))
    other = PairScorer(price, price.compare, {"mae": from_function(MeanAbsoluteError())})
    other.load(numbers.kept)
    own = resample(numbers, names=["mae"], resamples=20)["mae"]
    torch.testing.assert_close(resample(other, resamples=20)["mae"], own, atol=1e-6, rtol=1e-6)


def test_intervals_are_seeded_hold_the_score_and_shrink_with_rows() -> None:
    wide, narrow = (intervals(scored(classifier(), *answers(rows))) for rows in (50, 800))
    assert wide == intervals(scored(classifier(), *answers(50)))
    assert wide != intervals(scored(classifier(), *answers(50)), seed=1)
    result = score(classifier(), *answers(800))
    for name in ("accuracy", "f1", "auroc", "log_loss"):
        assert narrow[name][0] <= result[name] <= narrow[name][1]
        assert narrow[name][1] - narrow[name][0] < 0.5 * (wide[name][1] - wide[name][0])


def test_intervals_have_about_nominal_coverage() -> None:
    logits, target = answers(40_000, seed=9)
    task = classifier()
    truth = score(task, logits, target)["accuracy"]
    inside = 0
    for i in range(200):
        part = slice(i * 200, (i + 1) * 200)
        rows = scored(task, logits[part], target.map(lambda t, part=part: t[part]))  # type: ignore[misc]
        low, high = bounds(resample(rows, names=["accuracy"], resamples=200, seed=i)["accuracy"])
        inside += low <= truth <= high
    assert 0.88 <= inside / 200 <= 0.99


def test_no_row_and_no_resample_give_no_interval() -> None:
    logits, target = answers(5)
    assert all(map(math.isnan, intervals(scored(classifier(), logits, target), resamples=0)["accuracy"]))
    none = scored(classifier(), logits[:0], target.map(lambda t: t[:0]))
    assert all(map(math.isnan, intervals(none)["accuracy"]))


def test_all_subsets_up_to_six_streams_then_singles_and_all_but_one() -> None:
    assert len(set(subsets_of("abcdef"))) == 63
    many = subsets_of("abcdefgh")
    assert len(set(many)) == len(many) == 8 + 8 + 1
    assert many[0] == tuple("abcdefgh")
    assert subsets_of(["image"]) == [("image",)]
    assert label(subsets_of(["image", "audio"])[0]) == "image+audio"


def test_a_subset_is_scored_as_a_batch_without_the_other_streams(make: Make) -> None:
    model, batches = make(rows=100)
    evaluation = evaluate(model, batches, resamples=2).targets["animal"].subsets
    model.eval()
    for subset in subsets_of(model.streams):
        others = [s for s in model.streams if s not in subset]
        tally = ScoreAccumulator(model.tasks)
        for batch in batches:
            tally.update(model(batch.without(*others)), batch)
        assert evaluation[label(subset)] == pytest.approx(tally.each["animal"].scores(), abs=1e-6)


def test_every_stream_is_encoded_once_a_batch(make: Make) -> None:
    model, batches = make(rows=100)
    calls = []
    for name in model.streams:
        model.encoders[name].register_forward_hook(lambda *_: calls.append(1))
    evaluate(model, batches, resamples=2)
    assert len(calls) == len(batches) * 3


def test_outputs_of_any_shape_are_joined() -> None:
    parts = [{"a": (torch.ones(2, 3), Field(torch.ones(2, 1), torch.ones(2, dtype=torch.bool)))} for _ in range(3)]
    both = joined(parts)
    assert both["a"][0].shape == (6, 3)
    assert both["a"][1].present.shape == (6,)
    assert both["a"][1].mask is None
    ragged = joined([Field(torch.ones(2, n, 3), torch.ones(2, dtype=torch.bool), torch.ones(2, n) > 0) for n in (2, 5)])
    assert ragged.data.shape == (4, 5, 3)
    assert ragged.mask.sum(dim=1).tolist() == [2, 2, 5, 5]


@pytest.mark.parametrize("count", [1, 2, 4])
def test_contributions_are_the_mean_gain_over_all_orders(count: int) -> None:
    streams = tuple("abcd"[:count])
    generator = torch.Generator().manual_seed(count)
    scores = {
        subset: float(torch.rand((), generator=generator))
        for size in range(1, count + 1)
        for subset in combinations(streams, size)
    }
    value = {frozenset(k): v for k, v in scores.items()} | {frozenset(): 0.1}
    gains: dict[str, list[float]] = {s: [] for s in streams}
    for order in permutations(streams):
        for i, stream in enumerate(order):
            gains[stream].append(value[frozenset(order[: i + 1])] - value[frozenset(order[:i])])
    result = stream_contributions(scores, 0.1)
    assert result == pytest.approx({s: sum(g) / len(g) for s, g in gains.items()})
    assert sum(result.values()) == pytest.approx(scores[streams] - 0.1)


def test_contributions_of_many_streams_are_exact_for_pairwise_interactions() -> None:
    streams = tuple("abcdefgh")
    own = {s: 0.1 * i for i, s in enumerate(streams)}

    def value(subset: tuple[str, ...]) -> float:
        return 0.3 + sum(own[s] for s in subset) + (0.5 if {"a", "c"} <= set(subset) else 0.0)

    results = stream_contributions({subset: value(subset) for subset in subsets_of(streams)}, 0.3)
    assert results == pytest.approx({s: own[s] + (0.25 if s in "ac" else 0.0) for s in streams})


def test_confusion_counts_are_consistent() -> None:
    logits, target = answers(200)
    kept = scored(classifier(), logits, target).kept
    chance, truth = kept["prediction"], kept["truth"]
    counts = confusion(chance, truth)
    assert sum(map(sum, counts)) == 200
    assert [sum(row) for row in counts] == torch.bincount(truth, minlength=3).tolist()
    assert sum(counts[k][k] for k in range(3)) / 200 == pytest.approx(score(classifier(), logits, target)["accuracy"])
    bins = calibration(chance, truth)
    assert sum(b.rows for b in bins) == 200
    error = sum(b.rows / 200 * abs(b.confidence - b.accuracy) for b in bins)
    assert error == pytest.approx(score(classifier(), logits, target)["calibration_error"], abs=1e-6)
    rows = per_class(counts, ["a", "b", "c"])
    assert [row.rows for row in rows] == sorted((sum(row) for row in counts), reverse=True)
