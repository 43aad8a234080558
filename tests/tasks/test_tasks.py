"""Tasks and their measures against scikit-learn and float64 formulas."""

from __future__ import annotations

import warnings
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from sklearn import metrics as reference
from torch import Tensor

from sensorium.core.batch import Batch, Encoded, Field
from sensorium.core.goal import Goal
from sensorium.core.registry import build, kinds
from sensorium.core.scorer import plain_scores
from sensorium.core.task import Task
from sensorium.tasks.classification import Classification
from sensorium.tasks.multilabel import Multilabel
from sensorium.tasks.regression import Regression

B, D = 200, 6


def target(data: Any, present: Any = None) -> Field:
    data = torch.as_tensor(np.asarray(data), dtype=torch.float32)
    data = data[:, None] if data.ndim == 1 else data
    presence = torch.ones(len(data), dtype=torch.bool) if present is None else torch.as_tensor(present)
    return Field(data, presence)


def fused(rows: int, dim: int = D, seed: int = 0) -> Encoded:
    pooled = torch.randn(rows, dim, generator=torch.Generator().manual_seed(seed))
    return Encoded(pooled[:, None], torch.ones(rows, 1, dtype=torch.bool), pooled, torch.ones(rows, dtype=torch.bool))


def classes(count: int) -> Goal:
    names = [f"c{k}" for k in range(count)]
    reader: Any = SimpleNamespace(classes=names, decode=lambda value: names[int(value[0])], ragged=False)
    return Goal.of(reader)


def number(mean: float = 50.0, std: float = 10.0) -> Goal:
    reader: Any = SimpleNamespace(decode=lambda value: float(value[0]) * std + mean, ragged=False, logarithmic=False)
    return Goal.of(reader)


def batch(field: Field) -> Batch:
    return Batch({}, {"target": field}, torch.ones(field.present.shape[0]))


def nobody(rows: int) -> Batch:
    return Batch({}, {}, torch.ones(rows))


def scores(task: Task[Any], output: Tensor, field: Field) -> dict[str, float]:
    scorer = task.scorer()
    scorer.update(output, batch(field))
    return plain_scores(scorer)


def test_they_are_components() -> None:
    assert {"classification", "multilabel", "regression"} <= set(kinds("tasks"))
    assert isinstance(build("tasks", {"kind": "classification", "hidden": 8}, classes(3), D), Classification)


@pytest.mark.parametrize("count", [2, 4])
def test_classification_scores_as_scikit_learn(count: int) -> None:
    rng = np.random.default_rng(count)
    truth = rng.integers(0, count, B)
    logits = torch.tensor(rng.normal(size=(B, count)).round(1) + 1.5 * np.eye(count)[truth], dtype=torch.float32)
    result = scores(Classification(classes(count), D), logits, target(truth))
    chance = logits.softmax(1).numpy().astype(np.float64)
    chance /= chance.sum(1, keepdims=True)
    guess = chance.argmax(1)
    ranked = logits.softmax(1).numpy()  # not normalised again: that would break ties
    auroc = reference.roc_auc_score(truth, ranked[:, 1] if count == 2 else ranked, multi_class="ovr")
    expected = {
        "accuracy": reference.accuracy_score(truth, guess),
        "balanced_accuracy": reference.balanced_accuracy_score(truth, guess),
        "precision": reference.precision_score(truth, guess, average="macro"),
        "recall": reference.recall_score(truth, guess, average="macro"),
        "f1": reference.f1_score(truth, guess, average="macro"),
        "auroc": auroc,
        "log_loss": reference.log_loss(truth, chance),
    }
    sure, error = chance.max(1), 0.0
    for low in np.arange(15) / 15:
        inside = (sure >= low) & (sure < low + 1 / 15)
        if inside.any():
            error += inside.mean() * abs(sure[inside].mean() - (guess == truth)[inside].mean())
    assert result.pop("calibration_error") == pytest.approx(error, abs=1e-5)
    assert result == pytest.approx(expected, abs=1e-5)


def test_a_class_that_is_absent_or_never_predicted_scores_as_scikit_learn() -> None:
    truth = np.array([0, 0, 1, 1, 1])
    guess = np.array([0, 3, 1, 0, 1])
    logits = torch.nn.functional.one_hot(torch.tensor(guess), 5).float() * 3
    result = scores(Classification(classes(5), D), logits, target(truth))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for name in ("precision", "recall", "f1"):
            function = getattr(reference, f"{name}_score")
            assert result[name] == pytest.approx(function(truth, guess, average="macro", zero_division=0)), name
        assert result["balanced_accuracy"] == pytest.approx(reference.balanced_accuracy_score(truth, guess))
    assert 0 <= result["auroc"] <= 1


