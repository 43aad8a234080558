"""Labels of words and of frames: from a table to spans in the text and the video."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import sensorium as sm
from sensorium.core.errors import ConfigError

NAMES, CITIES = ("Ann", "Bob", "Carla Bell", "Dan Cook"), ("Rome", "New York", "Oslo")
QUICK = ["model.size=tiny", "training.epochs=12", "training.lr=0.01"]


def sentences(rows: int, seed: int) -> list[dict[str, Any]]:
    draw = random.Random(seed)
    table = []
    for _ in range(rows):
        text, spans = "", []
        for part in draw.choice(
            ("P lives in C .", "who met P P in C ?", "the park is green", "C is where P works")
        ).split():
            word = draw.choice(NAMES) if part == "P" else draw.choice(CITIES) if part == "C" else part
            if part in "PC":
                spans.append([len(text), len(text) + len(word), {"P": "person", "C": "city"}[part]])
            text += word + " "
        table.append({"text": text, "names": json.dumps(spans), "note": draw.choice((1, 2))})
    return table


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("names") / "run"
    sm.fit(sentences(120, 0), target="names", overrides=QUICK, ignore=["note"], out=out, quiet=True, seed=1)
    return out


def test_spans_of_a_text_are_inferred_learnt_and_reported(run: Path, tmp_path: Path) -> None:
    model, table = sm.load(run), sentences(40, 1)
    assert model.recipe.columns["names"]["kind"] == "labels", "although some cells have no span"
    assert model.recipe.columns["names"]["on"] == "text"
    assert model.recipe.columns["text"]["lowercase"] is False
    scores = model.evaluate(table, report=tmp_path / "report.html").targets["names"]
    assert scores.headline == "span_f1"
    assert scores.metrics["span_f1"] > 0.9 > scores.baseline["span_f1"]
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "Labels of words" in page
    assert "](city)" in page


def test_answers_are_in_characters_of_the_text(run: Path) -> None:
    model, table = sm.load(run), sentences(40, 1)
    right = 0
    for row, prediction in zip(table, model.predict(table), strict=True):
        spans = prediction.targets["names"]["value"]
        assert json.loads(json.dumps(spans)) == spans
        right += spans == json.loads(row["names"])
    assert right > 30
    spoken = {"text": "  Bob met Carla Bell in New York"}
    alone = model.predict([spoken])[0].targets["names"]["value"]
    texts = {(spoken["text"][a:b], label) for a, b, label in alone}
    assert {("Bob", "person"), ("Carla Bell", "person"), ("New York", "city")} == texts


def test_neighbours_of_one_label_stay_apart(run: Path) -> None:
    text = "who met Ann Bob in Rome ?"
    assert sm.load(run).predict([{"text": text}])[0].targets["names"]["value"][:2] == [
        [8, 11, "person"],
        [12, 15, "person"],
    ]


def test_a_missing_text_has_no_spans_and_labels_beyond_it_are_named(run: Path) -> None:
    model = sm.load(run)
    assert model.predict([{"text": None}])[0].targets["names"]["value"] == []
    rows = [{"text": "Ann sings", "names": '[[0, 3, "person"], [90, 95, "city"]]'}]
    (problem,) = model.encode(sm.Table.read(rows)).problems
    assert problem.column == "names"
    assert "90" in problem.problem
    assert "beyond" in problem.problem
    assert not problem.missing


def test_words_are_explained(run: Path) -> None:
    explanation = sm.load(run).explain(sentences(3, 5), row=1)
    assert explanation.maps


@pytest.mark.parametrize("tokeniser", ["bpe", "word"])
def test_tags_of_words_and_chinese(tokeniser: str) -> None:
    draw = random.Random(0)
    table = []
    for _ in range(60):
        name, city = draw.choice(("王明", "李小红", "张伟")), draw.choice(("北京", "上海"))
        tags = ["B-PER", *["I-PER"] * (len(name) - 1), "O", "O", "B-LOC", *["I-LOC"] * (len(city) - 1)]
        table.append({"text": f"{name}住在{city}", "tags": " ".join(tags)})
    overrides = [
        *QUICK,
        f"columns.text={{kind: text, tokeniser: {tokeniser}}}",
        "columns.tags={kind: labels, role: target}",
    ]
    model = sm.fit(table, target="tags", overrides=overrides, quiet=True, seed=0)
    assert sorted(model.schema.columns["tags"].reader.classes) == ["LOC", "PER", "none"]
    assert model.predict([{"text": "李小红住在上海"}])[0].targets["tags"]["value"] == [[0, 3, "PER"], [5, 7, "LOC"]]
    wrong = sm.Table.read([{"text": "王明住在北京", "tags": "B-PER O"}])
    (problem,) = model.encode(wrong).problems
    assert "2 labels for 6 words" in problem.problem


def test_stop_words_cannot_be_removed_under_labels() -> None:
    with pytest.raises(ConfigError, match="stop words"):
        sm.fit(
            sentences(30, 0),
            target="names",
            ignore=["note"],
            overrides=[*QUICK, "columns.text={kind: text, stop: english}"],
            quiet=True,
        )


def test_frames_of_a_video_have_labels() -> None:
    rng = np.random.default_rng(0)

    def clip() -> tuple[np.ndarray[Any, Any], list[list[Any]]]:
        change = int(rng.integers(6, 14))
        frames = rng.integers(0, 40, (20, 12, 12, 1), dtype=np.uint8)
        frames[change:] += 180
        return frames, [[0, change, "dark"], [change, 20, "light"]]

    rows = [dict(zip(("clip", "phase"), clip(), strict=True)) for _ in range(40)]
    columns = ["columns.clip={kind: video, frames: 20}", "columns.phase={kind: labels, role: target}"]
    model = sm.fit(rows[:32], valid=rows[32:], target="phase", overrides=[*QUICK, *columns], quiet=True, seed=0)
    scores = model.evaluate(rows[32:]).targets["phase"]
    assert scores.metrics["step_accuracy"] > 0.9
    answer = model.predict([{"clip": rows[32]["clip"]}])[0].targets["phase"]["value"]
    assert answer[0][0] == 0
    assert answer[-1][1] == 20
    assert model.model.tasks["phase"].plain.truths(next(iter(model.batches(model.encode(sm.Table.read(rows[32:]))))))[
        0
    ] == [[float(a), float(b), name] for a, b, name in rows[32]["phase"]]


def test_robustness_removes_the_text_and_moves_no_words(run: Path) -> None:
    results = sm.load(run).robustness(sentences(24, 3))["names"].to_json()
    assert results["curves"]
    assert not any(word in str(results) for word in ("deletion", "typos")), "places of words would move"
