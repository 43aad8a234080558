"""Stream attribution: Shapley values against full enumeration and by their axioms."""

from __future__ import annotations

from collections.abc import Callable
from itertools import permutations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from sensorium.core.batch import Batch
from sensorium.core.errors import DataError
from sensorium.evaluation.stream_attribution import Attribution, Explanation, exact, explain, sampled
from sensorium.model import Model
from sensorium.reporting.explanation import write_explanation

Make = Callable[..., tuple[Model, list[Batch]]]


def by_orders(values: np.ndarray[Any, Any], count: int) -> np.ndarray[Any, Any]:
    """The definition: a stream's gain over those before it, averaged over all orders. ``values`` ``[2^S, B]``."""
    shares = np.zeros((count, values.shape[1]))
    orders = list(permutations(range(count)))
    for order in orders:
        before = 0
        for s in order:
            shares[s] += values[before | 1 << s] - values[before]
            before |= 1 << s
    return shares / len(orders)


@pytest.mark.parametrize("count", [1, 2, 3, 5])
def test_exact_values_are_the_mean_over_all_orders(count: int) -> None:
    values = np.random.default_rng(count).normal(size=(1 << count, 7))
    result, _ = exact(lambda subset: values[subset], count)
    np.testing.assert_allclose(result, by_orders(values, count), atol=1e-12)
    np.testing.assert_allclose(result.sum(axis=0), values[-1] - values[0], atol=1e-12)


def test_sampled_values_are_complete_and_within_their_errors() -> None:
    values = np.random.default_rng(0).normal(size=(1 << 5, 40))
    truth, _ = exact(lambda subset: values[subset], 5)
    result, error = sampled(lambda subset: values[subset], 5, seed=1, pairs=60)
    np.testing.assert_allclose(result.sum(axis=0), values[-1] - values[0], atol=1e-12)
    assert np.mean(np.abs(result - truth) < 2 * error) > 0.9
    assert (error > 0).all()


def test_additive_models_recover_their_terms(make: Make) -> None:
    """Streams are vectors that the fusion adds: a regression is a sum, so each share is the stream's own term."""
    model, batches = make(kinds=("regression",))
    explanation = explain(model.eval(), batches[:1])
    weight = model.tasks["price"].last.weight.detach()[0]
    for one in explanation.targets["price"]:
        for stream, share in one.shares.items():
            own = batches[0].inputs[stream].data[one.row - 1]
            assert share == pytest.approx(2 * float(own @ weight), abs=1e-4)  # a unit of this target is 2
        assert sum(one.shares.values()) == pytest.approx(one.value - one.nothing, abs=1e-9)


def test_classes_are_explained_by_the_predicted_probability(make: Make) -> None:
    model, batches = make()
    model.eval()
    explanation = explain(model, batches)
    with torch.no_grad():
        chance = torch.cat([model(batch)["animal"].softmax(dim=1) for batch in batches])
    rows = explanation.targets["animal"]
    assert [one.value for one in rows] == pytest.approx(chance.amax(dim=1).tolist(), abs=1e-6)
    assert [one.row for one in rows] == list(range(1, 301))
    assert all(sum(one.shares.values()) == pytest.approx(one.value - one.nothing, abs=1e-9) for one in rows)
    means = explanation.mean_shares("animal")
    assert means["image"] > means["audio"] > means["noise"]
    assert explanation.weights is None, "this fusion says nothing of its weights"
    assert "mean absolute contribution of each stream" in explanation.text()


def test_missing_streams_contribute_zero(make: Make) -> None:
    model, batches = make()
    batch = batches[0]
    keep = torch.arange(batch.rows) % 2 == 0
    explanation = explain(model.eval(), [batch.keep({"audio": keep})])
    for one in explanation.targets["animal"]:
        present = bool(keep[one.row - 1])
        assert one.missing == ([] if present else ["audio"])
        if not present:
            assert one.shares["audio"] == pytest.approx(0.0, abs=1e-7)


def test_orders_are_sampled_above_eight_streams(make: Make) -> None:
    model, batches = make(strengths={f"s{i}": 1.0 for i in range(9)}, rows=6)
    (one, *_) = explain(model.eval(), batches).targets["animal"]
    assert set(one.errors) == set(one.shares)
    assert sum(one.shares.values()) == pytest.approx(one.value - one.nothing, abs=1e-9)


