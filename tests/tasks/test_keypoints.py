"""Key points on the whole road: drawn figures with sensors on their limbs, trained, scored, explained, served."""

from __future__ import annotations

import csv
import json
from base64 import b64encode
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import sensorium as sm
from sensorium.core.batch import Batch, Encoded, Field
from sensorium.core.errors import ConfigError
from sensorium.core.goal import Goal
from sensorium.core.registry import build
from sensorium.data.synthetic_poses import LIMBS, make
from sensorium.tasks.keypoints import Keypoints

torch.set_num_threads(1)

NAMES = ["head", *LIMBS]
SMALL = ["model.size=tiny", "training.batch_size=16", "training.threads=1", "columns.photo.size=32", "model.experts=[]"]
QUICK = [*SMALL, "training.epochs=2"]
Tables = dict[str, Path]


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Tables:
    return make(tmp_path_factory.mktemp("poses"), rows=48, holes=0.1)


@pytest.fixture(scope="module")
def run(drawn: Tables, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("keypoints") / "run"
    overrides = [*QUICK, "model.tasks.points={kind: keypoints, overlay: true, hidden: 8}"]
    sm.fit(drawn["train"], target="points", overrides=overrides, quiet=True, out=out)
    return out


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_they_are_scored_with_every_subset_and_reported(run: Path, drawn: Tables, tmp_path: Path) -> None:
    model = sm.load(run)
    assert model.recipe.columns["points"]["kind"] == "keypoints"
    assert model.recipe.columns["photo"]["limit"] > 128, "places need more pixels"
    evaluation = model.evaluate(drawn["test"], report=tmp_path / "report.html").targets["points"]
    assert list(evaluation.metrics) == ["mean_error", "pck", "nme", "oks_ap"]
    assert set(evaluation.subsets) == {"photo", "motion", "photo+motion"}
    assert evaluation.subsets["photo"] != evaluation.subsets["motion"]
    low, high = evaluation.intervals["mean_error"]
    assert low <= evaluation.metrics["mean_error"] <= high
    assert (evaluation.baseline or {})["mean_error"] > 0
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    for heading in ("Each point", "Points found", "Worst images", "Best images", "Least certain images", "left_hand"):
        assert heading in page


def test_the_baseline_is_the_mean_shape(run: Path, drawn: Tables) -> None:
    task: Any = sm.load(run).model.tasks["points"]
    data = torch.zeros(2, 5, 6)
    data[..., 3:] = torch.tensor([[[20.0, 30, 2]] * 5, [[24.0, 20, 1]] * 5])
    data[1, 0, 5] = 0
    shape = task.baseline([Field(data, torch.ones(2, dtype=torch.bool))])
    assert shape == [[20.0, 30.0], *[[22.0, 25.0]] * 4]
    places, _ = task.answered(task.constant(shape, 3))
    assert places[2].flatten().tolist() == pytest.approx([n for place in shape for n in place], abs=0.2)


def test_answers_are_columns_of_points_and_overlays(
    run: Path, drawn: Tables, tmp_path: Path, cli: Callable[..., Any]
) -> None:
    assert cli("predict", run, drawn["test"], "--out", tmp_path / "out.csv", "-q")[0] == 0
    rows, answers = rows_of(tmp_path / "out.csv"), sm.load(run).predict(drawn["test"])
    for row, cell, answer in zip(rows, rows_of(drawn["test"]), answers, strict=True):
        own = answer.targets["points"]
        assert list(own["value"]) == NAMES
        assert 0 <= own["confidence"] <= 1
        for name, at in own["value"].items():
            for what in ("x", "y", "confidence"):
                assert float(row[f"points.{name}_{what}"]) == pytest.approx(at[what], rel=1e-5)
        assert list(json.loads(row["points"])) == NAMES
        assert ("overlay" in own) == bool(cell["photo"])


def test_rows_without_a_picture_are_answered_from_the_sensors(run: Path, drawn: Tables) -> None:
    model = sm.load(run)
    motion = [drawn["test"].parent / row["motion"] for row in rows_of(drawn["test"]) if row["motion"]]
    one, other, nothing = (p.targets["points"]["value"] for p in model.predict([{"motion": m} for m in motion[:2]] + [{}]))
    assert one != other
    assert all(-20 < at["x"] < 80 for at in (*one.values(), *nothing.values()))


def test_an_answer_is_in_the_pixels_of_the_file() -> None:
    """An image of 80 × 40 pixels, read at 40 × 20: heat in the middle of a cell is where it says in the user's file."""
    reader, image = build("modalities", "keypoints"), build("modalities", "image")
    reader.fit([[[10, 10], [70, 30]]])
    image.state = {"height": 20, "width": 40, "channels": 1, "mean": [0.0], "deviation": [1.0]}
    goal = Goal("p", {"p": reader}, {}, {"photo": image.layout}, lies_on={"p": "photo"}, bases={"p": image})
    task = Keypoints(goal, 4, hidden=4).eval()
    frame = torch.tensor([[[0.5, 0.0, 0.0], [0.0, 0.5, 0.0]]])
    present = torch.ones(1, dtype=torch.bool)
    field = Field(torch.zeros(1, 1, 20, 40), present, frame=frame, extent=torch.tensor([[80.0, 40.0]]))
    tokens = torch.zeros(1, 50, 4)
    part = Encoded(tokens, torch.ones(1, 50, dtype=torch.bool), torch.zeros(1, 4), present, grid=(5, 10))
    output = task(part, {"photo": part}, {"photo": field})
    output.maps.data.zero_()
    output.maps.data[0, 0, 1, 7] = output.maps.data[0, 1, 4, 0] = 99.0
    batch = Batch({"photo": field}, {}, torch.ones(1))
    value = task.answers(output, batch)[0]["value"]
    assert [value["0"][axis] for axis in "xy"] == pytest.approx([60, 12], abs=1e-3)
    assert [value["1"][axis] for axis in "xy"] == pytest.approx([4, 36], abs=1e-3)


def test_points_are_written_as_coco_csv_and_overlays(
    run: Path, drawn: Tables, tmp_path: Path, cli: Callable[..., Any]
) -> None:
    files = ("--coco", tmp_path / "p.json", "--points", tmp_path / "p.csv", "--overlay", tmp_path / "drawn")
    assert cli("predict", run, drawn["test"], "--out", tmp_path / "out.jsonl", *files, "-q")[0] == 0
    lines = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text(encoding="utf-8").splitlines()]
    cells = rows_of(drawn["test"])
    photos = [i for i, row in enumerate(cells) if row["photo"]]
    points = rows_of(tmp_path / "p.csv")
    assert len(points) == len(photos) * len(NAMES)
    assert [row["point"] for row in points[: len(NAMES)]] == NAMES
    first = lines[photos[0]]["targets"]["points"]["value"]
    assert float(points[0]["x"]) == pytest.approx(first[NAMES[0]]["x"], abs=1e-3)
    coco = json.loads((tmp_path / "p.json").read_text(encoding="utf-8"))
    assert coco["categories"] == [{"id": 1, "name": "points", "keypoints": NAMES}]
    assert [image["file_name"] for image in coco["images"]] == [cells[i]["photo"] for i in photos]
    assert coco["annotations"][0]["num_keypoints"] == len(NAMES)
    assert coco["annotations"][0]["keypoints"][0] == pytest.approx(first[NAMES[0]]["x"], abs=1e-3)
    assert len(list((tmp_path / "drawn").glob("*-photo.png"))) == len(photos)
    code, _, error = cli("predict", run, drawn["test"], "--out", tmp_path / "b.csv", "--coco", tmp_path / "b.txt", "-q")
    assert code != 0
    assert "--coco writes JSON" in error


