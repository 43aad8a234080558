"""The whole road: a table with holes becomes a saved model, which answers the same in another process and another place."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import sensorium as sm
from sensorium.core.errors import SensoriumError
from sensorium.data.tables.table import Table

STREAMS = {"table", "photo", "note", "sound", "sensor"}
Read = Callable[[Path], list[dict[str, str]]]
Write = Callable[..., Path]
Cli = Callable[..., tuple[int, str, str]]

ELSEWHERE = """
import json, sys
import sensorium as sm
model = sm.load(sys.argv[1])
answers = {name: [[p.targets["event"]["probabilities"], p.missing] for p in model.predict(name)] for name in sys.argv[2:]}
heavy = {"lightning", "torchmetrics", "pandas", "pyarrow", "matplotlib", "tensorboard"} & set(sys.modules)
assert not heavy, f"predicting loads {heavy}"
print(json.dumps(answers))
"""


def probabilities(model: Any, rows: Any, **options: Any) -> torch.Tensor:
    """``[rows, classes]``, exactly as answered."""
    result = model.predict(rows, **options)
    return torch.tensor([list(p.targets["event"]["probabilities"].values()) for p in result], dtype=torch.float64)


def answers(results: Any) -> list[list[Any]]:
    return [[p.targets["event"]["probabilities"], p.missing] for p in results]


@pytest.fixture(scope="module")
def away(
    run_folder: Path, scenes: Path, tmp_path_factory: pytest.TempPathFactory, read_csv: Read, write_csv: Write
) -> tuple[Path, dict[str, Path]]:
    """The model and its tables, moved to a place with blanks and Chinese in its name."""
    place = tmp_path_factory.mktemp("other disk") / "模型 与 数据"
    run = place / "my run 一"
    shutil.copytree(run_folder, run)
    data = place / "数据 2024"
    shutil.copytree(scenes, data)
    rows = read_csv(data / "test.csv")
    # A picture and a sound under a Chinese name.
    for row, column in ((next(r for r in rows if r["photo"]), "photo"), (next(r for r in rows if r["sound"]), "sound")):
        name = f"照片/第 一 个{Path(row[column]).suffix}"
        (data / "照片").mkdir(exist_ok=True)
        shutil.copyfile(data / row[column], data / name)
        row[column] = name
    columns = list(rows[0])
    odd = [{**row, "room": "月球" if i % 2 else "moon base"} for i, row in enumerate(rows)]
    tables = {
        "whole": write_csv(data / "测试 表.csv", rows),
        "no photo": write_csv(data / "no photo.csv", rows, [c for c in columns if c not in ("photo", "event")]),
        "shuffled": write_csv(data / "shuffled.csv", rows, columns[::-1]),
        "unseen": write_csv(data / "unseen.csv", odd),
        "empty": write_csv(data / "empty.csv", [], columns),
        "one": write_csv(data / "one.csv", rows[3:4]),
    }
    return run, tables


@pytest.fixture(scope="module")
def elsewhere(away: tuple[Path, dict[str, Path]], python: Any, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What a new process, in another working folder, answers for each table."""
    run, tables = away
    done = python("-c", ELSEWHERE, run, *tables.values(), cwd=tmp_path_factory.mktemp("cwd"))
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    return {name: document[str(path)] for name, path in tables.items()}


def test_the_data_has_holes(away: tuple[Path, dict[str, Path]], read_csv: Read) -> None:
    rows = read_csv(away[1]["whole"])
    for column in ("room", "photo", "note", "sound", "sensor", "temperature"):
        assert {not row[column] for row in rows} == {True, False}, column


def test_a_new_process_gives_the_numbers_of_before_saving(
    trained: Any, scenes: Path, elsewhere: dict[str, Any], away: tuple[Path, dict[str, Path]]
) -> None:
    before = json.loads(json.dumps(answers(trained.predict(scenes / "test.csv"))))
    assert elsewhere["whole"] == before
    assert any(missing for _, missing in before)
    assert {stream for _, missing in before for stream in missing} <= STREAMS
    first, second = before[0][0], before[1][0]
    assert first != second, "a model that says the same of every row would pass this test"
    assert all(abs(sum(row.values()) - 1) < 1e-5 for row, _ in before)


