"""Groups of columns as streams, from the table to the saved model."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import sensorium as sm
from sensorium.core.errors import ConfigError, SensoriumError
from sensorium.core.recipe import Recipe
from sensorium.core.schema import Schema
from sensorium.data.tables.table import Table
from sensorium.training.column_declaration import declare

ROWS = 160
OVERRIDES = ["model.size=tiny", "training.epochs=15"]


def table(rows: int = ROWS) -> dict[str, list[Any]]:
    """The label is told by two groups, the one surer than the other; the rest is noise. One group is at times absent."""
    rng = np.random.default_rng(0)
    truth = rng.random(rows) < 0.5
    audio = rng.normal(size=(5, rows)) + np.where(truth, 1.0, -1.0)
    face = rng.normal(size=(4, rows)) + np.where(truth, 0.3, -0.3)
    gone = rng.random(rows) < 0.2
    results: dict[str, list[Any]] = {
        f"audio_{i}": [None if g else float(x) for x, g in zip(a, gone, strict=True)] for i, a in enumerate(audio)
    }
    results |= {f"face_{i}": f.tolist() for i, f in enumerate(face)}
    results["face_mood"] = ["glad" if t == (rng.random() < 0.7) else "sad" for t in truth]
    results["age"] = rng.normal(40, 10, rows).tolist()
    results["label"] = ["yes" if t else "no" for t in truth]
    return results


STREAMS: dict[str, Any] = {"audio": "audio_*", "face": ["face_?", "face_mood"]}


@pytest.fixture(scope="module")
def model() -> Any:
    return sm.fit(table(), target="label", streams=STREAMS, quiet=True, overrides=OVERRIDES)


def test_each_group_has_an_encoder(model: Any) -> None:
    streams = {name: [c.name for c in columns] for name, columns in model.schema.streams.items()}
    assert streams == {
        "audio": [f"audio_{i}" for i in range(5)],
        "face": [*(f"face_{i}" for i in range(4)), "face_mood"],
        "table": ["age"],
    }
    assert set(model.model.streams) == set(streams)
    assert set(model.recipe.model.encoders) == set(streams)


def test_groups_are_scored_and_explained_separately(model: Any) -> None:
    evaluation = model.evaluate(table())
    subsets = evaluation.to_json()["subsets"]
    assert subsets["audio"]["accuracy"] > 0.75 > subsets["table"]["accuracy"]
    assert set(evaluation.targets["label"].shapley) == {"audio", "face", "table"}
    overrides = model.explain(table(), sample=40)
    shares = overrides.mean_shares("label")
    assert shares["audio"] > shares["table"]
    gone = {one.row for one in overrides.targets["label"] if "audio" in one.missing}
    cells = table()["audio_0"]
    assert gone == {one.row for one in overrides.targets["label"] if cells[one.row - 1] is None}
    assert gone
    one = model.explain(table(), row=1, where=True)
    assert {m.stream for m in one.maps} == {"audio", "face", "table"}


def test_saved_model_predicts_without_a_group(model: Any, tmp_path: Path) -> None:
    again = sm.load(model.save(tmp_path / "run"))
    assert list(again.schema.streams) == list(model.schema.streams)
    rows = [{name: cells[i] for name, cells in table().items()} for i in range(6)]
    assert [p.to_json() for p in again.predict(rows)] == [p.to_json() for p in model.predict(rows)]
    without = [{name: cell for name, cell in row.items() if not name.startswith("audio_")} for row in rows]
    for prediction in again.predict(without):
        assert prediction.missing == ["audio"]
        assert prediction.value in ("yes", "no")
    blank = again.predict([{**rows[0], **{f"audio_{i}": "" for i in range(5)}}])[0]
    assert blank.targets == again.predict(without[:1])[0].targets
    half = again.predict([{**rows[1], "audio_1": None}])[0]
    assert half.missing == [] if rows[1]["audio_0"] is not None else ["audio"]


def test_resolved_recipe_lists_groups_by_column(model: Any) -> None:
    plan = model.recipe
    assert plan.streams == {}
    columns: dict[str, Any] = plan.columns
    assert {name for name, spec in columns.items() if spec.get("stream") == "face"} == {
        *(f"face_{i}" for i in range(4)),
        "face_mood",
    }
    assert "stream" not in columns["age"]
    assert Recipe.parse(plan.model_dump()) == plan
    again = sm.fit(table(), recipe=plan, quiet=True)
    assert again.recipe == plan
    for name, value in again.model.state_dict().items():
        assert value.equal(model.model.state_dict()[name]), name


def test_schema_document_has_groups_only_if_used() -> None:
    schema = Schema.declare({"a": {"kind": "number", "stream": "g"}, "b": "number"})
    schema.columns["a"].reader.fit([1, 2])
    schema.columns["b"].reader.fit([1, 2])
    document = schema.to_json()
    assert [item.get("stream") for item in document["columns"]] == ["g", None]
    assert "stream" not in document["columns"][1]
    assert list(Schema.from_json(document).streams) == list(schema.streams) == ["g", "table"]
    assert Schema.declare(schema.specs()).specs() == schema.specs()


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"a": {"kind": "text", "stream": "g"}}, "column 'a'.*kind text is a separate stream"),
        ({"a": {"kind": "image", "stream": "g"}}, "column 'a'.*kind image is a separate stream"),
        ({"a": {"kind": "number", "stream": "g", "role": "target"}}, "streams consist of inputs"),
        ({"a": {"kind": "number", "stream": "table"}}, "without a group"),
        ({"a": {"kind": "number", "stream": 3}}, "names the group"),
        ({"a": {"kind": "number", "stream": "photo"}, "photo": "image"}, "column 'photo' is a stream of its own"),
    ],
)
def test_invalid_groups_are_refused(columns: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Schema.declare(columns)


def declared(**recipe: Any) -> Schema:
    columns = table(40) | {"note": [f"word {i} here and there" for i in range(40)]}
    return declare(Table(columns), Recipe.parse(recipe), ["label"], {}).schema


def test_recipe_accepts_both_forms_of_groups() -> None:
    one = declared(streams={"audio": "audio_*"}, columns={"note": "text"})
    other = declared(columns={**{f"audio_{i}": {"stream": "audio"} for i in range(5)}, "note": "text"})
    assert one.specs() == other.specs()
    both = declared(streams={"audio": "audio_*"}, columns={"audio_1": {"stream": "audio"}, "note": "text"})
    assert both.specs() == one.specs()


@pytest.mark.parametrize(
    ("recipe", "message"),
    [
        ({"streams": {"audio": "sound_*"}}, "no column matches"),
        ({"streams": {"audio": "*"}, "columns": {"note": "text"}}, "column 'note'.*kind text is a separate stream"),
        ({"streams": {"audio": "audio_*", "all": "*_1"}}, "column 'audio_1': is in two groups"),
        (
            {"streams": {"audio": "audio_*"}, "columns": {"audio_1": {"stream": "voice"}}},
            "column 'audio_1': is in two groups, 'voice' and 'audio'",
        ),
        ({"streams": {"audio": "label"}}, "is an input"),
    ],
)
def test_wrong_groups_are_reported(recipe: dict[str, Any], message: str) -> None:
    with pytest.raises(SensoriumError, match=message):
        declared(**recipe)


def test_ignored_column_stays_ignored_in_a_group() -> None:
    columns = table(40) | {"audio_9": [1.0] * 40}
    schema = declare(
        Table(columns), Recipe.parse({"streams": {"audio": "audio_*"}}), ["label"], {"audio_0": "ignore"}
    ).schema
    assert [c.name for c in schema.streams["audio"]] == ["audio_1", "audio_2", "audio_3", "audio_4"]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    columns = table(60)
    with (tmp_path / "t.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(columns)
        writer.writerows(zip(*columns.values(), strict=True))
    return tmp_path / "t.csv"


@pytest.mark.parametrize("words", [["--stream", "audio=audio_*", "--stream=face=face_*"], ["--streams", "audio=audio_*"]])
def test_groups_on_the_command_line(cli: Any, path: Path, words: list[str]) -> None:
    out = path.parent / "run"
    code, _, stderr = cli("fit", path, "--target", "label", "--out", out, *words, "model.size=tiny", "training.epochs=1")
    assert code == 0, stderr
    assert "stream audio: 5 columns" in stderr
    assert set(sm.load(out).model.streams) == {"audio", "table"} | ({"face"} if len(words) > 2 else set())


def test_stream_flag_tells_groups_from_other_arguments() -> None:
    from sensorium.cli._options import _is_group, stream_patterns

    for word in ("training.epochs=3", "seed=3", "objectives=[mixup]", "--target=x", "shards", "columns={a: number}"):
        assert not _is_group(word), word
    assert _is_group("audio=audio_*")
    assert stream_patterns(["a=x_*,y", "b=z", "a=w"]) == {"a": ["x_*", "y", "w"], "b": ["z"]}
    for wrong in ("audio", "=x", "audio="):
        with pytest.raises(ConfigError, match="NAME=PATTERN"):
            stream_patterns([wrong])


def test_comparison_of_fusions_over_groups(tmp_path: Path) -> None:
    result = sm.compare(
        table(80),
        target="label",
        streams={"audio": "audio_*"},
        fusions="gated",
        seeds=1,
        overrides=["model.size=tiny", "training.epochs=1"],
        out=tmp_path,
        quiet=True,
    )
    assert {run["name"] for run in result.to_json()["runs"]} == {"gated", "audio alone", "table alone"}
    again = sm.fit(table(80), recipe=tmp_path / "winner.yaml", quiet=True)
    assert set(again.model.streams) <= {"audio", "table"}
