"""Attribution maps: shapes, completeness, missing streams and rendering; nearest rows; feature maps."""

from __future__ import annotations

import json
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from sensorium.core.batch import Batch, Encoded
from sensorium.core.errors import ConfigError
from sensorium.core.goal import Goal
from sensorium.core.registry import build
from sensorium.evaluation.attribution import Map, attribute_elements
from sensorium.evaluation.nearest_rows import nearest
from sensorium.modalities.text import Text
from sensorium.model import Model
from sensorium.reporting.attribution_maps import coarse, drawn, pictures, summary
from sensorium.tasks.classification import Classification

Make = Callable[..., tuple[Model, list[Batch]]]


class Tags(HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))


@pytest.fixture(scope="module")
def whole(trained: Any, scenes: Path) -> list[Map]:
    """The maps of a row that has all streams, by quick explainers."""
    from sensorium.data.tables.table import Table

    table = Table.read(scenes / "test.csv")
    whole = next(i for i in range(len(table)) if not trained.predict(table.take([i]))[0].missing)
    maps: list[Map] = trained.maps(trained.encode(table.take([whole])), [whole + 1])
    return maps


def test_every_stream_has_a_complete_map_of_its_shape(whole: list[Map], trained: Any) -> None:
    assert {one.stream for one in whole} == set(trained.model.streams)
    for one in whole:
        assert not one.note
        assert np.isfinite(one.values).all()
        assert one.what.startswith("probability of ")
        assert one.lost is not None
        assert one.lost < 0.03 or abs(one.value - (one.blank or 0)) < 1e-3, f"{one.stream} loses {one.lost}"
        shape = one.data.shape
        assert one.values.shape in (shape, (1, *shape[1:]), shape[:1])
    table = next(one for one in whole if one.layout == "row")
    assert [name for name, _ in table.named()] == [c.name for c in trained.schema.streams["table"]]
    assert sum(value for _, value in table.named()) == pytest.approx(table.values.sum())
    note = next(one for one in whole if one.layout == "ids")
    assert "".join(name for name, _ in note.named()).split()
    assert sum(value for _, value in note.named()) == pytest.approx(note.values.sum(), abs=1e-6)


def test_maps_are_self_contained_html(whole: list[Map]) -> None:
    for one in whole:
        html = drawn(one)
        tags = Tags(html).tags
        assert not {"script", "iframe", "link"} & {tag for tag, _ in tags}
        for tag, attributes in tags:
            if tag == "img":
                assert (attributes["src"] or "").startswith("data:image/png;base64,")
                assert attributes["alt"], "a picture must say what it shows"
            if tag == "svg":
                assert attributes["role"] == "img"
                assert attributes["aria-label"]
        assert summary(one) in html.replace("&#x27;", "'")
        plain = json.loads(json.dumps(one.to_json(), allow_nan=False))
        assert plain["stream"] == one.stream
        assert np.asarray(plain["values"]).sum() == pytest.approx(one.values.sum(), abs=1e-3)
        assert len(json.dumps(plain)) < 300_000
    sound = next(one for one in whole if one.kind == "audio")
    assert sound.sound.size
    assert len(pictures(sound)) == 1


def test_missing_streams_have_a_note_instead_of_a_map(trained: Any, scenes: Path) -> None:
    explanation = trained.explain([{"room": "hall", "temperature": 20.0}], row=1, media=scenes)
    missing = {one.stream: one.note for one in explanation.maps if one.note}
    assert missing["photo"] == "the row has no photo"
    assert "the row has no sound" in explanation.text()
    plain = [one for one in explanation.to_json()["maps"] if one["stream"] == "photo"]
    assert plain[0]["values"] == []
    assert plain[0]["value"] is None
    assert "the row has no photo" in plain[0]["html"]
    json.dumps(explanation.to_json(), allow_nan=False)