def test_a_whole_column_may_be_absent(
    trained: Any, away: tuple[Path, dict[str, Path]], elsewhere: dict[str, Any], read_csv: Read
) -> None:
    assert all("photo" in missing for _, missing in elsewhere["no photo"])
    root = away[1]["whole"].parent
    cleared = [{**row, "photo": ""} for row in read_csv(away[1]["whole"])]
    assert elsewhere["no photo"] == json.loads(json.dumps(answers(trained.predict(cleared, media=root))))
    assert elsewhere["no photo"] != elsewhere["whole"]


def test_the_order_of_columns_does_not_matter(elsewhere: dict[str, Any]) -> None:
    assert elsewhere["shuffled"] == elsewhere["whole"]


def test_unseen_categories_are_answered_alike(elsewhere: dict[str, Any]) -> None:
    assert len(elsewhere["unseen"]) == len(elsewhere["whole"])
    assert elsewhere["unseen"] != elsewhere["whole"]
    for (row, _), (other, _) in zip(elsewhere["unseen"], elsewhere["whole"], strict=True):
        assert row.keys() == other.keys()


def test_an_empty_table_has_no_answers(elsewhere: dict[str, Any], trained: Any) -> None:
    assert elsewhere["empty"] == []
    assert trained.predict([]) == []


def test_one_row_is_answered_as_among_others(elsewhere: dict[str, Any]) -> None:
    (row, missing), (among, also) = elsewhere["one"][0], elsewhere["whole"][3]
    assert missing == also
    assert list(row) == list(among)
    # Another batch size may be summed in another order.
    torch.testing.assert_close(torch.tensor(list(row.values())), torch.tensor(list(among.values())), rtol=1e-4, atol=1e-5)


def test_a_row_with_nothing_at_all_is_answered(trained: Any) -> None:
    (nothing,) = trained.predict([{}])
    assert set(nothing.missing) == STREAMS
    assert sum(nothing.targets["event"]["probabilities"].values()) == pytest.approx(1, abs=1e-5)


def test_batches_do_not_matter(trained: Any, scenes: Path) -> None:
    whole = probabilities(trained, scenes / "test.csv")
    for size in (1, 7, 1000):
        part = probabilities(trained, scenes / "test.csv", batch_size=size)
        torch.testing.assert_close(part, whole, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", [".tsv", ".jsonl", ".parquet", "frame", "rows", "columns"])
def test_every_kind_of_table_says_the_same(trained: Any, table: Path, kind: str, read_csv: Read) -> None:
    rows = read_csv(table / "test.csv")
    whole = probabilities(trained, table / "test.csv")
    columns = {name: [row[name] for row in rows] for name in rows[0]}
    source: Any = table / f"same{kind}"
    if kind == ".tsv":
        with source.open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, list(rows[0]), delimiter="\t")
            writer.writeheader()
            writer.writerows(rows)
    elif kind == ".jsonl":
        lines = [json.dumps({k: v for k, v in row.items() if v}, ensure_ascii=False) for row in rows]
        source.write_text("\n".join(lines), encoding="utf-8")
    elif kind == ".parquet":
        pa = pytest.importorskip("pyarrow")
        parquet = pytest.importorskip("pyarrow.parquet")
        parquet.write_table(pa.table({k: [v or None for v in cells] for k, cells in columns.items()}), source)
    elif kind == "frame":
        pd = pytest.importorskip("pandas")
        source = pd.read_csv(table / "test.csv")
        assert source["temperature"].dtype == float
    else:
        source = rows if kind == "rows" else columns
    options = {} if kind.startswith(".") else {"media": table}
    assert torch.equal(probabilities(trained, source, **options), whole)