def test_one_point_is_explained_by_its_number(run: Path, drawn: Tables) -> None:
    model = sm.load(run)
    row = next(i for i, cells in enumerate(rows_of(drawn["train"]), 1) if cells["photo"])
    every = model.explain(drawn["train"], row=row, where=False)
    assert [words.partition(",")[0] for words in every.subjects["points"]] == NAMES
    text = every.text()
    assert f"{NAMES[0]} (" in text, "points are printed as (x, y)"
    assert "'x'" not in text
    values = []
    for number in (1, 3):
        (one,) = model.explain(drawn["train"], row=row, where=False, about=number).targets["points"]
        assert one.what == f"probability of the place of {NAMES[number - 1]}"
        values.append(one.value)
    assert every.targets["points"][0].value != values[0] != values[1]
    with pytest.raises(ConfigError, match="there is no '99' of points to explain"):
        model.explain(drawn["train"], row=row, where=False, about=99)
    with pytest.raises(ConfigError, match="a box, region, line, point or place is chosen of a single row"):
        model.explain(drawn["train"], sample=3, about="points:1")
    with pytest.raises(ConfigError, match="by its number, not by 'nose'"):
        model.explain(drawn["train"], sample=3, about="nose")


def test_it_is_explained_by_stream_and_by_place(run: Path, drawn: Tables) -> None:
    rows = rows_of(drawn["train"])
    row = next(i for i, cells in enumerate(rows, 1) if cells["photo"] and cells["motion"])
    (one,) = sm.load(run).explain(drawn["train"], row=row).targets["points"]
    assert one.what == "probability of the places of the points"
    assert set(one.shares) == {"photo", "motion"}
    assert sum(one.shares.values()) == pytest.approx(one.value - one.nothing, abs=1e-5)


