"""Ordinal classification: cumulative link in float64, metrics against scikit-learn, end to end from a table."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from sklearn import metrics as reference

import sensorium as sm
from sensorium.core.batch import Batch, Encoded, Field
from sensorium.core.errors import CellError, ConfigError
from sensorium.core.goal import Goal
from sensorium.core.scorer import plain_scores
from sensorium.data.inspection.inspect import inspect
from sensorium.data.tables.table import Table
from sensorium.heads.ordinal import cumulative_link, decided, quadratic_kappa, steps_off
from sensorium.modalities.category import Category
from sensorium.modalities.ordinal import Ordinal as Steps
from sensorium.tasks.ordinal import Ordinal

B, D = 200, 6


def steps(*cells: Any, order: str = "") -> Steps:
    modality = Steps(order=order)
    modality.fit(cells or [1, 2, 3, 4, 5])
    return modality


def task(**options: Any) -> Ordinal:
    torch.manual_seed(0)
    return Ordinal(Goal.of(steps()), D, **options)


def fused(rows: int) -> Encoded:
    pooled = torch.randn(rows, D, generator=torch.Generator().manual_seed(1))
    present = torch.ones(rows, dtype=torch.bool)
    return Encoded(pooled[:, None], present[:, None], pooled, present)


def target(index: Any) -> Field:
    data = torch.as_tensor(np.asarray(index), dtype=torch.float32)[:, None]
    return Field(data, torch.ones(len(data), dtype=torch.bool))


def test_log_probabilities_are_differences_of_sigmoids() -> None:
    score = torch.linspace(-6, 6, 13, dtype=torch.float64)[:, None]
    cuts = torch.tensor([-2.0, -1.9, 0.5, 3.0], dtype=torch.float64)
    edges = torch.cat([torch.zeros(13, 1), torch.sigmoid(cuts - score), torch.ones(13, 1)], dim=1)
    result = cumulative_link(score, cuts)
    assert torch.allclose(result.exp(), edges.diff(dim=1), atol=1e-12)
    far = cumulative_link(torch.tensor([[500.0], [-500.0]], requires_grad=True), cuts.float())
    far.sum().backward()
    assert bool(far.isfinite().all())
    assert torch.allclose(far.exp().sum(dim=1), torch.ones(2))


def test_a_higher_score_moves_the_answer_up_and_cuts_increase() -> None:
    made = task()
    with torch.no_grad():
        made.gaps.copy_(torch.tensor([-30.0, 2.0, -9.0]))
    assert bool((made.cuts.diff() > 0).all())
    chances = cumulative_link(torch.linspace(-9, 9, 50)[:, None], made.cuts).exp()
    mean = chances @ torch.arange(5.0)
    assert bool((mean.diff() > 0).all())


@pytest.mark.parametrize("balance", [0.0, 0.5])
def test_the_first_output_is_the_prior_of_the_weighted_loss(balance: float) -> None:
    made = task(balance=balance, dropout=0.0)
    index = [0] * 50 + [1] * 20 + [2] * 5 + [3] * 100 + [4] * 25
    made.fit([target(index)])
    with torch.no_grad():
        made.last.weight.zero_()
    results = made(fused(1), {}, {}).exp()[0]
    wanted = (np.bincount(index) + 1.0) ** (1 - balance)
    assert results.tolist() == pytest.approx(wanted / wanted.sum(), abs=1e-4)


def test_it_recovers_a_proportional_odds_model() -> None:
    """Rows drawn from the model: the fitted slopes and cuts are those they were drawn with."""
    draw = torch.Generator().manual_seed(0)
    slopes, cuts = torch.tensor([1.0, -2.0, 0.5, 0.0, 0.0, 1.5]), torch.tensor([-3.0, -1.0, 0.0, 2.0])
    pooled = torch.randn(20_000, D, generator=draw)
    drawn = torch.multinomial(cumulative_link((pooled @ slopes)[:, None], cuts).exp(), 1, generator=draw)[:, 0]
    present = torch.ones(len(pooled), dtype=torch.bool)
    made = task(dropout=0.0)
    made.fit([target(drawn)])
    optimiser = torch.optim.LBFGS(made.parameters(), max_iter=100)

    def step() -> torch.Tensor:
        optimiser.zero_grad()
        loss = made.loss(made(Encoded(pooled[:, None], present[:, None], pooled, present), {}, {}), target(drawn)).mean()
        loss.backward()
        return loss

    optimiser.step(step)
    assert made.last.weight[0].tolist() == pytest.approx(slopes.tolist(), abs=0.08)
    assert made.cuts.tolist() == pytest.approx(cuts.tolist(), abs=0.1)


def test_smoothing_affects_neighbouring_classes_only() -> None:
    made = task(smoothing=0.2)
    made.fit([target([0, 1, 2, 3, 4] * 4)])
    output = torch.randn(3, 5).log_softmax(dim=1)
    result = made.loss(output, target([0, 2, 4]))
    wanted = [
        -(0.8 * output[0, 0] + 0.2 * output[0, 1]),
        -(0.8 * output[1, 2] + 0.1 * output[1, 1] + 0.1 * output[1, 3]),
        -(0.8 * output[2, 4] + 0.2 * output[2, 3]),
    ]
    assert result.tolist() == pytest.approx([float(value) for value in wanted], rel=1e-5)


@pytest.mark.parametrize("decide", ["likeliest", "median", "mean"])
def test_metrics_match_scikit_learn(decide: Any) -> None:
    rng = np.random.default_rng(3)
    truth = rng.integers(0, 5, B)
    logits = torch.tensor(rng.normal(size=(B, 5)) + 1.5 * np.eye(5)[truth], dtype=torch.float32)
    made = task(decide=decide)
    scorer = made.scorer()
    scorer.update(logits, Batch({}, {"target": target(truth)}, torch.ones(B)))
    result = plain_scores(scorer)
    chance = logits.softmax(1).double().numpy()
    if decide == "likeliest":
        guess = chance.argmax(1)
    elif decide == "median":
        guess = (chance.cumsum(1) >= 0.5).argmax(1)
    else:
        guess = (chance @ np.arange(5)).round().astype(int)
    assert next(iter(result)) == "qwk"
    assert result["qwk"] == pytest.approx(reference.cohen_kappa_score(truth, guess, weights="quadratic"), abs=1e-6)
    assert result["mae"] == pytest.approx(reference.mean_absolute_error(truth, guess), abs=1e-6)
    assert result["accuracy"] == pytest.approx(reference.accuracy_score(truth, guess), abs=1e-6)
    assert result["f1"] == pytest.approx(reference.f1_score(truth, guess, average="macro", zero_division=0), abs=1e-6)
    assert result["auroc"] == pytest.approx(reference.roc_auc_score(truth, logits.softmax(1), multi_class="ovr"), abs=1e-5)
    answers = made.answers(logits, Batch({}, {}, torch.ones(B)))
    assert [answer["value"] for answer in answers] == (guess + 1).tolist()
    views = {view.name: view.to_json() for view in made.views(scorer)}
    assert views["confusion"]["counts"] == reference.confusion_matrix(truth, guess, labels=range(5)).tolist()


def test_resamples_score_as_repeated_rows() -> None:
    rng = np.random.default_rng(0)
    truth, guess = rng.integers(0, 4, 60), rng.integers(0, 4, 60)
    weight = torch.tensor(rng.integers(0, 4, (3, 60)), dtype=torch.float64)
    chances = torch.nn.functional.one_hot(torch.tensor(guess), 4).double()
    kappa = quadratic_kappa(chances, torch.tensor(truth), weight)
    off = steps_off(chances, torch.tensor(truth), weight)
    for i, counts in enumerate(weight.int().numpy()):
        one, other = truth.repeat(counts), guess.repeat(counts)
        assert float(kappa[i]) == pytest.approx(reference.cohen_kappa_score(one, other, weights="quadratic"))
        assert float(off[i]) == pytest.approx(np.abs(one - other).mean())
    one_class = quadratic_kappa(chances[:5] * 0 + torch.eye(4)[0], torch.zeros(5), torch.ones(1, 5).double())
    assert bool(one_class.isnan().all())


def test_decision_rules_optimise_their_criterion() -> None:
    """Of all constant answers the median has the least absolute and the mean the least squared error."""
    chances = torch.rand(100, 5, generator=torch.Generator().manual_seed(0)).double()
    chances = chances / chances.sum(dim=1, keepdim=True)
    far = (torch.arange(5)[:, None] - torch.arange(5)).abs().double()
    rows = torch.arange(100)
    for how, cost in (("median", far), ("mean", far.square()), ("likeliest", (far > 0).double())):
        costs = chances @ cost
        assert torch.allclose(costs[rows, decided(chances, how)], costs.min(dim=1).values)  # type: ignore[arg-type]


# ── the column ─────────────────────────────────────────────────────────────────────────────────────────────────────


def test_numbers_are_ordered_by_value_and_words_as_declared() -> None:
    result = steps("10", "9", 2, "10", 2.0)
    assert (result.classes, result.decode(result.encode_target("9"))) == (["2", "9", "10"], 9)
    words = steps("fair", "Good", "poor", "fair", order="poor, fair, good, superb")
    assert words.classes == ["poor", "fair", "good", "superb"]
    assert [float(words.encode_target(cell)[0]) for cell in ("POOR ", "good", "superb")] == [0, 2, 3]
    assert words.decode(np.array([2.0])) == "good"
    assert steps("a, b", "c", order="a, b < c").classes == ["a, b", "c"]
    with pytest.raises(CellError, match="'awful' is not on the scale: poor, fair, good, superb"):
        words.encode_target("awful")
    with pytest.raises(ConfigError, match="'fair' is not a number"):
        steps("fair", "good")
    with pytest.raises(ConfigError, match="two different values"):
        Steps(order="good, Good")


def test_values_in_the_declared_order_are_not_missing() -> None:
    result = steps("none", "some", "much", order="none, some, much")
    assert not result.missing("None")
    assert result.missing("n/a")
    assert steps().missing("none")


def test_as_an_input_it_is_a_standardised_rank() -> None:
    cells = ["low", "low", "mid", "high", "high", "high"]
    result = steps(*cells, order="low, mid, high")
    read = np.array([result.encode(cell)[0] for cell in cells])
    assert (read.mean(), read.std()) == pytest.approx((0, 1), abs=1e-6)
    assert read[0] < read[2] < read[3]


def test_classes_without_rows_are_reported() -> None:
    assert "no training cell is 3" in steps(1, 2, 4, 5).doubts[0]
    assert steps(1, 2, 3).doubts == []


def test_unordered_categories_are_rejected() -> None:
    words = Category()
    words.fit(["poor", "fair", "good"])
    with pytest.raises(ConfigError, match="kind: ordinal, order"):
        Ordinal(Goal.of(words, "mood"), D)
    numbers = Category()
    numbers.fit([3, 1, 2])
    assert Ordinal(Goal.of(numbers), D).classes == ["1", "2", "3"]


# ── the road ───────────────────────────────────────────────────────────────────────────────────────────────────────


def stars(rows: int = 160) -> dict[str, list[Any]]:
    rng = np.random.default_rng(0)
    x = rng.normal(size=rows)
    words = np.array(["poor", "fair", "good", "superb"])
    place = np.clip(np.round(1.5 + 1.2 * x), 0, 3).astype(int)
    return {"x": x.tolist(), "stars": (place + 1).tolist(), "mood": words[place].tolist()}


def test_inspect_proposes_it_and_changes_nothing() -> None:
    table = Table.read(stars())
    inspection = inspect({"train": table}, target="stars")
    (column,) = [column for column in inspection.columns if column.name == "stars"]
    assert column.kind == "category"
    assert "--as stars=ordinal" in column.reason
    gap = Table.read({"x": [1.0, 2.5, 3.1, 4.7] * 10, "y": [1, 2, 4, 8] * 10})
    assert "ordinal" not in str([column.reason for column in inspect({"train": gap}, target="y").columns])


@pytest.mark.parametrize(
    "requested",
    [
        {"target": "stars", "columns": {"stars": "ordinal"}},
        {"target": "stars", "task": "ordinal"},
        {"target": "mood", "columns": {"mood": {"kind": "ordinal", "order": "poor, fair, good, superb"}}},
    ],
)
def test_trained_saved_and_loaded_from_a_table(requested: dict[str, Any], tmp_path: Any) -> None:
    data = stars()
    name = requested["target"]
    other = "mood" if name == "stars" else "stars"
    quick = ["model.size=tiny", "training.epochs=12"]
    model = sm.fit(data, ignore=[other], overrides=quick, quiet=True, **requested)
    assert model.recipe.model.tasks[name]["kind"] == "ordinal"
    scores = model.evaluate(data).targets[name]
    assert scores.metrics["qwk"] > 0.7
    assert scores.baseline["qwk"] == pytest.approx(0, abs=1e-6)
    again = sm.load(model.save(tmp_path / "run"))
    first, second = (m.predict({"x": [-3.0, 3.0]}) for m in (model, again))
    assert [p.to_json() for p in first] == [p.to_json() for p in second]
    assert [p.value for p in again.predict({"x": [-3.0, 3.0]})] == [data[name][i] for i in extremes(data)]


def extremes(data: dict[str, list[Any]]) -> tuple[int, int]:
    return data["stars"].index(1), data["stars"].index(4)
