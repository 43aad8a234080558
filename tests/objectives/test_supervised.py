"""Several targets at once: their weights, and rows that lack some of them."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from sensorium.core.batch import Batch, Field
from sensorium.core.errors import ConfigError
from sensorium.core.forward import Forward
from sensorium.core.goal import Goal
from sensorium.core.registry import build
from sensorium.data.tables.table import Table
from sensorium.model import Model
from sensorium.testing import objectives, tasks


@pytest.fixture
def learner() -> Model:
    """A small model with a class, a number and tags to tell."""
    one = objectives.model()
    number, _ = tasks.target_of("regression")
    tags, _ = tasks.target_of("multilabel")
    more = {
        "class": one.tasks["class"],
        "price": build("tasks", "regression", Goal.of(number, "price"), objectives.DIM),
        "tags": build("tasks", "multilabel", Goal.of(tags, "tags"), objectives.DIM),
    }
    return Model(dict(one.encoders.items()), dict(one.adapters.items()), one.fusion, more).eval()


@pytest.fixture
def batch() -> Batch:
    one = objectives.batch()
    return replace(
        one, targets={**one.targets, "price": tasks.target_of("regression")[1], "tags": tasks.target_of("multilabel")[1]}
    )


def losses(learner: Model, batch: Batch, **options: Any) -> dict[str, Tensor]:
    torch.manual_seed(0)
    objective = build("objectives", {"kind": "supervised", "subsets": 0.0, **options}, learner)
    terms: dict[str, Tensor] = objective(Forward(learner, batch))
    return terms


def test_fixed_weights_scale_their_targets(learner: Model, batch: Batch) -> None:
    plain = losses(learner, batch)
    assert set(plain) == {"class", "price", "tags"}
    results = losses(learner, batch, weights={"price": 0.25, "tags": 0})
    torch.testing.assert_close(results["price"], 0.25 * plain["price"])
    torch.testing.assert_close(results["class"], plain["class"])
    assert float(results["tags"].detach()) == 0.0
    halves = losses(learner, batch, weights={"price": 0.25}, subsets=0.5)
    torch.manual_seed(0)
    whole = losses(learner, batch, subsets=1.0)
    torch.testing.assert_close(halves["price/subsets"], 0.125 * whole["price/subsets"])


def test_learnt_weights_are_those_of_kendall(learner: Model, batch: Batch) -> None:
    plain = losses(learner, batch)
    torch.manual_seed(0)
    objective = build("objectives", {"kind": "supervised", "subsets": 0.0, "weights": "learned"}, learner)
    first = objective(Forward(learner, batch))
    for name, loss in plain.items():  # σ = 1 to start with
        torch.testing.assert_close(first[name], loss)
    with torch.no_grad():
        objective.spread.copy_(torch.tensor([-1.5, 0.3, 40.0]))
    for i, name in enumerate(plain):
        s = 3 * math.tanh(float(objective.spread[i].detach()) / 3)
        expected = float(plain[name].detach()) * math.exp(-s) + s / 2
        assert float(objective(Forward(learner, batch))[name].detach()) == pytest.approx(expected, rel=1e-5)
    # Left to itself, a target's variance settles where loss / σ² = ½.
    with torch.no_grad():
        objective.spread.zero_()
    attributes = {"class": torch.tensor(1.3), "price": torch.tensor(0.2), "tags": torch.tensor(0.0)}
    optimiser = torch.optim.Adam([objective.spread], lr=0.1)
    for _ in range(300):
        optimiser.zero_grad()
        sum(objective._weighed(name, loss, torch.ones(3)) for name, loss in attributes.items()).backward()
        optimiser.step()
    spread = [3 * math.tanh(float(x) / 3) for x in objective.spread.tolist()]
    assert 1.3 * math.exp(-spread[0]) == pytest.approx(0.5, rel=0.02)
    assert 0.2 * math.exp(-spread[1]) == pytest.approx(0.5, rel=0.02)
    assert -3 <= spread[2] < -2.5  # a loss of nothing: as far as it goes


def test_a_row_without_a_target_says_nothing_of_it_alone(learner: Model, batch: Batch) -> None:
    known = torch.arange(batch.rows) % 3 != 0
    price = batch.targets["price"]
    holes = {**batch.targets, "price": Field(torch.where(known[:, None], price.data, torch.nan), known)}
    learner.zero_grad()
    result = losses(learner, replace(batch, targets=holes))
    plain = losses(learner, batch)
    torch.testing.assert_close(result["class"], plain["class"])
    some = replace(batch.map(lambda t: t[known]), targets={"price": price.map(lambda t: t[known])})
    torch.testing.assert_close(result["price"], losses(learner, some)["price"])
    torch.stack(list(result.values())).sum().backward()
    assert all(bool(p.grad.isfinite().all()) for p in learner.parameters() if p.grad is not None)
    nobody = {**batch.targets, "price": Field(price.data, torch.zeros_like(known))}
    for weights in ("equal", "learned"):
        assert float(losses(learner, replace(batch, targets=nobody), weights=weights)["price"].detach()) == 0.0


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ({"prize": 1.0}, "did you mean price"),
        ({"price": -1.0}, "price is -1"),
        ({"price": 0, "class": 0, "tags": 0}, "all are 0"),
        ("fixed", "weights"),
    ],
)
def test_weights_that_make_no_sense_are_refused(learner: Model, weights: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        build("objectives", {"kind": "supervised", "weights": weights}, learner)


def test_the_best_epoch_weighs_targets_by_what_they_are_told_without_looking(quick_fit: Any, scenes: Path) -> None:
    ignored = ["photo", "sound", "sensor"]
    fit = {"target": ["event", "cost", "tags"], "ignore": ignored, "valid": scenes / "valid.csv"}
    model = quick_fit(**fit, overrides=["objectives=[{kind: supervised, weights: {cost: 0.5}}]"])
    record = model.history[-1]
    schema, artifact = model.artifact.schema, model.artifact
    table = Table.read(scenes / "valid.csv")
    total = 0.0
    for column in schema.targets:
        task = artifact.model.tasks[column.name]
        field = column.reader.collate([column.reader.encode_target(cell) for cell in table.column(column.name)])
        prior = torch.tensor(artifact.report["priors"][column.name]).expand(len(table), -1)
        plain = float(task.loss(prior, field).mean())
        total += (0.5 if column.name == "cost" else 1.0) * record[f"valid_loss_{column.name}"] / plain
    assert record["valid_loss"] == pytest.approx(total, rel=1e-4)
