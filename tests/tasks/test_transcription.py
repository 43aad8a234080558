"""Transcription of sounds and written lines: from a table to words with times, from either stream and from both."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import sensorium as sm
from sensorium.data.synthetic_speech import make
from sensorium.modalities.transcript import Transcript

QUICK = ["model.size=tiny", "training.epochs=26", "training.lr=0.01", "training.refit=none"]
QUICK += ["model.tasks.transcript.hidden=32", "model.tasks.transcript.depth=2"]


@pytest.fixture(scope="module")
def tables(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return make(tmp_path_factory.mktemp("speech"), rows=120, holes=0.04)


@pytest.fixture(scope="module")
def run(tables: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("transcription") / "run"
    sm.fit(
        tables["train"],
        target="transcript",
        task="transcription",
        ignore=["times"],
        overrides=QUICK,
        quiet=True,
        out=out,
        seed=1,
    )
    return out


def test_either_stream_is_read_and_both_together(run: Path, tables: dict[str, Path], tmp_path: Path) -> None:
    evaluation = sm.load(run).evaluate(tables["test"], report=tmp_path / "report.html")
    scores = evaluation.targets["transcript"]
    assert scores.headline == "wer"
    assert set(scores.metrics) == {"wer", "cer", "exact_match"}
    assert scores.metrics["wer"] < 0.15
    assert scores.baseline["wer"] > 0.6
    low, high = scores.intervals["wer"]
    assert low <= scores.metrics["wer"] <= high
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "Confused words" in page
    assert "Least certain transcripts" in page


def test_images_are_read_as_lines_and_the_units_are_words(run: Path) -> None:
    schema = sm.load(run).schema
    assert schema.columns["strip"].spec["kind"] == "line"
    transcript = schema.columns["transcript"].reader
    assert isinstance(transcript, Transcript)
    assert transcript.recognises == "words"
    assert "6 words are recognised" in transcript.notes()


def test_answers_name_the_seconds_of_each_word(run: Path, tables: dict[str, Path]) -> None:
    model, table = sm.load(run), sm.Table.read(tables["test"])
    overlap = []
    for i, prediction in enumerate(model.predict(tables["test"])):
        answer = prediction.targets["transcript"]
        assert json.loads(json.dumps(answer)) == answer
        assert set(answer) == {"value", "confidence", "alternatives", "words"}
        assert 0 <= answer["confidence"] <= 1
        assert [word["word"] for word in answer["words"]] == answer["value"].split()
        row = table.row(i)
        times = json.loads(row["times"])
        if answer["value"] != row["transcript"] or not row["clip"]:
            continue
        for word, (start, end, name) in zip(answer["words"], times, strict=True):
            assert word["word"] == name
            shared = min(end, word["end"]) - max(start, word["start"])
            overlap.append(shared / (end - start))
    assert len(overlap) > 30
    assert sum(share > 0.5 for share in overlap) > 0.9 * len(overlap)


def test_times_of_a_line_are_pixels(run: Path, tables: dict[str, Path]) -> None:
    table = sm.Table.read(tables["test"])
    lines = [{"strip": row["strip"]} for row in table.rows() if row["strip"] and row["transcript"]]
    true = [row["transcript"] for row in table.rows() if row["strip"] and row["transcript"]]
    read = 0
    for prediction, wanted in zip(sm.load(run).predict(lines, media=tables["test"].parent), true, strict=True):
        answer = prediction.targets["transcript"]
        if answer["value"] == wanted:
            middles = [(word["start"] + word["end"]) / 2 for word in answer["words"]]
            assert middles == pytest.approx([16 * i + 8 for i in range(len(middles))], abs=10)
            read += 1
    assert read > len(true) / 2


def test_an_answer_is_the_same_alone(run: Path, tables: dict[str, Path]) -> None:
    model, table = sm.load(run), sm.Table.read(tables["test"])
    together = model.predict(tables["test"])
    for i in range(3):
        alone = model.predict([dict(table.row(i))], media=tables["test"].parent)[0].targets["transcript"]
        answer = together[i].targets["transcript"]
        assert alone["value"] == answer["value"]
        assert alone["confidence"] == pytest.approx(answer["confidence"], abs=1e-4)


def test_a_row_with_nothing_has_no_words(run: Path) -> None:
    answer = sm.load(run).predict([{}])[0].targets["transcript"]
    assert answer == {"value": "", "confidence": 0.0, "alternatives": [], "words": []}


def test_the_sound_explains_the_words(run: Path, tables: dict[str, Path]) -> None:
    explanation = sm.load(run).explain(tables["test"], row=1)
    text = json.dumps(explanation.to_json())
    assert "mean log-likelihood of a unit of" in text