def test_media_may_be_paths_bytes_or_arrays(trained: Any, scenes: Path, read_csv: Read) -> None:
    from PIL import Image

    rows = [row for row in read_csv(scenes / "test.csv") if row["photo"] and row["sound"] and row["sensor"]][:4]
    assert rows
    whole = probabilities(trained, rows, media=scenes)
    contents = [{**row, **{c: (scenes / row[c]).read_bytes() for c in ("photo", "sound")}} for row in rows]
    paths = [{**row, **{c: scenes / row[c] for c in ("photo", "sound", "sensor")}} for row in rows]
    arrays = [{**row, "photo": np.asarray(Image.open(scenes / row["photo"]))} for row in rows]
    lists = [{**row, "sensor": np.loadtxt(scenes / row["sensor"], delimiter=",", skiprows=1).tolist()} for row in rows]
    assert torch.equal(probabilities(trained, contents, media=scenes), whole)
    assert torch.equal(probabilities(trained, paths, media="/"), whole)
    assert torch.equal(probabilities(trained, arrays, media=scenes), whole)
    torch.testing.assert_close(probabilities(trained, lists, media=scenes), whole, rtol=1e-4, atol=1e-5)


# ── the command line ────────────────────────────────────────────────────────────────────────────────────────────────────


def test_predictions_csv(
    cli: Cli, trained: Any, away: tuple[Path, dict[str, Path]], tmp_path: Path, read_csv: Read
) -> None:
    run, tables = away
    out = tmp_path / "预测 1.csv"
    code, _, stderr = cli("predict", run, tables["whole"], "--out", out)
    assert code == 0, stderr
    table, requested = read_csv(out), read_csv(tables["whole"])
    classes = sorted({row["event"] for row in requested} | {"kettle", "shower", "window", "visitor", "cleaning", "party"})
    assert set(table[0]) == {"row", "event", *(f"event={c}" for c in classes), "missing"}
    exact = trained.predict(tables["whole"])
    assert len(table) == len(requested) == len(exact)
    for row, truth in zip(table, exact, strict=True):
        chance = {c: float(row[f"event={c}"]) for c in classes}
        assert sum(chance.values()) == pytest.approx(1, abs=1e-4)
        assert row["event"] == max(chance, key=lambda c: chance[c]) == truth.value
        assert chance == pytest.approx(truth.targets["event"]["probabilities"], rel=1e-5)
        assert row["missing"].split() == truth.missing


def test_predictions_keep_the_order_of_rows(
    cli: Cli, run_folder: Path, table: Path, tmp_path: Path, read_csv: Read, write_csv: Write
) -> None:
    rows = read_csv(table / "test.csv")
    write_csv(table / "back.csv", rows[::-1])
    for name in ("test", "back"):
        code, _, stderr = cli(
            "predict", run_folder, table / f"{name}.csv", "--out", tmp_path / f"{name}.jsonl", "--batch-size", 5
        )
        assert code == 0, stderr
    available, back = (
        [json.loads(line) for line in (tmp_path / f"{n}.jsonl").read_text(encoding="utf-8").splitlines()]
        for n in ("test", "back")
    )
    assert [row["missing"] for row in available] == [row["missing"] for row in back[::-1]]
    for row, other in zip(available, back[::-1], strict=True):
        assert row["targets"]["event"]["probabilities"] == pytest.approx(
            other["targets"]["event"]["probabilities"], abs=1e-5
        )


def test_predicting_an_empty_table_gives_the_header(cli: Cli, away: tuple[Path, dict[str, Path]]) -> None:
    run, tables = away
    code, out, stderr = cli("predict", run, tables["empty"], "--quiet")
    assert code == 0, stderr
    assert out.startswith("row,event,event=")
    assert len(out.splitlines()) == 1


def test_an_absent_column_is_said(cli: Cli, away: tuple[Path, dict[str, Path]], tmp_path: Path) -> None:
    run, tables = away
    code, _, stderr = cli("predict", run, tables["no photo"], "--out", tmp_path / "p.csv", "--quiet")
    assert code == 0
    assert "no column photo: taken as missing in every row" in stderr


