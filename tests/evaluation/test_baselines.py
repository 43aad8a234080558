"""Scores of the components of an ensemble, and the significance of the network's contribution."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest
import torch
from sklearn.metrics import accuracy_score
from torch import Tensor

from sensorium.core.batch import Batch, Field
from sensorium.core.expert import Expert, Features, Observed, Response
from sensorium.core.layout import Layout
from sensorium.evaluation.baselines import EXPERTS, TOGETHER, ComponentScores
from sensorium.evaluation.evaluate import evaluate
from sensorium.evaluation.results import Evaluation
from sensorium.model import Model
from sensorium.nn.ensemble import NETWORK, Ensemble
from sensorium.reporting.report import write_report

Make = Callable[..., tuple[Model, list[Batch]]]


class AsTheyAre(Features):
    """The numbers of a stream."""

    @classmethod
    def reads(cls, layout: Layout) -> bool:
        return True

    def fit(self, fields: Iterable[Field]) -> None:
        pass

    def forward(self, field: Field) -> Tensor:
        return field.data


class Sums(Expert):
    """Adds up the streams it hears, as the model's fusion does, times ``by``."""

    cost = "nothing"

    def __init__(self, response: Response, streams: Sequence[str], by: float) -> None:
        super().__init__(response, streams)
        self.by = by

    def fit(self, rows: Observed, seed: int) -> None:
        pass

    def forward(self, features: Mapping[str, Tensor], present: Mapping[str, Tensor]) -> Tensor:
        heard = [self.by * features[s] * present[s].unsqueeze(1) for s in self.streams]
        return torch.stack(heard).sum(dim=0).log_softmax(dim=1)


def blended(
    make: Make, experts: Mapping[str, float], shares: Sequence[float], *, network: bool = True, rows: int = 300
) -> tuple[Model, list[Batch]]:
    """The model of ``make`` beside experts that multiply what they hear; each part counts as told."""
    model, batches = make(rows=rows)
    response, streams = Response("classes", 3), model.streams
    features = {s: {"plain": AsTheyAre()} for s in streams}
    each = {kind: Sums(response, streams, by) for kind, by in experts.items()}
    ensemble = Ensemble(streams, features, {"animal": each}, network=network)
    blend = ensemble.blends["animal"]
    blend.keep("share", torch.tensor(shares).expand(len(blend.sets), -1))
    model.experts = ensemble
    return model.eval(), batches


def floor_of(evaluation: Evaluation) -> ComponentScores:
    floor = evaluation.targets["animal"].floor
    assert floor is not None
    return floor


def test_components_are_scored_on_the_rows_of_the_ensemble(make: Make) -> None:
    model, batches = blended(make, {"good": 1.0, "wrong": -1.0}, [0.2, 0.5, 0.3])
    evaluation = evaluate(model, batches)
    floor, target = floor_of(evaluation), evaluation.targets["animal"]
    assert floor.scores[TOGETHER] == target.metrics["accuracy"]
    # The good expert does what the network does, since both add up all streams.
    assert floor.scores["good"] == floor.scores[NETWORK]
    truth = torch.cat([b.targets["animal"].data[b.targets["animal"].present][:, 0] for b in batches])
    for stream in model.streams:
        alone = torch.cat([b.inputs[stream].data[b.targets["animal"].present].argmax(dim=1) for b in batches])
        assert floor.scores[f"good on {stream}"] == pytest.approx(accuracy_score(truth, alone))
        assert floor.whole[stream] == target.subsets[stream]["accuracy"]
    assert floor.share == pytest.approx({NETWORK: 0.2, "good": 0.5, "wrong": 0.3})
    assert floor.simple == "good"
    assert floor.best_on("image") == ("good", floor.scores["good on image"])
    assert set(floor.calibration) == {TOGETHER, NETWORK, "good", "wrong", EXPERTS}
    assert floor.calibration[TOGETHER] == target.metrics["calibration_error"]
    assert floor.rows == target.rows == 270


def test_experts_alone_are_the_ensemble_with_zero_network_weight(make: Make) -> None:
    """Of two experts, a half and a quarter of the blend, two thirds and one third are left."""
    model, batches = blended(make, {"good": 1.0, "wrong": -0.4}, [0.25, 0.5, 0.25])
    with_network = floor_of(evaluate(model, batches, subsets=False))
    bare, _ = blended(make, {"good": 1.0, "wrong": -0.4}, [2 / 3, 1 / 3], network=False)
    alone = evaluate(bare, batches, subsets=False)
    assert with_network.scores[EXPERTS] == alone.targets["animal"].metrics["accuracy"]
    error = alone.targets["animal"].metrics["calibration_error"]
    assert with_network.calibration[EXPERTS] == pytest.approx(error, abs=1e-6)


