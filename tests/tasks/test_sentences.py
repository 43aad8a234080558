"""Captions and answers in words: from a table to sentences, beside what simple rivals say."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import sensorium as sm
from sensorium.core.errors import ConfigError
from sensorium.core.forward import Forward
from sensorium.data.synthetic_captions import make
from sensorium.evaluation.controls import OTHER_ROWS

QUICK = ["model.size=tiny", "training.epochs=20", "training.lr=0.005"]


@pytest.fixture(scope="module")
def tables(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return make(tmp_path_factory.mktemp("captions"), rows=160, holes=0.04)


@pytest.fixture(scope="module")
def run(tables: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("captioning") / "run"
    left = ["question", "answer"]
    sm.fit(tables["train"], target="caption", task="captioning", ignore=left, overrides=QUICK, quiet=True, out=out, seed=1)
    return out


def test_captions_are_scored_beside_rivals(run: Path, tables: dict[str, Path], tmp_path: Path) -> None:
    evaluation = sm.load(run).evaluate(tables["test"], report=tmp_path / "report.html")
    scores = evaluation.targets["caption"]
    assert scores.headline == "cider"
    assert set(scores.controls) == {OTHER_ROWS, "nearest training row"}
    shuffled = scores.controls[OTHER_ROWS]
    assert scores.metrics["cider"] > 2 * shuffled.metrics["cider"]
    assert shuffled.beaten
    assert shuffled.gain["cider"][0] > 0
    assert scores.metrics["cider"] > scores.baseline["cider"] > 0
    assert any(OTHER_ROWS in sentence for sentence in scores.findings)
    document = json.loads(json.dumps(evaluation.to_json()))["controls"]["caption"]
    assert document[OTHER_ROWS]["scores"]["cider"] == pytest.approx(shuffled.metrics["cider"], rel=1e-5)
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert OTHER_ROWS in page


def test_an_answer_is_the_same_alone_and_after_loading(run: Path, tables: dict[str, Path]) -> None:
    model, table = sm.load(run), sm.Table.read(tables["test"])
    together = model.predict(tables["test"])
    for i in range(3):
        answer = together[i].targets["caption"]
        assert json.loads(json.dumps(answer)) == answer
        assert set(answer) == {"value", "score", "confidence", "alternatives"}
        assert 0 < answer["confidence"] <= 1
        alone = model.predict([dict(table.row(i))], media=tables["test"].parent)[0].targets["caption"]
        assert alone["value"] == answer["value"]
        assert alone["score"] == pytest.approx(answer["score"], abs=1e-4)


def test_a_row_with_nothing_gets_a_sentence(run: Path) -> None:
    answer = sm.load(run).predict([{}])[0].targets["caption"]
    assert answer["value"].startswith("a ")


def test_several_captions_of_a_row_are_all_references(run: Path, tables: dict[str, Path]) -> None:
    model, table = sm.load(run), sm.Table.read(tables["test"])
    batch = next(iter(model.batches(model.encode(table))))
    truths = model.model.tasks["caption"].plain.truths(batch)
    for i, truth in enumerate(truths):
        cell = table.row(i)["caption"]
        wanted = None if not cell else json.loads(cell) if cell.startswith("[") else cell
        assert truth == wanted


def test_samples_are_drawn_with_a_seed(run: Path, tables: dict[str, Path]) -> None:
    model = sm.load(run)
    task: Any = model.model.tasks["caption"].plain
    batch = next(iter(model.batches(model.encode(sm.Table.read(tables["test"])))))
    with torch.no_grad():
        output = Forward(model.model, batch).outputs["caption"]
    task.sampling, task.temperature = True, 1.5
    first, again = task.answers(output, batch), task.answers(output, batch)
    assert first == again
    task.seed = 1
    assert task.answers(output, batch) != first


def test_decoding_of_a_trained_model_is_chosen_anew(
    run: Path, tables: dict[str, Path], tmp_path: Path, cli: Callable[..., tuple[int, str, str]]
) -> None:
    table = sm.Table.read(tables["test"]).take(range(4))
    wide = sm.load(run, decoding={"beam": 5, "penalty": 0.0}).predict(table)
    narrow = sm.load(run, decoding={"beam": 1})
    assert narrow.recipe.model.tasks["caption"]["beam"] == 1
    for many, few in zip(wide, narrow.predict(table), strict=True):
        assert len(many.targets["caption"]["alternatives"]) == 4
        assert not few.targets["caption"]["alternatives"]
    words = ["predict", run, tables["test"], "--out", tmp_path / "drawn.jsonl"]
    code, _, stderr = cli(*words, "--decode", "decode=sample", "--decode", "temperature=3.0", "--decode", "beam=4")
    assert code == 0, stderr
    drawn = [json.loads(line) for line in (tmp_path / "drawn.jsonl").read_text(encoding="utf-8").splitlines()]
    usual = sm.load(run).predict(tables["test"])
    pairs = zip(drawn, usual, strict=True)
    assert any(row["targets"]["caption"]["value"] != answer.value for row, answer in pairs)


@pytest.mark.parametrize(
    ("decoding", "message"),
    [
        ({"beem": 5}, "no decoding option of this model; did you mean beam"),
        ({"dropout": 0.0}, "no decoding option of this model; there are: beam"),
        ({"beam": "wide"}, "beam: 'wide' is not a whole number"),
        ({"temperature": 0.0}, "captioning: temperature: 0.0 is too small: it must be above 0"),
        ({"temperature": float("nan")}, "temperature: nan is not a finite number"),
        ({"top_p": 1.5}, "top_p: 1.5 is too large: it must be at most 1"),
        ({"top_p": 0.0}, "top_p: 0.0 is too small: it must be above 0"),
        ({"beam": 0}, "beam: 0 is too small: it must be 1 or more"),
        ({"longest": 0}, "longest: 0 is too small: it must be 1 or more"),
        ({"penalty": float("inf")}, "penalty: inf is not a finite number"),
        ({"decode": "bean"}, "decode: 'bean' is none of 'beam' or 'sample'"),
    ],
)
def test_wrong_decoding_options_are_refused(run: Path, decoding: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        sm.load(run, decoding=decoding)


def test_a_wrong_decoding_option_is_refused_on_the_command_line(
    run: Path, tables: dict[str, Path], cli: Callable[..., tuple[int, str, str]]
) -> None:
    code, _, stderr = cli("predict", run, tables["test"], "--decode", "beam=0")
    assert code == 2
    assert "captioning: beam: 0 is too small: it must be 1 or more" in stderr
    assert str(run) not in stderr, "the saved model is not at fault"


def test_questions_are_answered_in_words(tables: dict[str, Path], tmp_path: Path) -> None:
    columns = {"question": {"kind": "text", "role": "prompt"}}
    model = sm.fit(
        tables["train"],
        target="answer",
        task="answering",
        options={"prompt": "question"},
        columns=columns,
        ignore=["caption"],
        overrides=[*QUICK, "training.epochs=25"],
        quiet=True,
        out=tmp_path / "run",
        seed=1,
    )
    scores = sm.load(tmp_path / "run").evaluate(tables["test"]).targets["answer"]
    assert scores.headline == "exact_match"
    assert scores.metrics["exact_match"] > scores.baseline["exact_match"]
    assert scores.metrics["exact_match"] >= scores.controls[OTHER_ROWS].metrics["exact_match"]
    one = model.predict([{"question": "how many things are there?"}])[0].targets["answer"]["value"]
    assert one in ("one", "two"), "the kind of answer follows from the question alone"


def test_chinese_captions_are_generated_without_blanks(tmp_path: Path) -> None:
    names = {"红": 0.0, "蓝": 1.0}
    rows = [{"x": value + 0.01 * i, "说明": f"一个{name}色的圆"} for i in range(30) for name, value in names.items()]
    model = sm.fit(rows, target="说明", task="captioning", overrides=QUICK, quiet=True)
    answers = [p.targets["说明"]["value"] for p in model.predict([{"x": 0.1}, {"x": 1.1}])]
    assert answers == ["一个红色的圆", "一个蓝色的圆"]


def test_captioning_takes_no_prompt(tables: dict[str, Path]) -> None:
    with pytest.raises(ConfigError, match="captioning has no prompt"):
        sm.fit(
            tables["train"],
            target="caption",
            task="captioning",
            options={"prompt": "question"},
            ignore=["answer"],
            overrides=QUICK,
            quiet=True,
        )