def test_multilabel_is_explained_by_the_most_likely_label(make: Make) -> None:
    model, batches = make(kinds=("multilabel",))
    (one, *_) = explain(model.eval(), batches).targets["tags"]
    assert one.what.startswith("probability of ")


def test_a_trained_model_explains_its_rows(trained: Any, scenes: Path, tmp_path: Path) -> None:
    explanation = trained.explain(scenes / "test.csv", row=3, out=tmp_path / "e.html")
    (one,) = explanation.targets["event"]
    (answer,) = trained.predict([trained_row(scenes, 3)], media=scenes)
    assert one.row == 3
    assert one.answer == answer.value
    assert one.value == pytest.approx(answer.targets["event"]["probabilities"][answer.value], abs=1e-6)
    assert one.missing == answer.missing
    page = (tmp_path / "e.html").read_text(encoding="utf-8")
    assert "<svg" in page
    assert "<script" not in page
    many = trained.explain(scenes / "test.csv", sample=5, seed=1)
    assert len(many.targets["event"]) == 5
    with pytest.raises(DataError, match="there is no row 999"):
        trained.explain(scenes / "test.csv", row=999)


def trained_row(scenes: Path, row: int) -> dict[str, Any]:
    from sensorium.data.tables.table import Table

    return Table.read(scenes / "test.csv").row(row - 1)


def test_fusion_weights_are_reported(quick_fit: Any, scenes: Path, cli: Any, tmp_path: Path) -> None:
    quick_fit(overrides=["model.fusion=weighted", "training.epochs=1"], out=tmp_path / "run")
    code, out, _ = cli("explain", tmp_path / "run", scenes / "test.csv", "--row", 1, "--json", tmp_path / "e.json")
    assert code == 0
    assert "Fusion weights" in out
    assert "row 1: event is" in out
    assert (tmp_path / "e.json").is_file()


def test_gates_and_attention_are_drawn(make: Make, tmp_path: Path) -> None:
    model, batches = make(rows=3)

    def weights(parts: Any) -> dict[str, torch.Tensor]:
        rows, streams = next(iter(parts.values())).present.shape[0], len(parts)
        return {
            "share": torch.full((rows, streams), 1 / streams),
            "gate": torch.rand(rows, streams, 3),
            "attention": torch.rand(rows, streams, streams),
        }

    model.fusion.weights = weights  # type: ignore[method-assign]
    one = batches[0].map(lambda tensor: tensor[:1])
    explanation = explain(model.eval(), [one])
    assert explanation.weights is not None
    assert explanation.weights.tolist() == [pytest.approx([1 / 3] * 3)]
    assert {name: values.shape for name, values in explanation.inner.items()} == {"gate": (3, 3), "attention": (3, 3)}
    cells = {"note": "<b>safe</b>"}
    page = write_explanation(tmp_path / "e.html", explanation, title="<script>", cells=lambda row: cells).read_text(
        encoding="utf-8"
    )
    assert "&lt;script&gt;" in page
    assert "The fusion&#x27;s gate in this row" in page
    assert "tokens in stream order: image 1, audio 1, noise 1" in page
    assert "<b>safe</b>" in page
    assert explain(model, batches).inner == {}, "of several rows there is no one picture"


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        ([0.5, 1.23456], "y is 0.500, 1.235: "),
        ([step / 4 for step in range(48)], "y is 0.000, 0.250, 0.500, 0.750, 1.000, 1.250, …, 11.8 (48 steps): "),
        ([[0.5, 1.5]] * 24, "(0.500, 1.500), …, (0.500, 1.500) (24 steps): "),
        ({"nose": {"x": 1.23456, "y": 2.0, "confidence": 0.9}, "tail": None}, "y is nose (1.235, 2), tail missing: "),
    ],
)
def test_an_answer_is_a_readable_line(answer: Any, words: str) -> None:
    attribution = Attribution(1, answer, "value", 1.0, 0.0, {"table": 1.0})
    assert words in Explanation(("table",), {"y": [attribution]}).text().splitlines()[0]
