"""Numeric targets with outliers: detection and the recommended loss."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy import stats

import sensorium as sm
from sensorium.modalities.number import Number
from sensorium.tasks.regression import Regression

DRAW = np.random.default_rng(1)
NORMAL = DRAW.normal(0, 1, 400)
WILD = np.where(np.arange(400) % 40 == 0, 30 * NORMAL + 50, NORMAL)


def fitted(values: Any, **options: Any) -> Number:
    modality = Number(**options)
    modality.fit(list(values))
    return modality


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (NORMAL, ""),
        (DRAW.uniform(-1, 1, 400), ""),
        (np.exp(2 * NORMAL), ""),  # its logarithm, which is learnt, has none
        (WILD, "robust deviations"),
        (WILD[:99], ""),  # too few to tell
        (np.append(NORMAL, 60.0), "excess kurtosis"),
        (np.where(np.arange(400) % 3 == 0, NORMAL, 0.0), ""),  # most are the same: nothing is far from them by that
    ],
)
def test_outliers_are_distinguished_from_skew_and_few_values(values: Any, message: str) -> None:
    assert bool(fitted(values).heavy_tails) == bool(message)
    assert message in fitted(values).heavy_tails
    assert bool(fitted(values * 1e100).heavy_tails) == bool(message)


def test_kurtosis_matches_scipy() -> None:
    values = np.append(NORMAL, 60.0)
    assert f"{stats.kurtosis(values):.0f})" in fitted(values).heavy_tails


def test_an_explicit_loss_is_kept() -> None:
    chosen, why = Regression.recommended({}, 400, [], [fitted(WILD)])
    assert chosen == {"loss": "huber"}
    assert "10 of 400 values" in why[0]
    assert Regression.recommended({"loss": "mse"}, 400, [], [fitted(WILD)]) == ({}, [])
    assert Regression.recommended({}, 400, [], [fitted(NORMAL)]) == ({}, [])


def test_it_reaches_the_recipe_and_the_console(capfd: pytest.CaptureFixture[str]) -> None:
    quick = ["model.size=tiny", "training.epochs=2"]
    data = {"x": NORMAL.tolist(), "y": WILD.tolist()}
    model = sm.fit(data, target="y", overrides=quick)
    assert model.recipe.model.tasks["y"]["loss"] == "huber"
    assert "a loss robust to outliers" in "".join(capfd.readouterr())
