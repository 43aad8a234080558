"""A whole evaluation: what it says of models whose worth is known."""

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


def test_scores_are_those_of_the_answers(make: Make) -> None:
    model, batches = make()
    found = evaluate(model, batches, baselines=known(model, batches[0])).targets["animal"]
    truth = [t for t in found.truths if t is not None]
    said = [p["value"] for p, t in zip(found.predictions, found.truths, strict=True) if t is not None]
    assert found.rows == len(truth) == 270
    assert found.metrics["accuracy"] == pytest.approx(accuracy_score(truth, said))
    assert found.baseline is not None
    assert found.baseline["auroc"] == pytest.approx(0.5)
    assert found.verdict == "better"
    assert found.subsets["image+audio+noise"] == found.metrics
    assert len(found.subsets) == 7


def test_streams_are_judged_by_what_they_bring(make: Make) -> None:
    model, batches = make(rows=1000)
    found = evaluate(model, batches, baselines=known(model, batches[0])).targets["animal"]
    assert found.baseline is not None
    shares = found.shapley
    assert shares["image"] > shares["audio"] > shares["noise"]
    assert abs(shares["noise"]) < 0.05
    assert sum(shares.values()) == pytest.approx(found.metrics["accuracy"] - found.baseline["accuracy"])
    text = "\n".join(found.findings)
    assert "clearly better than always answering the commonest class" in text
    assert "image is needed" in text
    assert "noise adds nothing" in text


def test_a_single_stream_that_beats_the_whole_is_told(make: Make) -> None:
    model, batches = make({"image": 3.0, "audio": -1.5}, rows=600)
    found = evaluate(model, batches, baselines=known(model, batches[0])).findings
    assert any(s.startswith("image alone") and "do harm" in s for s in found)
    assert any(s.startswith("audio does harm") for s in found)


def test_a_model_worse_than_the_majority_is_told(make: Make) -> None:
    model, batches = make({"image": -3.0, "audio": -1.0}, rows=600)
    found = evaluate(model, batches, baselines=known(model, batches[0]))
    assert found.targets["animal"].verdict == "worse"
    assert "worse than always answering" in found.findings[0]


def test_where_less_is_better_shapley_is_still_positive_for_a_help(make: Make) -> None:
    # The answer is twice the signal: a stream of strength 2 is right, the noise stream changes little.
    model, batches = make({"image": 2.0, "noise": 0.0}, rows=600, kinds=("regression",))
    quiet = [b.map(lambda t: t) for b in batches]
    for b in quiet:
        b.inputs["image"].data.copy_(torch.where(b.targets["price"].data > 0, 2.0, 0.0) * torch.tensor([1.0, 0.0, 0.0]))
    found = evaluate(model, quiet, baselines=known(model, quiet[0])).targets["price"]
    assert not found.higher_is_better
    assert found.metrics["mae"] < 0.5
    assert found.verdict == "better"
    assert found.shapley["image"] > 0.5
    assert any("image is needed" in s for s in found.findings)


def test_the_model_is_left_as_it_was(make: Make) -> None:
    model, batches = make(rows=50)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    for training in (True, False):
        model.train(training)
        evaluate(model, batches, resamples=5)
        assert model.training is training
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())


def test_hardest_rows_have_the_largest_losses_and_a_target(make: Make) -> None:
    model, batches = make(rows=100)
    found = evaluate(model, batches, resamples=5).targets["animal"]
    hardest = found.hardest(10)
    assert all(found.truths[i] is not None for i in hardest)
    rest = [loss for i, loss in enumerate(found.losses) if i not in hardest and not math.isnan(loss)]
    assert min(found.losses[hardest]) >= max(rest)
    assert len(found.hardest(1000)) == 90


def test_json_has_every_part_and_no_nan(make: Make) -> None:
    model, batches = make(rows=60)
    text = json.dumps(evaluate(model, batches, baselines=known(model, batches[0])).to_json(), allow_nan=False)
    found = json.loads(text)
    assert found["rows"] == 60
    assert found["targets"]["animal"]["accuracy"] == found["subsets"]["image+audio+noise"]["accuracy"]
    assert set(found["shapley"]["animal"]) == {"image", "audio", "noise"}
    assert len(found["intervals"]["animal"]["accuracy"]) == 2
    assert {"baseline", "findings", "per_class", "confusion", "calibration"} <= set(found)


def test_several_targets_have_named_subset_scores(make: Make) -> None:
    model, batches = make(rows=60, kinds=("classification", "multilabel", "regression"))
    found = evaluate(model, batches, baselines=known(model, batches[0]), resamples=20)
    subset = found.to_json()["subsets"]["image+audio"]
    assert {"animal.accuracy", "tags.f1_macro", "price.mae"} <= set(subset)
    assert {line.split("  ")[0] for line in found.text().splitlines()} >= {"animal", "tags", "price"}
    assert "\n".join(found.findings).count("95 % interval") == 3


def test_one_stream_needs_no_subsets(make: Make) -> None:
    model, batches = make({"image": 1.0}, rows=40)
    found = evaluate(model, batches, resamples=20).targets["animal"]
    assert list(found.subsets) == ["image"]
    assert found.shapley == {}
    assert len(found.findings) == 1
    model, batches = make(rows=40)
    assert list(evaluate(model, batches, subsets=False).targets["animal"].subsets) == ["image+audio+noise"]


@pytest.mark.parametrize("rows", [1, 10])
def test_few_rows_are_scored_without_complaint(make: Make, rows: int) -> None:
    model, batches = make(rows=rows, kinds=("classification", "multilabel", "regression"))
    found = evaluate(model, batches, baselines=known(model, batches[0]), resamples=10)
    json.dumps(found.to_json(), allow_nan=False)
    assert found.text()


def test_no_rows_and_no_targets_are_said_in_words(make: Make) -> None:
    model, batches = make(rows=30)
    assert evaluate(model, []) == Evaluation(0, model.streams, {})
    assert evaluate(model, []).text() == "No rows to evaluate."
    for batch in batches:
        batch.targets["animal"] = batch.targets["animal"].hide(torch.zeros(batch.rows, dtype=torch.bool))
    found = evaluate(model, batches, baselines=known(model, batches[0]))
    assert found.targets["animal"].rows == 0
    assert "no row has a target" in found.findings[0]
    assert "–" in found.text()
    json.dumps(found.to_json(), allow_nan=False)


def test_two_thousand_rows_take_about_a_second(make: Make) -> None:
    model, batches = make(rows=2000)
    evaluate(model, batches[:1], resamples=2)
    start = time.process_time()
    evaluate(model, batches, baselines=known(model, batches[0]))
    assert time.process_time() - start < 5
