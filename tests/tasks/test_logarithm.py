"""Skewed positive targets: the choice of a logarithmic scale, and smearing to estimate the mean."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats

import sensorium as sm
from sensorium.core.batch import Batch, Encoded, Field
from sensorium.core.errors import CellError, ConfigError
from sensorium.core.goal import Goal
from sensorium.core.registry import build
from sensorium.core.scorer import plain_scores
from sensorium.core.task import EncodedRows
from sensorium.modalities.number import Number, log_gain
from sensorium.tasks.regression import Regression

DRAW = np.random.default_rng(0)
SKEWED = np.exp(DRAW.normal(3, 1.5, 400))


def column(values: Any = SKEWED, **options: Any) -> Number:
    modality = Number(**options)
    modality.fit(list(values))
    return modality


def test_likelihood_gain_matches_scipy_densities() -> None:
    values = SKEWED[:50]
    fold = np.random.default_rng(0).permutation(50) % 5
    total = 0.0
    for k in range(5):
        rest, held = values[fold != k], values[fold == k]
        total += stats.lognorm.logpdf(held, np.log(rest).std(), scale=np.exp(np.log(rest).mean())).sum()
        total -= stats.norm.logpdf(held, rest.mean(), rest.std()).sum()
    assert log_gain(values) == pytest.approx(total / 50)
    assert log_gain(values * 1e200) == pytest.approx(total / 50)


@pytest.mark.parametrize(
    ("values", "wanted"),
    [
        (SKEWED, True),
        (SKEWED[:29], False),  # too few to tell
        (np.append(SKEWED, 0.0), False),
        (DRAW.normal(170, 10, 400), False),
        (DRAW.uniform(1, 2, 400), False),
        (np.full(50, 3.0), False),
        (10.0 - DRAW.exponential(1, 400).clip(0, 9), False),  # skewed to the other side
        (DRAW.integers(1, 6, 400), False),  # stars
    ],
)
def test_logarithmic_scale_is_chosen_for_skewed_targets(values: Any, wanted: bool) -> None:
    result = column(values)
    options, notes = result.resolved_target_options
    assert result.logarithmic is wanted
    assert options == {"scale": "log" if wanted else "standard"}
    assert ("logarithm" in notes) is wanted


def test_targets_come_back_and_inputs_stay_as_they_were() -> None:
    result = column()
    encoded = np.array([result.encode_target(value)[0] for value in SKEWED])
    assert (encoded.mean(), encoded.std()) == pytest.approx((0, 1), abs=1e-5)
    assert [result.decode(value) for value in encoded[:, None]] == pytest.approx(SKEWED, rel=1e-5)
    plain = column(scale="standard")
    assert [result.encode(value)[0] for value in SKEWED] == [plain.encode(value)[0] for value in SKEWED]
    assert not plain.logarithmic
    outcome = column(scale="log")
    assert outcome.encode(SKEWED[0])[0] == pytest.approx(outcome.encode_target(SKEWED[0])[0])
    assert outcome.resolved_target_options == ({}, "")


def test_no_overflow_and_invalid_values_are_reported() -> None:
    result = column([1e-300, 1e300, *SKEWED], scale="log")
    assert np.isfinite(result.decode(np.array([1e30])))
    assert result.decode(np.array([-1e30])) > 0
    with pytest.raises(CellError, match="-3 is not above 0"):
        result.encode_target(-3)
    with pytest.raises(ConfigError, match="2 of 402 numbers are not above 0"):
        column([0, -1, *SKEWED], scale="log")
    assert np.isfinite(column([], scale="log").blank()).all()


# ── the task ───────────────────────────────────────────────────────────────────────────────────────────────────────


def task(modality: Number, **options: Any) -> Regression:
    torch.manual_seed(0)
    return Regression(Goal.of(modality), 4, **options)


def fused(rows: int) -> Encoded:
    pooled = torch.randn(rows, 4, generator=torch.Generator().manual_seed(1))
    present = torch.ones(rows, dtype=torch.bool)
    return Encoded(pooled[:, None], present[:, None], pooled, present)


def seen(modality: Number) -> EncodedRows:
    data = torch.tensor(np.array([modality.encode_target(value) for value in SKEWED]))
    part = fused(len(data))
    return EncodedRows(part, {}, Field(data, part.present), torch.ones(len(data)))


def test_smearing_matches_the_means_of_predictions_and_truths() -> None:
    modality = column()
    made = task(modality).eval()
    with torch.no_grad():
        made.last.weight.zero_()
        made.last.bias.zero_()
    held = seen(modality)
    batch = Batch({}, {"target": held.target}, held.weight)

    def answered() -> list[Any]:
        return [answer["value"] for answer in made.answers(made(held.fused, {}, {}), batch)]

    assert made.fits_after_training
    assert np.mean(answered()) == pytest.approx(stats.gmean(SKEWED), rel=1e-4)  # before: the median, nearly
    made.fit_after_training(held, held)
    assert np.mean(answered()) == pytest.approx(SKEWED.mean(), rel=1e-4)
    twin = task(modality)
    twin.load_state_dict(made.state_dict())
    assert float(twin.smear) == float(made.smear)
    scorer = made.scorer()
    scorer.update(made(held.fused, {}, {}), batch)
    assert plain_scores(scorer)["rmse"] == pytest.approx(SKEWED.std(), rel=1e-4)
    assert made.truths(batch) == pytest.approx(SKEWED, rel=1e-4)
    constant = made.constant(made.baseline([held.target]), 1)
    assert made.answers(constant, batch)[0]["value"] == pytest.approx(np.sort(SKEWED)[199], rel=1e-3)


@pytest.mark.parametrize("made", [task(column(), loss="mae"), task(column(), loss="huber"), task(column(scale="standard"))])
def test_losses_other_than_mse_are_not_smeared(made: Regression) -> None:
    assert not made.fits_after_training
    before = made.state_dict()
    made.fit_after_training(seen(column()), seen(column()))
    assert list(before) == list(made.state_dict())
    assert "smear" not in before


def test_few_rows_or_an_outlier_hardly_change_predictions() -> None:
    modality = column()
    made, held = task(modality), seen(modality)
    some = torch.arange(len(SKEWED)) < 10
    made.fit_after_training(held, EncodedRows(held.fused, {}, Field(held.target.data, some), held.weight))
    assert float(made.smear) == 1
    wild = held.target.data.clone()
    wild[0] = 50.0
    made.fit_after_training(held, EncodedRows(held.fused, {}, Field(wild, held.target.present), held.weight))
    assert 1 < float(made.smear) <= 5.01


def test_explained_value_is_the_differentiable_prediction() -> None:
    modality = column()
    made = task(modality)
    made.fit_after_training(seen(modality), seen(modality))
    output = torch.tensor([[0.3], [-1.2], [1e6]], requires_grad=True)
    result = made.explained(output, output)
    predicted = [answer["value"] for answer in made.answers(output, Batch({}, {}, torch.ones(3)))]
    assert result[:2].tolist() == pytest.approx(predicted[:2], rel=1e-5)
    assert bool(result.isfinite().all())
    (slope,) = torch.autograd.grad(result[0], output)
    assert float(slope[0]) == pytest.approx(predicted[0] * modality.state["log"]["deviation"], rel=1e-4)


def test_late_fusion_is_corrected_jointly() -> None:
    modality = column()
    goal = Goal.of(modality)
    fusion = build("fusions", "late", ["one", "two"], 4)
    panel = fusion.answering(lambda: Regression(goal, 4)).eval()
    held = seen(modality)
    streams = {"one": fused(400), "two": fused(400)}
    one = fused(400)
    both = Encoded(one.tokens.repeat(1, 2, 1), one.mask.repeat(1, 2), one.pooled, one.present)
    whole = EncodedRows(both, streams, held.target, held.weight)
    panel.fit_after_training(whole, whole)
    answers = panel.answers(panel(both, streams, {}), Batch({}, {}, held.weight))
    residuals = np.log(SKEWED) - np.log([answer["value"] for answer in answers]) + np.log(float(panel.plain.smear))
    assert float(panel.plain.smear) == pytest.approx(np.exp(residuals).mean(), rel=1e-3)


# ── the road ───────────────────────────────────────────────────────────────────────────────────────────────────────


def test_end_to_end_from_a_table(tmp_path: Any, capfd: pytest.CaptureFixture[str]) -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=240)
    data = {"x": x.tolist(), "price": np.exp(4 + 1.5 * x + 0.7 * rng.normal(size=240)).tolist()}
    quick = ["model.size=tiny", "training.epochs=15"]
    model = sm.fit(data, target="price", overrides=quick)
    assert "its logarithm is learnt" in "".join(capfd.readouterr())
    assert model.recipe.columns["price"]["scale"] == "log"
    assert model.recipe.columns["x"]["scale"] == "auto"
    assert float(model.model.tasks["price"].plain.smear) > 1.02
    again = sm.load(model.save(tmp_path / "run"))
    rows = {"x": [-1.0, 0.0, 2.0]}
    assert [p.value for p in again.predict(rows)] == [p.value for p in model.predict(rows)]
    assert model.evaluate(data).targets["price"].metrics["r2"] > 0.1
