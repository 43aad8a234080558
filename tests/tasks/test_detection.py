"""Detection: its targets and losses against plain loops, its answers in the user's pixels, and the whole road on scenes."""

from __future__ import annotations

import base64
import csv
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn import functional as F

import sensorium as sm
from sensorium.core.batch import Encoded, Field
from sensorium.core.errors import ConfigError
from sensorium.core.goal import Goal
from sensorium.core.layout import Grid
from sensorium.core.pyramid_level import Level
from sensorium.core.registry import build
from sensorium.data.synthetic_boxes import make
from sensorium.heads.box_prior import SIDE, box_prior
from sensorium.heads.box_targets import box_targets, corners_of, focal_loss, side_loss
from sensorium.heads.detection import in_user_pixels, peak_boxes
from sensorium.heads.detection_views import certainty, with_boxes
from sensorium.metrics.box_overlap import box_iou, giou
from sensorium.metrics.detection import BoxSet

torch.set_num_threads(1)

QUICK = ["model.size=tiny", "training.batch_size=16", "training.threads=1", "columns.image.size=32", "training.epochs=2"]


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return make(tmp_path_factory.mktemp("boxes"), rows=60, holes=0.1)


@pytest.fixture(scope="module")
def run(drawn: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("detection") / "run"
    options = {"threshold": 0.01, "overlay": True}  # two epochs make nothing sure
    sm.fit(drawn["train"], task="detection", options=options, overrides=[*QUICK, "columns.note=text"], quiet=True, out=out)
    return out


# ── formulas ───────────────────────────────────────────────────────────────────────────────────────────────────────


def boxes_of(*rows: list[list[float]]) -> tuple[torch.Tensor, torch.Tensor]:
    most = max(map(len, rows), default=1)
    data = torch.zeros(len(rows), max(most, 1), 6)
    real = torch.zeros(data.shape[:2], dtype=torch.bool)
    for i, row in enumerate(rows):
        for j, box in enumerate(row):
            data[i, j], real[i, j] = torch.tensor(box), True
    return data, real


def test_targets_are_drawn_around_centres() -> None:
    data, real = boxes_of([[4, 8, 24, 24, 1, 0], [10, 12, 14, 16, 0, 0]], [], [[0, 0, 40, 40, 0, 1]])
    targets = box_targets(data, real, 2, (10, 10), (40, 40))
    assert targets.heat[0, 1, 4, 3] == 1, "the cell of the centre (14, 16)"
    assert targets.heat[0, 0, 3, 3] == 1
    assert (targets.heat == 1).sum() == 2
    # Of the larger box: half of its 5 x 4 cells, as a Gaussian.
    spread = (0.54 * 5 + 1) / 6
    assert float(targets.heat[0, 1, 4, 5]) == pytest.approx(np.exp(-(2**2) / (2 * spread**2)))
    assert targets.corners[0, :, 3, 3].tolist() == [10, 12, 14, 16], "where they overlap, the smaller"
    assert targets.corners[0, :, 4, 4].tolist() == [4, 8, 24, 24]
    assert float(targets.weight[0].sum()) <= 2 + 1e-5
    assert float(targets.weight[1].sum()) == 0
    assert not bool(targets.unknown[:2].any())
    assert bool(targets.unknown[2].all()), "what is to be ignored is neither there nor not"


def test_boxes_that_augmentation_moved_out_are_not_learnt() -> None:
    data, real = boxes_of([[-18, 5, 2, 15, 0, 0], [-2, 20, 18, 30, 0, 0]])
    targets = box_targets(data, real, 1, (10, 10), (40, 40))
    assert (targets.heat == 1).sum() == 1
    assert targets.heat[0, 0, 6, 2] == 1, "the centre of what is left of it, (9, 25)"
    assert bool(targets.unknown[0, 2, 0]), "nor is an answer at what is left of the other one wrong"


def test_many_boxes_are_drawn_as_few_are(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    rows = [
        [[*low, *(low + rng.uniform(3, 20, 2)), k % 3, k % 5 == 0] for k, low in enumerate(rng.uniform(0, 30, (n, 2)))]
        for n in (9, 4)
    ]
    data, real = boxes_of(*rows)
    whole = box_targets(data, real, 3, (10, 8), (40, 32))
    monkeypatch.setattr("sensorium.heads.box_targets._NUMBERS", 2 * 10 * 8 * 2)
    for one, other in zip(whole, box_targets(data, real, 3, (10, 8), (40, 32)), strict=True):
        assert torch.allclose(one.float(), other.float())


def test_losses_are_those_of_the_formulas() -> None:
    draw = torch.Generator().manual_seed(0)
    data, real = boxes_of([[4, 8, 24, 24, 1, 0], [22, 22, 34, 38, 0, 0]])
    targets = box_targets(data, real, 2, (5, 5), (40, 40))
    logits = torch.randn(1, 2, 5, 5, generator=draw, dtype=torch.float64)
    chance = logits.sigmoid()
    centre = targets.heat == 1
    expected = -((1 - chance) ** 2 * chance.log())[centre].sum()
    expected -= ((1 - targets.heat) ** 4 * chance**2 * (1 - chance).log())[~centre].sum()
    assert float(focal_loss(logits, targets.heat, targets.unknown)) == pytest.approx(float(expected), rel=1e-5)
    sides = 1 + 9 * torch.rand(1, 4, 5, 5, generator=draw)
    corners = corners_of(sides, (40, 40))
    assert corners[0, :, 2, 1].tolist() == pytest.approx(
        (torch.tensor([12, 20, 12, 20]) + sides[0, :, 2, 1] * torch.tensor([-1, -1, 1, 1])).tolist()
    )
    total = sum(
        float(targets.weight[0, i, j] * (1 - giou(corners[0, :, i, j], targets.corners[0, :, i, j])))
        for i in range(5)
        for j in range(5)
    )
    assert float(side_loss(sides, targets, (40, 40))) == pytest.approx(total, rel=1e-4)


def test_peaks_become_boxes_in_the_users_pixels() -> None:
    heat = torch.full((1, 2, 8, 8), -9.0)
    heat[0, 0, 2, 3], heat[0, 0, 2, 4], heat[0, 1, 6, 1] = 2.0, 1.0, 3.0
    sides = torch.full((1, 4, 8, 8), 6.0)
    (boxes_of_row,) = peak_boxes(heat, sides, (32, 32), 0.6)
    assert boxes_of_row.classes.tolist() == [1, 0], "a cell beside a peak is none"
    assert boxes_of_row.boxes.tolist() == [[0, 20, 12, 32], [8, 4, 20, 16]]
    # Read at half its size, mirrored, with 8 pixels cut off at its right edge.
    frame = torch.tensor([[[-0.5, 0.0, 32.0], [0.0, 0.5, 0.0]]])
    field = Field(
        torch.zeros(1, 1, 32, 32), torch.ones(1, dtype=torch.bool), frame=frame, extent=torch.tensor([[60.0, 60.0]])
    )
    own = in_user_pixels(boxes_of_row, field, 0, (32, 32))
    assert own.boxes.tolist() == [[40, 40, 60, 60], [24, 8, 48, 32]]


def test_the_prior_is_where_and_how_large_boxes_are() -> None:
    data, real = boxes_of(*[[[10, 10, 30, 20, 0, 0], [60, 60, 70, 90, 1, 0], [0, 0, 90, 90, 0, 1]]] * 50)
    prior = box_prior([Field(data, torch.ones(50, dtype=torch.bool), real)], 2, (96, 96))
    assert prior.per_row == pytest.approx(2)
    assert prior.heat.sigmoid()[0, int(15 / 96 * SIDE), int(20 / 96 * SIDE)] > 0.9
    assert prior.heat.sigmoid()[1].argmax() == int(75 / 96 * SIDE) * SIDE + int(65 / 96 * SIDE)
    assert prior.sides[:, int(15 / 96 * SIDE), int(20 / 96 * SIDE)] * 2 * 96 == pytest.approx([20, 10, 20, 10], rel=0.1)
    nothing = box_prior([], 2, (96, 96))
    assert bool(nothing.heat.isfinite().all() & nothing.sides.isfinite().all())


def test_boxes_are_drawn_in_the_colours_of_their_classes() -> None:
    boxes = BoxSet(torch.tensor([[10.0, 10, 100, 60]]), torch.tensor([1]), torch.ones(1))
    canvas = with_boxes(np.full((256, 256), 9, np.uint8), boxes)
    coloured = (canvas != 9).any(axis=2)
    assert coloured.sum() == 2 * 90 + 2 * 48
    assert coloured[10, 10:100].all()
    assert certainty(torch.tensor([0.5, 0.7]), torch.tensor([0.5, 0.7, 0.1])) == pytest.approx(0.6)
    assert certainty(torch.zeros(0), torch.tensor([0.2])) == pytest.approx(0.8)


# ── the whole road ─────────────────────────────────────────────────────────────────────────────────────────────────


def test_it_is_trained_scored_and_reported(run: Path, drawn: dict[str, Path], tmp_path: Path) -> None:
    model = sm.load(run)
    assert model.recipe.model.tasks["boxes"]["kind"] == "detection", "a table of boxes names its target itself"
    evaluation = model.evaluate(drawn["test"], report=tmp_path / "report.html").targets["boxes"]
    assert list(evaluation.metrics)[:2] == ["map", "map50"]
    low, high = evaluation.intervals["map50"]
    assert low <= evaluation.metrics["map50"] <= high
    assert set(evaluation.subsets) == {"image", "note", "image+note"}
    assert evaluation.baseline is not None
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    for heading in ("Each class", "Precision and recall", "Worst images", "Best images", "Least certain images"):
        assert heading in page


def test_answers_are_boxes_in_the_users_pixels(
    run: Path, drawn: dict[str, Path], tmp_path: Path, cli: Callable[..., Any]
) -> None:
    assert cli("predict", run, drawn["test"], "--out", tmp_path / "out.csv", "-q")[0] == 0
    with (tmp_path / "out.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    document = json.loads(drawn["test"].read_text())
    assert len(rows) == len(document["images"])
    for row, image in zip(rows, document["images"], strict=True):
        for one in json.loads(row["boxes"]):
            left, top, wide, high = one["box"]
            assert min(left, top) >= 0
            assert max(left + wide, top + high) <= image["width"] + 0.02
            assert one["label"] in ("disc", "square", "triangle")
            assert 0.01 <= one["score"] <= 1
    answer = sm.load(run).predict(drawn["test"])[0].targets["boxes"]
    assert sum(answer["counts"].values()) == len(answer["value"])
    assert answer["overlay"].data.shape[2] == 3


def test_without_an_image_the_answer_is_the_mean_boxes(run: Path) -> None:
    one, other = sm.load(run).predict([{"note": "where is the red one?"}, {"note": "the blue thing, please"}])
    assert one.targets["boxes"]["value"] == other.targets["boxes"]["value"]
    assert one.targets["boxes"]["value"], "the scenes have things in their quarters"


def test_boxes_are_written_as_coco_and_explained_one_by_one(
    run: Path, drawn: dict[str, Path], tmp_path: Path, cli: Callable[..., Any]
) -> None:
    files = ("--coco", tmp_path / "boxes.json", "--overlay", tmp_path / "drawn")
    assert cli("predict", run, drawn["test"], "--out", tmp_path / "out.jsonl", *files, "-q")[0] == 0
    lines = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text(encoding="utf-8").splitlines()]
    coco = json.loads((tmp_path / "boxes.json").read_text(encoding="utf-8"))
    names = {one["id"]: one["name"] for one in coco["categories"]}
    for image in coco["images"]:
        own = [one for one in coco["annotations"] if one["image_id"] == image["id"]]
        value = lines[image["row"] - 1]["targets"]["boxes"]["value"]
        assert [names[one["category_id"]] for one in own] == [box["label"] for box in value]
        for one, box in zip(own, value, strict=True):
            assert one["bbox"] == pytest.approx(box["box"], abs=0.02), "COCO writes left, top, width, height"
        with Image.open(tmp_path / "drawn" / f"{image['row']}-image.png") as picture:
            assert picture.size == (image["width"], image["height"])
    model = sm.load(run)
    row = next(i for i, line in enumerate(lines, 1) if len(line["targets"]["boxes"]["value"]) > 1 and not line["missing"])
    subjects = model.explain(drawn["test"], row=row, where=False).subjects["boxes"]
    values = []
    for number in (1, 2):
        (one,) = model.explain(drawn["test"], row=row, where=False, about=number).targets["boxes"]
        assert subjects[number - 1].startswith(one.what)
        assert one.value == pytest.approx(float(subjects[number - 1].rpartition(": ")[2]), abs=0.006)
        values.append(one.value)
    assert values[0] >= values[1], "the most confident first"


def test_it_is_explained_by_stream(run: Path, drawn: dict[str, Path]) -> None:
    (one,) = sm.load(run).explain(drawn["train"], row=2).targets["boxes"]
    assert one.what.startswith("score of ")
    assert sum(one.shares.values()) == pytest.approx(one.value - one.nothing, abs=1e-5)


def test_a_server_sends_boxes(run: Path, drawn: dict[str, Path]) -> None:
    pytest.importorskip("fastapi", reason="serving needs sensorium[serve]")
    from starlette.testclient import TestClient

    from sensorium.data.files.media_access import UPLOADS_ONLY
    from sensorium.predictor import Predictor
    from sensorium.serve.app import create

    predictor = Predictor(sm.load(run).artifact, device="cpu", media=UPLOADS_ONLY)
    photo = base64.b64encode((drawn["train"].parent / "images" / "0001.png").read_bytes()).decode()
    with TestClient(create({"scenes": predictor}), base_url="http://localhost") as client:
        response = client.post("/predict", json={"row": {"image": {"base64": photo}, "note": "where is the red one?"}})
    assert response.status_code == 200, response.text
    answer = response.json()["targets"]["boxes"]
    assert answer["value"]
    assert set(answer["value"][0]) == {"box", "label", "score"}


def test_files_of_yolo_and_empty_ones_are_targets(
    drawn: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """An empty file says that nothing is there; a damaged one, and boxes of another image, are named and missing."""
    document = json.loads(drawn["train"].read_text())
    rows = []
    for image in document["images"]:
        lines = []
        for one in document["annotations"]:
            if one["image_id"] == image["id"]:
                left, top, wide, high = (number / image["width"] for number in one["bbox"])
                lines.append(f"{one['category_id'] - 1} {left + wide / 2:.5f} {top + high / 2:.5f} {wide:.5f} {high:.5f}\n")
        (tmp_path / f"{image['id']}.txt").write_text("".join(lines))
        rows.append(
            {"photo": str(drawn["train"].parent / image["file_name"]), "things": str(tmp_path / f"{image['id']}.txt")}
        )
    assert any(not (tmp_path / f"{image['id']}.txt").read_text() for image in document["images"]), "an empty scene"
    (tmp_path / "1.txt").write_text("0 0.5\n")
    (tmp_path / "2.txt").write_text("0 1.9 0.5 0.1 0.1\n")
    columns = {"things": {"kind": "boxes", "names": ["disc", "square", "triangle"]}, "photo": {"kind": "image", "size": 32}}
    quick = [text for text in QUICK if not text.startswith("columns")]
    model = sm.fit(rows, target="things", task="detection", columns=columns, overrides=quick, quiet=True)
    stderr = capsys.readouterr().err
    assert "1.txt: line 1 is '0 0.5'" in stderr
    assert "2.txt: a box reaches to 1.95, and boxes are in shares of the image" in stderr
    task: Any = model.model.tasks["things"]
    assert task.classes == ["disc", "square", "triangle"]
    assert model.evaluate(rows).targets["things"].rows == len(rows) - 2
    with Image.open(rows[3]["photo"]) as photo:
        wide = photo.size[0]
    boxes = model.predict(rows[3:4])[0].targets["things"]["value"]
    assert all(one["box"][0] + one["box"][2] <= wide + 0.02 for one in boxes), "answers are in pixels"


def test_invalid_setups_are_refused_before_training(drawn: dict[str, Path]) -> None:
    options: dict[str, Any] = {"task": "detection", "overrides": QUICK, "quiet": True}
    with pytest.raises(ConfigError, match="no class named 'cat'"):
        sm.fit(drawn["train"], options={"focus": "cat"}, ignore=["note"], **options)
    with pytest.raises(ConfigError, match="boxes lie on an image, and there is none"):
        sm.fit([{"size": i * i / 7, "boxes": [[1, 2, 3, 4, "a"]]} for i in range(30)], target="boxes", quiet=True)


def test_the_row_vector_selects_the_object() -> None:
    """Two squares, a red and a blue one: only the vector tells which of them has a box."""
    rng = np.random.default_rng(0)
    pictures = torch.zeros(192, 3, 32, 32)
    both = torch.zeros(192, 2, 4)
    for i in range(192):
        for k, column in enumerate(rng.permutation(2)):
            left, top, side = 16 * column + rng.integers(1, 6), rng.integers(1, 20), rng.integers(6, 10)
            pictures[i, 2 * k, top : top + side, left : left + side] = 1
            both[i, k] = torch.tensor([left, top, left + side, top + side])
    meant = torch.arange(192) % 2
    modality: Any = build("modalities", "boxes")
    modality.fit([[[1, 1, 5, 5, "meant"]]])
    levels = (Level(3, (2, 2)), Level(3, (4, 4)))
    goal = Goal("boxes", {"boxes": modality}, {}, {"image": Grid(3, (32, 32))}, {"image": levels}, {"boxes": "image"})
    torch.manual_seed(0)
    task: Any = build("tasks", {"kind": "detection", "hidden": 16, "dropout": 0.0}, goal, 2)
    target = torch.zeros(192, 1, 6)
    target[:, 0, :4] = both[torch.arange(192), meant]
    present = torch.ones(192, dtype=torch.bool)
    task.fit([Field(target, present, present[:, None])])

    def output(rows: slice, vector: torch.Tensor) -> dict[str, torch.Tensor]:
        maps = tuple(F.avg_pool2d(pictures[rows], step) for step in (2, 4))
        tokens = vector[:, None]
        part = Encoded(tokens, present[rows, None], vector, present[rows])
        result: dict[str, torch.Tensor] = task(part, {"image": replace(part, pyramid=maps)}, {})
        return result

    vectors = F.one_hot(meant, 2).float()
    optimiser = torch.optim.AdamW(task.parameters(), lr=6e-3)
    for step in range(75):
        rows = slice(step % 5 * 32, step % 5 * 32 + 32)
        optimiser.zero_grad()
        task.loss(output(rows, vectors[rows]), Field(target[rows], present[rows], present[rows, None])).mean().backward()
        optimiser.step()
    held = slice(160, 192)
    for which in range(2):
        vectors_held = F.one_hot(torch.full((32,), which), 2).float()
        with torch.no_grad():
            out = output(held, vectors_held)
        surest = [detected.boxes[0] for detected in peak_boxes(out["heat"], out["sides"], (32, 32), 0.6)]
        overlap = [float(box_iou(one[None], true[None])) for one, true in zip(surest, both[held, which], strict=True)]
        assert np.mean(np.array(overlap) > 0.5) > 0.9, overlap