def test_a_useful_network_is_significant_and_a_redundant_one_is_not(make: Make) -> None:
    helps = floor_of(evaluate(*blended(make, {"poor": -0.2}, [0.9, 0.1])))
    mean, low, high = helps.gain
    assert helps.earned == "yes"
    assert 0 < low < mean < high
    assert mean == pytest.approx(helps.scores[TOGETHER] - helps.scores["poor"])
    assert "improves the ensemble significantly" in " ".join(helps.sentences())
    same = floor_of(evaluate(*blended(make, {"good": 1.0}, [0.5, 0.5])))
    assert same.gain == (0.0, 0.0, 0.0)
    assert same.earned == "not told apart"
    assert "makes no significant difference" in " ".join(same.sentences())
    harms = floor_of(evaluate(*blended(make, {"good": 1.0, "wrong": -3.0}, [0.0, 0.1, 0.9])))
    assert harms.silent
    assert harms.earned == "no"
    assert "has zero weight" in " ".join(harms.sentences())


def test_the_gain_is_a_paired_bootstrap(make: Make) -> None:
    """The interval of the difference is that of the rows on which the two differ, not of two separate scores."""
    model, batches = blended(make, {"near": 0.9, "noise": 0.0}, [0.34, 0.33, 0.33])
    evaluation = evaluate(model, batches, resamples=2000)
    _, low, high = floor_of(evaluation).gain
    wide = evaluation.targets["animal"].intervals["accuracy"]
    assert high - low < 0.2 * (wide[1] - wide[0]), "nearly equal answers differ on few rows, whatever rows are drawn"


@pytest.mark.parametrize(
    ("gain", "earned", "words"),
    [
        ((0.05, 0.01, 0.09), "yes", "mae better by 0.050 than linear, 95 % interval +0.01 to +0.09, on 80 rows"),
        ((0.05, -0.01, 0.11), "not told apart", "--quality fast may be as good"),
        ((-0.05, -0.09, -0.01), "no", "makes the ensemble significantly worse (mae worse by 0.050 than linear"),
    ],
)
def test_the_verdict_follows_the_interval(gain: tuple[float, float, float], earned: str, words: str) -> None:
    scores = {TOGETHER: 1.0, NETWORK: 1.2, "linear": 1.05}
    floor = ComponentScores("mae", "mae", False, 80, scores, {NETWORK: 0.5, "linear": 0.5}, "linear", gain)
    assert floor.earned == earned
    assert any(words in sentence for sentence in floor.sentences())
    alone = replace(floor, share={"linear": 1.0})
    assert alone.earned is None
    assert not any("network improves" in sentence for sentence in alone.sentences())
    assert "calibration_error" not in floor.to_json()


def test_no_component_scores_with_experts_or_scored_rows(make: Make) -> None:
    model, batches = make(rows=40)
    evaluation = evaluate(model, batches, resamples=3)
    assert evaluation.targets["animal"].floor is None
    assert "floor" not in evaluation.to_json()
    blend, batches = blended(make, {"good": 1.0}, [0.5, 0.5], rows=40)
    bare = [replace(b, targets={}) for b in batches]
    assert evaluate(blend, bare, resamples=3).targets["animal"].floor is None


class Words(HTMLParser):
    def __init__(self, page: str) -> None:
        super().__init__()
        self.text, self.charts = "", list[str]()
        self.feed(page)

    def handle_data(self, data: str) -> None:
        self.text += data

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "svg":
            self.charts.append(dict(attrs)["aria-label"] or "")


def test_page_terminal_and_json_agree(make: Make, tmp_path: Path) -> None:
    model, batches = blended(make, {"good": 1.0, "wrong": -1.0}, [0.2, 0.5, 0.3])
    evaluation = evaluate(model, batches, resamples=50)
    floor = floor_of(evaluation)
    page = Words(write_report(tmp_path / "r.html", evaluation, title="t").read_text(encoding="utf-8"))
    assert "accuracy of each component" in page.charts
    for bar in ("ensemble", "all experts, no network", "image alone: ensemble", "image alone: good"):
        assert bar in page.text
    for sentence in floor.sentences():
        assert sentence in page.text
        assert sentence in evaluation.text()
    document = json.loads(json.dumps(evaluation.to_json(), allow_nan=False))["floor"]["animal"]
    assert document["earned"] == floor.earned
    assert document["calibration_error"].keys() == floor.calibration.keys()
    assert document["gain"].keys() == {"mean", "low", "high"}
