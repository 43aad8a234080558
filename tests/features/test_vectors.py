"""Vectors as features: of a column of them, and of a frozen encoder; those of a trained one are refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import sensorium as sm
from sensorium.core.batch import Field
from sensorium.core.errors import ConfigError
from sensorium.core.forward import Forward
from sensorium.core.layout import Grid
from sensorium.core.registry import build
from sensorium.nn.ensemble import Ensemble

IGNORE = ["cost", "tags", "sound", "photo", "sensor"]
FROZEN = (
    "model.encoders.note=transformer",
    "model.surgery=[{kind: freeze, streams: [note]}]",
    "model.experts=[linear, forest]",
)


def test_a_vector_is_standardised_as_by_hand() -> None:
    data = torch.from_numpy(np.random.default_rng(0).normal(3.0, 2.0, (50, 6))).float()
    part: Any = build("features", "vectors", Grid(6, (1,)))
    field = Field(data.unsqueeze(2), torch.ones(50, dtype=torch.bool))
    part.fit(iter([field]))
    rows = data.double().numpy()
    expected = (rows - rows.mean(axis=0)) / rows.std(axis=0)
    np.testing.assert_allclose(part(field).numpy(), expected, atol=1e-5)
    assert torch.equal(part.compact(part(field), field), part(field))


def test_experts_read_the_vectors_of_a_frozen_encoder(quick_fit: Any, scenes: Path, tmp_path: Path) -> None:
    trained = quick_fit(ignore=IGNORE, overrides=[*FROZEN, "model.features.note=[vectors]"], out=tmp_path / "run")
    model = trained.predictor.model
    ensemble = model.experts
    assert isinstance(ensemble, Ensemble)
    assert not any("encoders" in name for name in ensemble.state_dict()), "the encoder is saved once"
    batch = next(iter(trained.batches(trained.encode(sm.Table.read(scenes / "test.csv")))))
    part, field = ensemble.features["note"]["vectors"], batch.inputs["note"]
    with torch.inference_mode():
        run = Forward(model, batch)
        pooled = model.encoders["note"](field.data, field.mask).pooled
        expected = ((pooled - part.mean) * part.scale).masked_fill(~field.present.unsqueeze(1), 0.0)
        torch.testing.assert_close(run.read["features"]["note"], expected, atol=1e-5, rtol=1e-4)
        assert bool((run.read["features"]["note"].abs().sum(dim=1) > 0).eq(field.present).all())
        hidden = run.only("table").outputs["event"]
        torch.testing.assert_close(hidden, model(batch.without("note"))["event"], atol=1e-5, rtol=1e-4)
    again = sm.load(tmp_path / "run")
    before, after = (one.predict(scenes / "test.csv") for one in (trained, again))
    assert [p.targets for p in before] == [p.targets for p in after]
    assert again.explain(scenes / "test.csv", row=2).maps


def test_of_frozen_streams_they_are_read_unasked(quick_fit: Any) -> None:
    result = quick_fit(ignore=IGNORE, overrides=[*FROZEN, "training.epochs=1", "model.networks=2"]).recipe.model
    assert {"kind": "vectors"} in result.features["note"]
    assert {"kind": "vectors"} not in result.features["table"]
    plain = quick_fit(ignore=IGNORE, overrides=["model.experts=[linear]", "training.epochs=1"]).recipe.model
    assert {"kind": "vectors"} not in plain.features["note"]


@pytest.mark.parametrize(
    ("more", "why"),
    [
        (["model.experts=[linear]"], "its encoder is trained"),
        ([FROZEN[1], "model.experts=[linear]", "model.network=false"], "the recipe has no network"),
        (
            ["model.encoders.note=transformer", "model.experts=[linear]", "model.surgery=[{kind: freeze, unfreeze: 1}]"],
            "its encoder is trained",
        ),
    ],
)
def test_those_of_a_trained_encoder_are_refused(quick_fit: Any, more: list[str], why: str) -> None:
    with pytest.raises(ConfigError, match=why):
        quick_fit(ignore=IGNORE, overrides=[*more, "model.features.note=[vectors]"])