def test_evaluate_writes_the_promised_json(cli: Cli, run_folder: Path, scenes: Path, tmp_path: Path) -> None:
    code, out, stderr = cli("evaluate", run_folder, scenes / "test.csv", "--json", tmp_path / "e.json", "--quiet")
    assert code == 0, stderr
    document = json.loads(
        (tmp_path / "e.json").read_text(encoding="utf-8"), parse_constant=lambda name: pytest.fail(f"{name} is no JSON")
    )
    assert document["rows"] == 24
    assert "accuracy" in document["targets"]["event"]
    assert {"table", "photo", "photo+note", "table+photo+note+sound+sensor"} <= document["subsets"].keys()
    assert len(document["subsets"]) == 2 ** len(STREAMS) - 1
    whole = document["subsets"]["table+photo+note+sound+sensor"]
    assert whole["accuracy"] == pytest.approx(document["targets"]["event"]["accuracy"])
    assert "accuracy" in out


def test_evaluation_agrees_with_the_predictions(trained: Any, scenes: Path, read_csv: Read) -> None:
    rows = read_csv(scenes / "test.csv")
    right = np.mean([p.value == row["event"] for p, row in zip(trained.predict(scenes / "test.csv"), rows, strict=True)])
    assert trained.evaluate(scenes / "test.csv").to_json()["targets"]["event"]["accuracy"] == pytest.approx(right, rel=1e-5)


def test_trace_shows_each_step(cli: Cli, run_folder: Path, scenes: Path) -> None:
    code, out, stderr = cli("trace", run_folder, scenes / "test.csv", "--row", 3)
    assert code == 0, stderr
    for name in ("cell photo", "prepare sound", "encoder note", "fusion", "task event", "answer event"):
        assert name in out


# ── what can be trained ─────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("target", "task", "metric"),
    [("event", "classification", "accuracy"), ("cost", "regression", "mae"), ("tags", "multilabel", "f1_macro")],
)
def test_each_kind_of_target(quick_fit: Any, scenes: Path, target: str, task: str, metric: str, tmp_path: Path) -> None:
    ignore = [name for name in ("event", "cost", "tags") if name != target]
    model = quick_fit(target=target, ignore=ignore, out=tmp_path / "run")
    spec = model.recipe.model.tasks[target]
    assert spec["kind"] == task
    assert len(model.history) == 2
    assert metric in model.evaluate(scenes / "test.csv").to_json()["targets"][target]
    again = sm.load(tmp_path / "run")
    assert [p.targets for p in again.predict(scenes / "test.csv")] == [
        p.targets for p in model.predict(scenes / "test.csv")
    ]
    value = again.predict(scenes / "test.csv")[0].value
    assert isinstance(value, {"event": str, "cost": float, "tags": list}[target])


def test_two_targets_with_holes(
    quick_fit: Any, table: Path, cli: Cli, tmp_path: Path, read_csv: Read, write_csv: Write
) -> None:
    rows = read_csv(table / "train.csv")
    for i, row in enumerate(rows):
        row["event"] = "" if i % 4 == 0 else row["event"]
        row["cost"] = "" if i % 3 == 0 else row["cost"]
    write_csv(table / "holes.csv", rows)
    model = quick_fit(table / "holes.csv", target=["event", "cost"], ignore=["tags"], out=tmp_path / "run")
    neither = sum(i % 12 == 0 for i in range(len(rows)))
    assert model.artifact.report["rows"] + model.artifact.report["valid"]["rows"] == len(rows) - neither
    document = model.evaluate(table / "test.csv").to_json()
    assert set(document["targets"]) == {"event", "cost"}
    assert {"event.accuracy", "cost.mae"} <= document["subsets"]["photo"].keys()
    assert cli("predict", tmp_path / "run", table / "test.csv", "--out", tmp_path / "p.csv")[0] == 0
    first = read_csv(tmp_path / "p.csv")[0]
    assert {"event", "cost", "event=party"} <= first.keys()
    assert np.isfinite(float(first["cost"]))
    # A table with one of the two answers is scored on that one.
    write_csv(table / "half.csv", read_csv(table / "test.csv"), [c for c in rows[0] if c != "cost"])
    half = model.evaluate(table / "half.csv").to_json()["targets"]
    assert half["event"] == document["targets"]["event"]
    assert all(value is None for value in half.get("cost", {}).values())