def test_the_page_shows_maps_media_and_nearest_rows(trained: Any, scenes: Path, tmp_path: Path) -> None:
    page = tmp_path / "e.html"
    explanation = trained.explain(scenes / "test.csv", row=2, out=page, train=scenes / "train.csv", explainer="occlusion")
    assert {one.explainer for one in explanation.maps if not one.note} == {"occlusion"}
    text = page.read_text(encoding="utf-8")
    assert "<script" not in text
    assert "nearest training rows" in text
    assert len(explanation.nearest[2]) == 5
    assert all(set(one.targets) == {"event"} for one in explanation.nearest[2])
    best = explanation.nearest[2][0]
    assert best.likeness <= 1 + 1e-6
    assert f"similar to training row {best.row}" in explanation.text()
    with pytest.raises(ConfigError, match="no explainers named 'occlusoin'; did you mean occlusion"):
        trained.explain(scenes / "test.csv", row=2, explainer="occlusoin")


def test_inapplicable_explainers_give_a_reason(trained: Any, scenes: Path, cli: Any, run_folder: Path) -> None:
    code, out, _ = cli("explain", run_folder, scenes / "test.csv", "--row", 2, "--explainer", "attention_rollout")
    assert code == 0
    assert "rollout needs an encoder that is one transformer" in out
    code, out, _ = cli("explain", run_folder, scenes / "test.csv", "--row", 2, "--no-where")
    assert code == 0
    assert "Most:" not in out


def test_nearest_rows_have_the_largest_cosine() -> None:
    draw = torch.Generator().manual_seed(0)
    rows, known = torch.randn(4, 6, generator=draw), torch.randn(30, 6, generator=draw)
    rows[3] = 0
    result = nearest(rows, known, 3)
    cosine = torch.nn.functional.cosine_similarity(rows[:, None], known[None], dim=2)
    for i in range(3):
        order = cosine[i].argsort(descending=True)[:3]
        assert [place for place, _ in result[i]] == order.tolist()
        assert [like for _, like in result[i]] == pytest.approx(cosine[i][order].tolist(), abs=1e-5)
    assert result[3] == [], "what is not known at all is near to nothing"
    assert len(nearest(rows, known[:2], 3)[0]) == 2