def test_multilabel_scores_as_scikit_learn() -> None:
    rng = np.random.default_rng(3)
    truth = (rng.random((B, 4)) < [0.5, 0.2, 0.1, 0.7]).astype(int)
    logits = torch.tensor((rng.normal(size=(B, 4)) + truth).round(1), dtype=torch.float32)
    result = scores(Multilabel(classes(4), D, threshold=0.6), logits, target(truth))
    chance = logits.sigmoid().numpy()
    predicted = chance >= 0.6
    assert result == pytest.approx(
        {
            "f1_macro": reference.f1_score(truth, predicted, average="macro"),
            "f1_micro": reference.f1_score(truth, predicted, average="micro"),
            "accuracy": (predicted == truth).mean(),
            "auroc": reference.roc_auc_score(truth, chance, average="macro"),
            "average_precision": reference.average_precision_score(truth, chance, average="macro"),
        },
        abs=1e-5,
    )


def test_regression_scores_on_the_scale_of_the_table() -> None:
    rng = np.random.default_rng(4)
    truth = rng.normal(size=B)
    output = torch.tensor(truth + rng.normal(size=B), dtype=torch.float32)[:, None]
    result = scores(Regression(number(), D), output, target(truth))
    real, predicted = truth * 10 + 50, output.double().numpy()[:, 0] * 10 + 50
    assert result == pytest.approx(
        {
            "mae": reference.mean_absolute_error(real, predicted),
            "rmse": reference.root_mean_squared_error(real, predicted),
            "r2": reference.r2_score(real, predicted),
            "pearson": np.corrcoef(real, predicted)[0, 1],
        },
        abs=1e-4,
    )


@pytest.mark.parametrize("rows", [0, 1, 5])
def test_few_rows_or_one_class_cause_no_warning_or_error(rows: int) -> None:
    cases: list[tuple[Task[Any], Field]] = [
        (Classification(classes(3), D), target(np.zeros(rows))),
        (Classification(classes(2), D), target(np.ones(rows))),
        (Multilabel(classes(3), D), target(np.zeros((rows, 3)))),
        (Regression(number(), D), target(np.ones(rows))),
    ]
    for task, field in cases:
        task.eval()
        output = task(fused(rows), {}, {})
        result = scores(task, output, field)
        assert task.loss(output, field).shape == (rows,)
        assert len(task.answers(output, batch(field))) == rows
        assert all(np.isnan(list(result.values()))) == (rows == 0)
    nothing = Regression(number(), D).scorer().compute()
    assert all(bool(value.isnan().all()) for value in nothing.values())


def test_a_constant_truth_has_no_variance_to_explain() -> None:
    task = Regression(number(1e6, 1e-3), D)
    computed = scores(task, torch.randn(9, 1), target(np.full(9, 0.1)))
    assert np.isnan(computed["r2"])
    assert np.isnan(computed["pearson"])
    assert computed["mae"] >= 0


def test_metrics_over_batches_are_metrics_of_all_rows() -> None:
    task = Classification(classes(3), D).eval()
    field = target(np.arange(30) % 3)
    output = task(fused(30), {}, {})
    whole, split = scores(task, output, field), task.scorer()
    for part in torch.arange(30).split(7):
        split.update(output[part], batch(Field(field.data[part], field.present[part])))
    assert whole == plain_scores(split)


def test_fitting_initialises_the_classifier_at_the_prior() -> None:
    truth = np.repeat([0, 1, 2], [70, 20, 10])
    present = np.ones(100, dtype=bool)
    present[-1] = False
    task = Classification(classes(3), D).eval()
    task.fit([target(truth, present)])
    share = np.array([71, 21, 10]) / 102
    empty = fused(4).hide(torch.zeros(4, dtype=torch.bool))
    np.testing.assert_allclose(task(empty, {}, {}).softmax(1).detach()[0], share, rtol=1e-5)
    np.testing.assert_allclose(task.constant(task.baseline([target(truth, present)]), 2).softmax(1)[1], share, rtol=1e-5)
    other = Classification(classes(3), D)
    other.load_state_dict(task.state_dict())
    assert torch.equal(other.frequency, task.frequency)