def test_weights_decide_what_is_learnt(quick_fit: Any, scenes: Path, read_csv: Read) -> None:
    rows = [{"x": i % 7, "y": "a" if i % 2 else "b", "w": 1.0 if i % 2 else 0.0} for i in range(60)]
    options: dict[str, Any] = {
        "target": "y",
        "ignore": [],
        "valid": rows,
        "overrides": ["training.epochs=6", "training.lr=0.02"],
    }
    weighted = quick_fit(rows, weight="w", **options)
    assert "w" not in [c.name for c in weighted.schema.inputs]
    chance = [p.targets["y"]["probabilities"]["a"] for p in weighted.predict(rows)]
    plain = [p.targets["y"]["probabilities"]["a"] for p in quick_fit(rows, **options | {"ignore": ["w"]}).predict(rows)]
    assert min(chance) > 0.6 > 0.55 > max(plain)


def test_groups_stay_together(quick_fit: Any, scenes: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from sensorium.training import prepare as module

    seen: list[set[str]] = []
    real = module.encoded.encode

    def spy(schema: Any, part: Table, **options: Any) -> Any:
        seen.append(set(part.column("patient")))
        return real(schema, part, **options)

    monkeypatch.setattr(module.encoded, "encode", spy)
    rows = [{"x": i % 5, "y": "ab"[i % 2], "patient": f"p{i // 6}"} for i in range(60)]
    model = quick_fit(rows, target="y", ignore=[], group="patient")
    assert "patient" not in [c.name for c in model.schema.inputs]
    train, valid = seen
    assert train
    assert valid
    assert not train & valid
    assert train | valid == {row["patient"] for row in rows}


def test_time_limit_stops_in_time(quick_fit: Any) -> None:
    rows = [{"x": i % 5, "z": i % 11, "y": "ab"[i % 2]} for i in range(400)]
    model = quick_fit(
        rows, target="y", ignore=[], time_limit=1.0, overrides=["training.epochs=100000", "training.patience=100000"]
    )
    assert 1 < len(model.history) < 100000
    assert 0.9 < model.history[-1]["seconds"] < 3
    assert model.history[-1]["lr"] < 0.05 * max(record["lr"] for record in model.history), "the schedule shrinks to fit"


def test_the_valid_table_is_what_epochs_are_chosen_on(trained: Any, quick_fit: Any, scenes: Path, read_csv: Read) -> None:
    assert trained.artifact.report["rows"] == len(read_csv(scenes / "train.csv"))
    assert trained.artifact.report["valid"]["rows"] == len(read_csv(scenes / "valid.csv"))
    parted = quick_fit().artifact.report
    assert parted["rows"] + parted["valid"]["rows"] == len(read_csv(scenes / "train.csv"))


def test_a_saved_recipe_trains_the_same_model(trained: Any, run_folder: Path, scenes: Path) -> None:
    from sensorium.training.fit import fit

    again = fit(scenes / "train.csv", recipe=run_folder / "recipe.yaml", valid=scenes / "valid.csv", quiet=True)
    for name, tensor in trained.model.state_dict().items():
        assert torch.equal(tensor, again.model.state_dict()[name]), name
    assert again.recipe == trained.recipe


def test_saving_onto_a_model_replaces_it_whole(trained: Any, run_folder: Path, tmp_path: Path) -> None:
    shutil.copytree(run_folder, tmp_path / "run")
    before = sorted(path.name for path in (tmp_path / "run").iterdir())
    trained.save(tmp_path / "run")
    assert sorted(path.name for path in (tmp_path / "run").iterdir()) == before
    sm.load(tmp_path / "run")
    with pytest.raises(SensoriumError, match="no such folder"):
        sm.load(tmp_path / "nothing")