@pytest.mark.parametrize("kind", ["classification", "multilabel", "regression", "svm"])
def test_explained_value_matches_the_prediction(make: Make, kind: str) -> None:
    if kind == "svm":
        pytest.importorskip("sklearn")
        from types import SimpleNamespace

        names = ["cat", "dog", "eel"]
        reader: Any = SimpleNamespace(classes=names, decode=lambda value: names[int(value[0])])
        task = build("tasks", "svm", Goal.of(reader), 3).eval()
        task.slope.fill_(2.5)
    else:
        task = make(kinds=(kind,))[0].tasks[{"classification": "animal", "multilabel": "tags", "regression": "price"}[kind]]
    vectors = torch.randn(5, 3, requires_grad=True)
    present = torch.ones(5, dtype=torch.bool)
    output = task(Encoded(vectors[:, None], present[:, None], vectors, present), {}, {})
    answers = task.answers(output, Batch({}, {}, torch.ones(5)))
    for of in (output, output[2:3], output.roll(1, 0)):
        result, requested = task.explained(output, of), task.question(of) * (5 // len(of))
        keys = [words.removeprefix("probability of ") for words in requested]
        outcome = [
            one["value"] if key == "value" else one["probabilities"][key] for one, key in zip(answers, keys, strict=True)
        ]
        assert result.tolist() == pytest.approx(outcome, abs=1e-5)
        (slope,) = torch.autograd.grad(result.sum(), vectors, retain_graph=True)
        assert bool(slope.any())


def test_tasks_without_gradients_are_explained_by_perturbation(trained: Any, scenes: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr(Classification, "differentiable", False)
    rows = trained.encode(_table(scenes).take([1]))
    (batch,) = trained.batches(rows)
    maps = attribute_elements(trained.predictor.model, trained.schema, batch, streams=["photo"])
    assert maps[0].note or maps[0].explainer in ("occlusion", "shapley")
    (two,) = trained.batches(trained.encode(_table(scenes).take([0, 1])))
    with pytest.raises(ConfigError, match="of one row"):
        attribute_elements(trained.predictor.model, trained.schema, two)


def _table(scenes: Path) -> Any:
    from sensorium.data.tables.table import Table

    return Table.read(scenes / "test.csv")


@pytest.mark.parametrize("tokeniser", ["bpe", "wordpiece", "unigram", "word", "character"])
def test_token_texts_join_to_the_original_text(tokeniser: str) -> None:
    texts = ["the red dress is lovely", "a blue dress, too small", "这件连衣裙很好看 and soft", "质量很差"] * 5
    text = Text(tokeniser=tokeniser)  # type: ignore[arg-type]
    text.fit(iter(texts))
    for inputs in texts[:4]:
        ids = text.encode(inputs).tolist()
        pieces = text.pieces(ids)
        assert len(pieces) == len(ids)
        assert "".join("".join(pieces).split()) == "".join(text._tokeniser.decode(ids).split())


def test_tokens_join_to_words_and_cjk_characters_stay_single() -> None:
    one = Map(1, "t", "value", "note", "text", "ids", values=np.array([1.0, 2.0, 4.0, 8.0, 16.0, 32.0]))
    one.names = ["lov", "ely", " dress", "很", "好", "!"]
    assert one.named() == [("lovely", 3.0), (" dress", 4.0), ("很", 8.0), ("好", 16.0), ("!", 32.0)]
    assert summary(one) == "Strongest: 好 +16.000, 很 +8.000, dress +4.000.", "a mark is no word that counts most"
    one.values, one.names = np.array([1.0, 2.0]), [" ,", "。"]
    assert summary(one) == "Only punctuation affects the prediction."
    one.names = [" 👍", "!"]
    assert summary(one) == "Strongest: 👍 +1.000."


@pytest.mark.parametrize("shape", [(3, 100), (1, 7), (1, 40, 90), (1, 8, 33, 5)])
def test_coarse_maps_keep_their_sum(shape: tuple[int, ...]) -> None:
    values = np.random.default_rng(0).normal(size=shape)
    small = coarse(values, 8)
    assert small.sum() == pytest.approx(values.sum())
    assert all(n <= 8 for n in small.shape[1:])


def test_feature_maps_are_outputs_of_the_last_convolutions(trained: Any, scenes: Path) -> None:
    from sensorium.evaluation.feature_maps import feature_maps
    from sensorium.nn.feature_hooks import grids
    from sensorium.reporting.feature_maps import pictured

    row = next(i for i in range(20) if not trained.predict(_table(scenes).take([i]))[0].missing)
    (batch,) = trained.batches(trained.encode(_table(scenes).take([row])))
    model = trained.predictor.model
    result = feature_maps(model, trained.schema, batch, most=4)
    assert "photo" in result
    with torch.no_grad(), grids(model.encoders["photo"], 2) as seen:
        model.encoders["photo"](batch.inputs["photo"].data, None)
    every = {one.tobytes() for one in seen[-1][0].numpy()}
    assert all(one.tobytes() in every for one in result["photo"])
    strength = np.abs(result["photo"]).mean(axis=(1, 2))
    assert (np.diff(strength) <= 0).all()
    assert strength[0] == pytest.approx(np.abs(seen[-1][0].numpy()).mean(axis=(1, 2)).max())
    html = pictured(result, {"sound": "audio"})
    assert html.count("<img") >= 4
    assert "photo" not in feature_maps(model, trained.schema, batch.without("photo"))


def test_points_frames_and_vectors_are_drawn() -> None:
    rng = np.random.default_rng(0)
    cloud = Map(1, "t", "value", "scan", "points", "points", "occlusion", 1.0, None, rng.normal(size=50))
    cloud.data = rng.normal(size=(50, 3))
    assert drawn(cloud).count("<svg") == 2
    film = Map(1, "t", "value", "clip", "video", "grid", "occlusion", 1.0, None, rng.normal(size=(1, 12, 8, 8)))
    film.data, film.scale = rng.normal(size=(3, 12, 8, 8)), ([0.5] * 3, [0.2] * 3)
    assert drawn(film).count("<img") == 8
    vector = Map(1, "t", "value", "vec", "vector", "grid", "occlusion", 1.0, None, rng.normal(size=(20, 1)))
    vector.data = rng.normal(size=(20, 1))
    assert "number " in drawn(vector)
    nodes = Map(1, "t", "value", "net", "graph", "graph", "occlusion", 1.0, None, rng.normal(size=5))
    nodes.data = rng.normal(size=(5, 9))
    assert "node " in drawn(nodes)
    assert summary(cloud).startswith("Strongest: point ")