def test_a_server_sends_points(run: Path, drawn: Tables) -> None:
    pytest.importorskip("fastapi", reason="serving needs sensorium[serve]")
    from starlette.testclient import TestClient

    from sensorium.data.files.media_access import UPLOADS_ONLY
    from sensorium.predictor import Predictor
    from sensorium.serve.app import create

    predictor = Predictor(sm.load(run).artifact, device="cpu", media=UPLOADS_ONLY)
    photo = b64encode((drawn["train"].parent / "photo" / "0001.png").read_bytes()).decode()
    with TestClient(create({"poses": predictor}), base_url="http://localhost") as client:
        row = {"row": {"photo": {"base64": photo}}}
        response = client.post("/predict", json=row)
        every, chosen = (client.post(f"/explain{query}", json=row).json() for query in ("", "?about=points:2"))
        mapped = client.post("/explain?where=yes&about=2", json=row).json()["maps"]
        refused = client.post("/explain?about=99", json=row)
        two = client.post("/explain?about=1", json={"rows": [row["row"]] * 2})
    assert response.status_code == 200, response.text
    assert len(every["subjects"]["points"]) == len(NAMES)
    assert every["targets"]["points"][0]["what"] == "probability of the places of the points"
    assert chosen["targets"]["points"][0]["what"] == f"probability of the place of {NAMES[1]}"
    assert {one["what"] for one in mapped} == {f"probability of the place of {NAMES[1]}"}
    assert refused.status_code == two.status_code == 422
    assert "choose one of: 1 " in refused.json()["error"]["fix"]
    answer = response.json()["targets"]["points"]
    assert list(answer["value"]) == NAMES
    assert answer["overlay"].startswith("data:image/png;base64,")


@pytest.fixture(scope="module")
def paired(drawn: Tables, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same table with columns of coordinates, in shares of the width and height."""
    from PIL import Image

    path = tmp_path_factory.mktemp("paired") / "train.csv"
    columns = [f"{name}_{axis}" for name in ("head", "left_hand") for axis in "xy"]
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["photo", *columns])
        for row in rows_of(drawn["train"]):
            if not row["photo"]:
                continue
            photo = drawn["train"].parent / row["photo"]
            points = json.loads(row["points"]) if row["points"] else {}
            with Image.open(photo) as opened:
                side = opened.width
            cells = [points[n][i] / side if points else "" for n in ("head", "left_hand") for i in range(2)]
            writer.writerow([photo, *cells])
    return path


def test_columns_of_coordinates_are_one_target(paired: Path, tmp_path: Path, cli: Callable[..., Any]) -> None:
    rows = rows_of(paired)
    rows[0]["head_x"] = "left"
    with paired.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    out = tmp_path / "run"
    command = ("fit", paired, "--task", "keypoints", "--target", "head_*,left_hand_*", "--out", out, "--flip-pairs", "{}")
    code, _, stderr = cli(*command, *QUICK)
    assert code == 0, stderr
    assert "row 1, column 'head_x'" in stderr
    model = sm.load(out)
    assert list(model.model.tasks) == ["keypoints"]
    assert model.recipe.model.tasks["keypoints"]["target"] == ["head_x", "head_y", "left_hand_x", "left_hand_y"]
    task: Any = model.model.tasks["keypoints"]
    assert task.relative
    scores = model.evaluate(paired).targets["keypoints"]
    assert scores.metrics["mean_error"] > 0.5, "in pixels"
    (answer,) = model.predict([{"photo": rows[1]["photo"]}])
    assert all(-0.2 <= at[axis] <= 1.2 for at in answer.targets["keypoints"]["value"].values() for axis in "xy")
    assert model.predict([{"photo": rows[1]["photo"]}])[0].targets == answer.targets


def test_damaged_points_are_named_and_missing(drawn: Tables, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [
        {"photo": str(drawn["train"].parent / row["photo"]), "points": row["points"]}
        for row in rows_of(drawn["train"])
        if row["photo"] and row["points"]
    ]
    rows[0]["points"], rows[1]["points"] = '{"head": [1, 2, 9]}', '{"head": [700, 2]}'
    model = sm.fit(rows, target="points", overrides=[*SMALL, "training.epochs=1"], quiet=True)
    stderr = capsys.readouterr().err
    assert "row 1, column 'points'" in stderr
    assert "visibility 9" in stderr
    assert "row 2, column 'points'" in stderr
    assert "far outside an image" in stderr
    assert model.evaluate(rows).targets["points"].rows == len(rows) - 2


def test_invalid_setups_are_refused_before_training(drawn: Tables) -> None:
    for option, message in (
        ("focus: tail", "no point named 'tail'"),
        ("flip_pairs: {head: tail}", "no point named 'tail'"),
    ):
        overrides = [*QUICK, f"model.tasks.points={{kind: keypoints, {option}}}"]
        with pytest.raises(ConfigError, match=message):
            sm.fit(drawn["train"], target="points", overrides=overrides, quiet=True)
    with pytest.raises(ConfigError, match="cannot be averaged"):
        sm.fit(drawn["train"], target="points", overrides=[*QUICK, "model.fusion=late"], quiet=True)


def test_sensors_alone_have_an_answer(drawn: Tables) -> None:
    """Without any column of pictures the task answers from what there is."""
    model = sm.fit(
        drawn["train"], target="points", ignore=["photo"], overrides=[*SMALL[:3], "training.epochs=1"], quiet=True
    )
    evaluation = model.evaluate(drawn["test"]).targets["points"]
    assert np.isfinite(evaluation.metrics["mean_error"])
    assert evaluation.metrics["mean_error"] < 12