@pytest.mark.parametrize("balance", [0.0, 0.5, 1.0])
def test_the_first_output_of_a_balanced_classifier_is_a_stationary_point(balance: float) -> None:
    truth = target(np.repeat([0, 1, 2], [60, 30, 9]))
    task = Classification(classes(3), D, balance=balance, dropout=0.0)
    task.fit([truth])
    # The prior holds one imagined row a class: so does this sum.
    both = target(np.concatenate([truth.data[:, 0], [0, 1, 2]]))
    loss = task.loss(task(fused(102).map(lambda x: x * 0), {}, {}), both).mean()
    loss.backward()
    assert task.last.bias.grad is not None
    assert task.last.bias.grad.abs().max() < 1e-6
    assert (task.weights * task.frequency).sum() == pytest.approx(1)


def test_fitting_initialises_other_tasks_at_their_means() -> None:
    inputs = np.array([[1, 0], [1, 0], [1, 1], [0, 0]])
    tags = Multilabel(classes(2), D).eval()
    tags.fit([target(inputs)])
    empty = fused(1).map(lambda x: x * 0)
    np.testing.assert_allclose(tags(empty, {}, {}).sigmoid().detach()[0], [4 / 6, 2 / 6], rtol=1e-5)
    price = Regression(number(), D).eval()
    price.fit([target([1.0]), target([2.0, 6.0])])
    assert price(empty, {}, {}).item() == pytest.approx(3.0)
    assert price.constant(price.baseline([target([1.0, 2.0, 6.0])]), 2).tolist() == [[2.0], [2.0]]  # the median
    assert price.baseline([target(np.zeros(0))]) == [[0.0]]


def test_losses_match_their_formulas() -> None:
    torch.manual_seed(0)
    logits, index = torch.randn(8, 3), torch.arange(8) % 3
    plain = Classification(classes(3), D)
    chance = logits.double().softmax(1)
    expected = -chance.gather(1, index[:, None])[:, 0].log()
    torch.testing.assert_close(plain.loss(logits, target(index)).double(), expected, atol=1e-6, rtol=1e-6)
    soft = Classification(classes(3), D, smoothing=0.3).loss(logits, target(index)).double()
    torch.testing.assert_close(soft, 0.7 * expected - 0.3 * chance.log().mean(1), atol=1e-6, rtol=1e-6)
    output, truth = torch.tensor([[0.0], [3.0]]), target([0.5, 0.0])
    assert Regression(number(), D).loss(output, truth).tolist() == [0.25, 9.0]
    assert Regression(number(), D, loss="mae").loss(output, truth).tolist() == [0.5, 3.0]
    assert Regression(number(), D, loss="huber").loss(output, truth).tolist() == [0.125, 2.5]


def test_rows_without_a_target_give_finite_losses() -> None:
    wild = torch.tensor([[float("nan")], [1e9], [-5.0]])
    field = Field(wild, torch.zeros(3, dtype=torch.bool))
    assert Classification(classes(2), D).loss(torch.zeros(3, 2), field).isfinite().all()
    assert Regression(number(), D).loss(torch.zeros(3, 1), field).isfinite().all()


def test_predictions_are_decoded_to_values_of_the_table() -> None:
    one = Classification(classes(2), D).answers(torch.tensor([[0.0, 1.0]]), nobody(1))[0]
    assert one["value"] == "c1"
    assert one["probabilities"]["c1"] == pytest.approx(1 / (1 + np.exp(-1)))
    many = Multilabel(classes(2), D, threshold=0.4).answers(torch.tensor([[0.0, -3.0]]), nobody(1))[0]
    assert many["value"] == ["c0"]
    assert Regression(number(), D).answers(torch.tensor([[-1.0]]), nobody(1)) == [{"value": 40.0}]


def test_hidden_layer_and_dropout_change_the_output() -> None:
    for kind in (Classification, Multilabel, Regression):
        modality = number() if kind is Regression else classes(3)
        deep = kind(modality, D, hidden=5)
        assert deep.body[0].weight.shape == (5, D)
        torch.manual_seed(0)
        dropped = kind(modality, D, dropout=0.9)(fused(4), {}, {})
        torch.manual_seed(0)
        assert not torch.equal(dropped, kind(modality, D, dropout=0.0)(fused(4), {}, {}))
