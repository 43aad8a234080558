"""Evaluation of models with known performance."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable

import pytest
import torch
from sklearn.metrics import accuracy_score

from sensorium.core.batch import Batch
from sensorium.evaluation.evaluate import evaluate
from sensorium.evaluation.results import Evaluation
from sensorium.model import Model

Make = Callable[..., tuple[Model, list[Batch]]]


def known(model, batch):
    """What each task answers from the targets alone."""
    return {name: model.tasks[name].baseline([target]) for name, target in batch.targets.items()}


def test_scores_match_the_predictions(make: Make) -> None:
    model, batches = make()
    evaluation = evaluate(model, batches, baselines=known(model, batches[0])).targets["animal"]
    truth = [t for t in evaluation.truths if t is not None]
    predicted = [p["value"] for p, t in zip(evaluation.predictions, evaluation.truths, strict=True) if t is not None]
    assert evaluation.rows == len(truth) == 270
    assert evaluation.metrics["accuracy"] == pytest.approx(accuracy_score(truth, predicted))
    assert evaluation.baseline is not None
    assert evaluation.baseline["auroc"] == pytest.approx(0.5)
    assert evaluation.verdict == "better"
    assert evaluation.subsets["image+audio+noise"] == evaluation.metrics
    assert len(evaluation.subsets) == 7


def test_contributions_follow_the_information_in_the_streams(make: Make) -> None:
    model, batches = make(rows=1000)
    evaluation = evaluate(model, batches, baselines=known(model, batches[0])).targets["animal"]
    assert evaluation.baseline is not None
    shares = evaluation.shapley
    assert shares["image"] > shares["audio"] > shares["noise"]
    assert abs(shares["noise"]) < 0.05
    assert sum(shares.values()) == pytest.approx(evaluation.metrics["accuracy"] - evaluation.baseline["accuracy"])
    text = "\n".join(evaluation.findings)
    assert "significantly better than always predicting the most frequent class" in text
    assert "image improves the score significantly" in text
    assert "noise makes no significant difference" in text


def test_findings_report_a_single_stream_that_beats_all_streams(make: Make) -> None:
    model, batches = make({"image": 3.0, "audio": -1.5}, rows=600)
    evaluation = evaluate(model, batches, baselines=known(model, batches[0])).findings
    assert any(s.startswith("image alone") and "hurt significantly" in s for s in evaluation)
    assert any(s.startswith("audio hurts the score significantly") for s in evaluation)


def test_findings_report_a_model_worse_than_the_baseline(make: Make) -> None:
    model, batches = make({"image": -3.0, "audio": -1.0}, rows=600)
    evaluation = evaluate(model, batches, baselines=known(model, batches[0]))
    assert evaluation.targets["animal"].verdict == "worse"
    assert "significantly worse than always predicting" in evaluation.findings[0]


def test_contributions_are_positive_for_useful_streams_when_lower_is_better(make: Make) -> None:
    # The answer is twice the signal: a stream of strength 2 is right, the noise stream changes little.
    model, batches = make({"image": 2.0, "noise": 0.0}, rows=600, kinds=("regression",))
    quiet = [b.map(lambda t: t) for b in batches]
    for b in quiet:
        b.inputs["image"].data.copy_(torch.where(b.targets["price"].data > 0, 2.0, 0.0) * torch.tensor([1.0, 0.0, 0.0]))
    evaluation = evaluate(model, quiet, baselines=known(model, quiet[0])).targets["price"]
    assert not evaluation.higher_is_better
    assert evaluation.metrics["mae"] < 0.5
    assert evaluation.verdict == "better"
    assert evaluation.shapley["image"] > 0.5
    assert any("image improves the score significantly" in s for s in evaluation.findings)


def test_evaluation_leaves_the_model_unchanged(make: Make) -> None:
    model, batches = make(rows=50)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    for training in (True, False):
        model.train(training)
        evaluate(model, batches, resamples=5)
        assert model.training is training
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())


def test_hardest_rows_have_the_largest_losses_and_a_target(make: Make) -> None:
    model, batches = make(rows=100)
    evaluation = evaluate(model, batches, resamples=5).targets["animal"]
    hardest = evaluation.hardest(10)
    assert all(evaluation.truths[i] is not None for i in hardest)
    rest = [loss for i, loss in enumerate(evaluation.losses) if i not in hardest and not math.isnan(loss)]
    assert min(evaluation.losses[hardest]) >= max(rest)
    assert len(evaluation.hardest(1000)) == 90


def test_json_has_every_part_and_no_nan(make: Make) -> None:
    model, batches = make(rows=60)
    text = json.dumps(evaluate(model, batches, baselines=known(model, batches[0])).to_json(), allow_nan=False)
    result = json.loads(text)
    assert result["rows"] == 60
    assert result["targets"]["animal"]["accuracy"] == result["subsets"]["image+audio+noise"]["accuracy"]
    assert set(result["shapley"]["animal"]) == {"image", "audio", "noise"}
    assert len(result["intervals"]["animal"]["accuracy"]) == 2
    assert {"baseline", "findings", "per_class", "confusion", "calibration"} <= set(result)


def test_several_targets_have_named_subset_scores(make: Make) -> None:
    model, batches = make(rows=60, kinds=("classification", "multilabel", "regression"))
    evaluation = evaluate(model, batches, baselines=known(model, batches[0]), resamples=20)
    subset = evaluation.to_json()["subsets"]["image+audio"]
    assert {"animal.accuracy", "tags.f1_macro", "price.mae"} <= set(subset)
    assert {line.split("  ")[0] for line in evaluation.text().splitlines()} >= {"animal", "tags", "price"}
    assert "\n".join(evaluation.findings).count("95 % interval") == 3


def test_one_stream_needs_no_subsets(make: Make) -> None:
    model, batches = make({"image": 1.0}, rows=40)
    evaluation = evaluate(model, batches, resamples=20).targets["animal"]
    assert list(evaluation.subsets) == ["image"]
    assert evaluation.shapley == {}
    assert len(evaluation.findings) == 1
    model, batches = make(rows=40)
    assert list(evaluate(model, batches, subsets=False).targets["animal"].subsets) == ["image+audio+noise"]


@pytest.mark.parametrize("rows", [1, 10])
def test_few_rows_are_scored_without_warnings(make: Make, rows: int) -> None:
    model, batches = make(rows=rows, kinds=("classification", "multilabel", "regression"))
    evaluation = evaluate(model, batches, baselines=known(model, batches[0]), resamples=10)
    json.dumps(evaluation.to_json(), allow_nan=False)
    assert evaluation.text()


def test_no_rows_and_no_targets_give_readable_findings(make: Make) -> None:
    model, batches = make(rows=30)
    assert evaluate(model, []) == Evaluation(0, model.streams, {})
    assert evaluate(model, []).text() == "No rows to evaluate."
    for batch in batches:
        batch.targets["animal"] = batch.targets["animal"].hide(torch.zeros(batch.rows, dtype=torch.bool))
    evaluation = evaluate(model, batches, baselines=known(model, batches[0]))
    assert evaluation.targets["animal"].rows == 0
    assert "no row has a target" in evaluation.findings[0]
    assert "–" in evaluation.text()
    json.dumps(evaluation.to_json(), allow_nan=False)


def test_two_thousand_rows_take_about_a_second(make: Make) -> None:
    model, batches = make(rows=2000)
    evaluate(model, batches[:1], resamples=2)
    start = time.process_time()
    evaluate(model, batches, baselines=known(model, batches[0]))
    assert time.process_time() - start < 5
