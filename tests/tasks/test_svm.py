"""The support vector machine in tensors against scikit-learn's own."""

from __future__ import annotations

import builtins
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC, LinearSVC

from sensorium.core.batch import Batch, Encoded, Field
from sensorium.core.errors import ConfigError
from sensorium.core.goal import Goal
from sensorium.core.registry import build
from sensorium.core.task import EncodedRows
from sensorium.tasks.svm import Svm

D = 6


def encoded(pooled: torch.Tensor) -> Encoded:
    rows = pooled.shape[0]
    present = torch.ones(rows, dtype=torch.bool)
    return Encoded(pooled[:, None], present[:, None], pooled, present)


def rings(rows: int, classes: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Classes by distance from the middle: no plane tells them apart."""
    draw = torch.Generator().manual_seed(seed)
    x = torch.randn(rows, D, generator=draw)
    edges = x[:, :3].norm(dim=1).quantile(torch.linspace(0, 1, classes + 1)[1:-1])
    y = torch.bucketize(x[:, :3].norm(dim=1), edges)
    return x * torch.tensor([1.0, 1, 1, 40, 0.01, 1]) + 3, y


def seen(
    x: torch.Tensor, y: torch.Tensor, weight: torch.Tensor | None = None, known: torch.Tensor | None = None
) -> EncodedRows:
    present = torch.ones(len(y), dtype=torch.bool) if known is None else known
    return EncodedRows(encoded(x), {}, Field(y[:, None].float(), present), torch.ones(len(y)) if weight is None else weight)


def svm(classes: int, **options: Any) -> Svm:
    torch.manual_seed(0)
    names = [f"c{k}" for k in range(classes)]
    reader: Any = SimpleNamespace(classes=names, decode=lambda value: names[int(value[0])])
    task: Svm = build("tasks", {"kind": "svm", **options}, Goal.of(reader), D)
    return task.eval()


def answers(task: Svm, output: torch.Tensor) -> list[dict[str, Any]]:
    return task.answers(output, Batch({}, {}, torch.ones(len(output))))


def reference(x: torch.Tensor, y: torch.Tensor, kernel: str, C: float, weight: Any = None) -> tuple[Any, Any]:
    scaler = StandardScaler().fit(x.double().numpy())
    machine = SVC(C=C, gamma=1 / D, break_ties=True) if kernel == "rbf" else LinearSVC(C=C, dual=False, max_iter=10_000)
    return scaler, machine.fit(scaler.transform(x.double().numpy()), y.numpy(), sample_weight=weight)


@pytest.mark.parametrize("kernel", ["rbf", "linear"])
@pytest.mark.parametrize("classes", [2, 3, 5])
@pytest.mark.parametrize("C", [0.3, 10.0])
def test_decision_values_match_scikit_learn(kernel: str, classes: int, C: float) -> None:
    x, y = rings(160, classes)
    new, truth = rings(90, classes, seed=1)
    task = svm(classes, kernel=kernel, C=C)
    task.fit_after_training(seen(x, y), seen(new, truth))
    scaler, machine = reference(x, y, kernel, C)
    expected = machine.decision_function(scaler.transform(new.double().numpy()))
    expected = np.stack([-expected, expected], axis=1) if classes == 2 else expected
    with torch.no_grad():
        results = task(encoded(new), {}, {})
    np.testing.assert_allclose(results.numpy(), expected, atol=1e-4, rtol=1e-4)
    words = [answer["value"] for answer in answers(task, results)]
    agree = np.mean(np.array(words) == [f"c{k}" for k in machine.predict(scaler.transform(new.double().numpy()))])
    assert agree == 1.0
    if kernel == "rbf" and classes < 5:
        assert np.mean(np.array(words) == [f"c{k}" for k in truth.tolist()]) > 0.6


def test_weights_and_rows_without_target_are_as_given_to_scikit_learn() -> None:
    x, y = rings(120, 3)
    weight = torch.rand(120, generator=torch.Generator().manual_seed(2)) * 3
    known = torch.arange(120) % 7 != 0
    task = svm(3)
    task.fit_after_training(seen(x, y, weight, known), seen(x, y))
    scaler, machine = reference(x[known], y[known], "rbf", 1.0, weight[known].double().numpy())
    expected = machine.decision_function(scaler.transform(x.double().numpy()))
    np.testing.assert_allclose(task(encoded(x), {}, {}).detach().numpy(), expected, atol=1e-4)


@pytest.mark.parametrize("kernel", ["rbf", "linear"])
def test_classes_without_training_rows_are_never_predicted(kernel: str) -> None:
    x, y = rings(90, 3)
    shifted = y + (y > 0)  # classes 0, 2, 3 of four
    task = svm(4, kernel=kernel)
    task.fit_after_training(seen(x, shifted), seen(x, shifted))
    with torch.no_grad():
        output = task(encoded(x), {}, {})
    assert not bool((output.argmax(dim=1) == 1).any())
    alike = svm(3, kernel=kernel)
    alike.fit_after_training(seen(x, y), seen(x, y))
    np.testing.assert_allclose(output[:, [0, 2, 3]].detach(), alike(encoded(x), {}, {}).detach(), atol=1e-4)


def test_large_training_sets_are_subsampled_by_class() -> None:
    y = torch.tensor([0] * 150 + [1] * 45 + [2] * 5)
    task = svm(3, vectors=40)
    drawn = task._drawn(y)
    assert len(drawn) == 40 == len(drawn.unique())
    assert torch.bincount(y[drawn]).tolist() == [30, 9, 1]
    assert torch.equal(drawn, task._drawn(y))
    x, _ = rings(200, 3)
    task.fit_after_training(seen(x, y), seen(x, y))
    assert task.machine is not None
    assert task.machine.vectors.shape == (40, D)
    assert len(answers(task, task(encoded(x), {}, {}))) == 200


def test_the_slope_maximises_the_held_out_likelihood() -> None:
    x, y = rings(200, 3)
    new, truth = rings(200, 3, seed=5)
    task = svm(3)
    task.fit_after_training(seen(x, y), seen(new, truth))
    output = task(encoded(new), {}, {}).detach().double()

    def loss(slope: float) -> float:
        return float(torch.nn.functional.cross_entropy(output * slope, truth))

    best = min((loss(s), s) for s in np.logspace(-2, 2, 81))[1]
    assert float(task.slope) == pytest.approx(best, rel=1e-4)
    assert loss(float(task.slope)) < loss(1.0) + 1e-9


def test_rows_without_streams_get_the_class_shares() -> None:
    x, y = rings(160, 3)
    y = y.clamp(max=1)
    task = svm(3)
    task.fit([Field(y[:, None].float(), y >= 0)])
    task.fit_after_training(seen(x, y), seen(x, y))
    nothing = encoded(x[:2]).hide(torch.tensor([False, True]))
    chances = answers(task, task(nothing, {}, {}))[0]["probabilities"]
    count = torch.bincount(y, minlength=3) + 1
    assert list(chances.values()) == pytest.approx((count / count.sum()).tolist(), rel=1e-4)


def test_before_fitting_a_linear_layer_with_hinge_loss_predicts() -> None:
    task = svm(4, balance=0.0)
    output = torch.randn(9, 4, generator=torch.Generator().manual_seed(0))
    y = torch.arange(9) % 4
    expected = []
    for row, k in zip(output.double().tolist(), y.tolist(), strict=True):
        expected.append(max(0.0, *(1 + row[j] - row[k] for j in range(4) if j != k)))
    np.testing.assert_allclose(task.loss(output, Field(y[:, None].float(), y >= 0)).numpy(), expected, rtol=1e-5)
    x, _ = rings(8, 4)
    torch.testing.assert_close(task(encoded(x), {}, {}), task.last(x))
    one = torch.zeros(8, dtype=torch.long)
    task.fit_after_training(seen(x, one), seen(x, one))  # one class: nothing to part
    torch.testing.assert_close(task(encoded(x), {}, {}), task.last(x))


@pytest.mark.parametrize("kernel", ["rbf", "linear"])
def test_a_saved_machine_predicts_without_scikit_learn(
    kernel: str, quick_fit: Any, scenes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import sensorium as sm

    override = f"model.tasks.event={{kind: svm, kernel: {kernel}}}"
    ignored = ["cost", "tags", "photo", "sound", "sensor"]
    model = quick_fit(valid=scenes / "valid.csv", ignore=ignored, overrides=[override])
    before = model.predict(scenes / "test.csv")
    folder = model.save(tmp_path / "run")
    assert {p.suffix for p in folder.iterdir()} <= {".json", ".yaml", ".safetensors"}
    real = builtins.__import__

    def refuse(name: str, *rest: Any, **named: Any) -> Any:
        assert name.partition(".")[0] != "sklearn", "loading or predicting needs scikit-learn"
        return real(name, *rest, **named)

    monkeypatch.setattr(builtins, "__import__", refuse)
    after = sm.load(folder).predict(scenes / "test.csv")
    assert [p.targets for p in after] == [p.targets for p in before]
    score = model.artifact.report["valid"]["targets"]
    assert score, "the evaluation says nothing of an svm"


def test_invalid_options_are_rejected() -> None:
    for option in ("C", "gamma", "vectors"):
        with pytest.raises(ConfigError, match=option):
            svm(2, **{option: 0})
