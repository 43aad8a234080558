"""The generator learns what was hidden from what was left."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from sensorium.core.errors import ConfigError
from sensorium.core.forward import Forward
from sensorium.core.registry import build
from sensorium.model import Model
from sensorium.nn.stream_imputer import StreamImputer
from sensorium.nn.streams import random_subsets
from sensorium.testing import objectives

STREAMS = list(objectives.LAYOUTS)


def imputing() -> Model:
    one = objectives.model()
    torch.manual_seed(0)
    fusion = build("fusions", "stream_imputation", STREAMS, objectives.DIM)
    return Model(dict(one.encoders.items()), dict(one.adapters.items()), fusion, dict(one.tasks.items())).eval()


def test_it_trains_the_generator_of_the_fusion() -> None:
    learner, batch = imputing(), objectives.batch()
    objective: Any = build("objectives", "stream_imputation", learner)
    assert list(objective.parameters()) == []
    objective(Forward(learner, batch))["stream_imputation"].backward()
    assert any(p.grad is not None and bool(p.grad.any()) for p in learner.fusion.guess.parameters())  # type: ignore[union-attr]
    alone = build("objectives", "stream_imputation", objectives.model())
    assert isinstance(alone.own, StreamImputer)


def test_it_is_the_error_of_what_was_hidden_in_units_of_its_size() -> None:
    learner, batch = imputing(), objectives.batch()
    batch = batch.keep({s: torch.arange(batch.rows) % 4 != i for i, s in enumerate(STREAMS)})
    objective: Any = build("objectives", {"kind": "stream_imputation", "weight": 0.3}, learner)
    run = Forward(learner, batch)
    torch.manual_seed(7)
    result = float(objective(run)["stream_imputation"].detach())
    torch.manual_seed(7)
    present = torch.stack([run.streams[s].present for s in STREAMS], dim=1)
    keep = torch.stack(list(random_subsets({s: run.streams[s].present for s in STREAMS}).values()), dim=1)
    pooled = torch.stack([run.streams[s].pooled for s in STREAMS], dim=1).detach()
    with torch.no_grad():
        made = learner.fusion.guess(pooled * keep[..., None], keep).double()  # type: ignore[operator]
    errors = []
    for s in range(len(STREAMS)):
        size = pooled[present[:, s], s].double().square().mean()
        for row in range(batch.rows):
            if present[row, s] and not keep[row, s]:
                errors.append(float((made[row, s] - pooled[row, s]).square().mean() / size))
    assert errors
    assert result == pytest.approx(0.3 * sum(errors) / len(errors), rel=1e-4)


def test_the_hidden_vector_is_not_moved_towards_the_guess() -> None:
    learner, batch = objectives.model(), objectives.batch()
    # Only the picture can be hidden, and only the series can be left: no gradient may reach the picture's encoder.
    batch = batch.without("table")
    objective = build("objectives", "stream_imputation", learner)
    run = Forward(learner, batch)
    torch.manual_seed(0)
    keep = random_subsets({s: run.streams[s].present for s in STREAMS})
    hidden = {s: run.streams[s].present & ~keep[s] for s in STREAMS}
    watched = {s: part.pooled for s, part in run.streams.items()}
    for tensor in watched.values():
        if tensor.requires_grad:
            tensor.retain_grad()
    torch.manual_seed(0)
    objective(run)["stream_imputation"].backward()
    for s in ("picture", "series"):
        grad = watched[s].grad
        assert grad is not None
        assert not bool(grad[hidden[s]].any())
        assert bool(grad[keep[s]].any())


def test_rows_with_one_stream_give_nothing_to_guess() -> None:
    learner, batch = imputing(), objectives.batch()
    apart = batch.keep({s: torch.arange(batch.rows) % 3 == i for i, s in enumerate(STREAMS)})
    assert build("objectives", "stream_imputation", learner)(Forward(learner, apart)) == {}


def test_a_stream_that_follows_from_another_is_learnt() -> None:
    torch.manual_seed(0)
    guess = StreamImputer(2, 8, 32)
    turn = torch.linalg.qr(torch.randn(8, 8)).Q
    optimiser = torch.optim.Adam(guess.parameters(), lr=1e-2)
    only_first = torch.tensor([True, False]).expand(64, 2)
    for _ in range(200):
        x = torch.randn(64, 8)
        pooled = torch.stack([x, x @ turn], dim=1)
        loss = (guess(pooled, only_first)[:, 1] - pooled[:, 1]).square().mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    assert float(loss.detach()) < 0.15  # 1 for guessing zeros


def test_a_bad_weight_is_refused() -> None:
    with pytest.raises(ConfigError, match="weight"):
        build("objectives", {"kind": "stream_imputation", "weight": -1}, objectives.model())
