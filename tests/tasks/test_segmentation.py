"""Segmentation: its scores against references, its answers in the user's pixels, and the whole road on drawn scenes."""

from __future__ import annotations

import base64
import csv
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.metrics import f1_score, jaccard_score
from torch.nn import functional as F

import sensorium as sm
from sensorium.core.answer import Attachment
from sensorium.core.batch import Field
from sensorium.core.errors import ConfigError
from sensorium.data.synthetic_scenes import make
from sensorium.heads.position_prior import position_prior
from sensorium.heads.segmentation import counted_pixels, in_user_pixels, segmentation_loss
from sensorium.heads.segmentation_views import overlaid
from sensorium.metrics.segmentation import dice, iou, pixel_counts
from sensorium.nn.dense_decoder import DenseDecoder
from sensorium.nn.overlap_loss import cross_entropy_per_row, soft_dice_per_row

torch.set_num_threads(1)

SMALL = ["model.size=tiny", "training.batch_size=16", "training.threads=1", "columns.photo.size=32"]
QUICK = [*SMALL, "training.epochs=2"]
NOTE = "columns.note=text"


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return make(tmp_path_factory.mktemp("scenes"), rows=64, holes=0.1)


@pytest.fixture(scope="module")
def run(drawn: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A saved model of both masks at once: several targets of one picture."""
    out = tmp_path_factory.mktemp("segmentation") / "run"
    sm.fit(drawn["train"], target=["shapes", "meant"], overrides=[*QUICK, NOTE], quiet=True, out=out)
    return out


# ── formulas ───────────────────────────────────────────────────────────────────────────────────────────────────────


def test_scores_are_those_of_scikit_learn() -> None:
    draw = torch.Generator().manual_seed(0)
    true, answered = (torch.randint(0, 4, (3, 9, 11), generator=draw) for _ in range(2))
    true[torch.rand(true.shape, generator=draw) < 0.1] = 255
    counts = pixel_counts(answered, true, 5).sum(dim=0).double()
    known = true < 5
    flat = true[known].numpy(), answered[known].numpy()
    options: dict[str, Any] = {"labels": range(4), "average": None}
    assert np.allclose(iou(counts)[:4], jaccard_score(*flat, **options))
    assert np.allclose(dice(counts)[:4], f1_score(*flat, **options))
    assert bool(iou(counts)[4].isnan()), "a class that is neither true nor answered has no score"


def test_losses_are_those_of_the_formulas() -> None:
    logits = torch.randn(2, 3, 5, 6, dtype=torch.float64)
    codes = torch.randint(0, 3, (2, 5, 6))
    codes[0, :2] = 255
    codes[1][codes[1] == 2] = 0
    for row in range(2):
        known = codes[row] < 3
        chances = logits[row].softmax(dim=0)[:, known]
        one_hot = F.one_hot(codes[row][known], 3).T.double()
        entropy = -(chances.log() * one_hot).sum(dim=0).mean()
        assert cross_entropy_per_row(logits, codes)[row] == pytest.approx(float(entropy))
        overlap = (2 * (chances * one_hot).sum(dim=1) + 1) / (chances.sum(dim=1) + one_hot.sum(dim=1) + 1)
        available = one_hot.sum(dim=1) > 0
        assert float(soft_dice_per_row(logits, codes)[row]) == pytest.approx(float(1 - overlap[available].mean()), abs=1e-5)
    nothing = torch.full((2, 5, 6), 255)
    assert segmentation_loss(logits, nothing, 1.0).tolist() == [0, 0], "void teaches nothing"


def test_many_rows_are_counted_as_few_are(monkeypatch: pytest.MonkeyPatch) -> None:
    logits, codes = torch.randn(5, 3, 4, 4), torch.randint(0, 3, (5, 8, 8))
    whole = counted_pixels(logits, codes)
    monkeypatch.setattr("sensorium.heads.segmentation.NUMBERS", 200)
    with torch.no_grad():
        assert torch.equal(counted_pixels(logits, codes), whole)


def test_the_prior_is_the_mean_mask() -> None:
    codes = torch.zeros(40, 64, 64, dtype=torch.uint8)
    codes[:30, :32] = 1
    codes[0, 32:] = 255
    prior = position_prior([Field(codes, torch.ones(40, dtype=torch.bool))], 2).exp()
    assert torch.allclose(prior.sum(dim=0), torch.ones(32, 32))
    assert prior[1, 0, 0] == pytest.approx(30.5 / 41)
    assert prior[1, -1, -1] == pytest.approx(0.5 / 40)


def test_the_decoder_takes_any_pyramid_and_rows_by_themselves() -> None:
    decoder = DenseDecoder([8, 12, 40], 6, 8).eval()
    maps = [torch.randn(3, 8, 15, 9), torch.randn(3, 12, 8, 5), torch.randn(3, 40, 4, 3)]
    vector = torch.randn(3, 6)
    result = decoder(maps, vector)
    assert result.shape == (3, 8, 15, 9)
    assert torch.allclose(result[1:2], decoder([m[1:2] for m in maps], vector[1:2]), atol=1e-5)


def test_answers_lie_on_the_users_pixels(monkeypatch: pytest.MonkeyPatch) -> None:
    """An image of 40 × 20 pixels, read at 20 × 10 with its left half cropped off: what was not seen is another class."""
    logits = torch.zeros(2, 10, 10)
    logits[1, :5] = 9.0  # the upper half
    frame = torch.tensor([[[0.5, 0.0, -10.0], [0.0, 0.5, 0.0]]])
    field = Field(
        torch.zeros(1, 1, 10, 10), torch.ones(1, dtype=torch.bool), frame=frame, extent=torch.tensor([[40.0, 20.0]])
    )
    codes, confidence = in_user_pixels(logits, (10, 10), field, 0, outside=7)
    assert codes.shape == (20, 40)
    assert (codes[:, :20] == 7).all()
    assert (codes[:9, 20:] == 1).all()
    assert (codes[11:, 20:] == 0).all()
    assert 0 < confidence < 0.5
    monkeypatch.setattr("sensorium.heads.segmentation.NUMBERS", 300)
    again, same = in_user_pixels(logits, (10, 10), field, 0, outside=7)
    assert torch.equal(again, codes)
    assert same == pytest.approx(confidence)


def test_an_overlay_colours_all_but_the_background_and_the_unknown() -> None:
    picture = np.full((2, 2), 100, np.uint8)
    drawn = overlaid(picture, np.array([[0, 1], [2, 255]], np.uint8), 0)
    assert drawn[0, 0].tolist() == drawn[1, 1].tolist() == [100, 100, 100]
    assert len({tuple(pixel) for pixel in drawn.reshape(-1, 3).tolist()}) == 3


# ── the whole road ─────────────────────────────────────────────────────────────────────────────────────────────────


def test_two_masks_of_one_picture_are_trained_scored_and_reported(
    run: Path, drawn: dict[str, Path], tmp_path: Path
) -> None:
    model = sm.load(run)
    assert [task["kind"] for task in model.recipe.model.tasks.values()] == ["segmentation", "segmentation"]
    assert model.recipe.model.encoders["photo"]["stride"] == 1, "a small image is read finely"
    assert model.recipe.training.lr == 4e-3
    evaluation = model.evaluate(drawn["test"], report=tmp_path / "report.html").targets
    for name in ("shapes", "meant"):
        assert set(evaluation[name].metrics) == {"mean_iou", "foreground_iou", "mean_dice", "pixel_accuracy"}
        low, high = evaluation[name].intervals["mean_iou"]
        assert low <= evaluation[name].metrics["mean_iou"] <= high
        assert set(evaluation[name].subsets) == {"photo", "note", "photo+note"}
        assert evaluation[name].baseline is not None
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    for heading in ("Each class", "Worst images", "Best images", "Least certain images", "Hardest rows"):
        assert heading in page


def test_answers_are_files_and_json(run: Path, drawn: dict[str, Path], tmp_path: Path, cli: Callable[..., Any]) -> None:
    assert cli("predict", run, drawn["test"], "--out", tmp_path / "out.csv", "-q")[0] == 0
    with (tmp_path / "out.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    with drawn["test"].open(newline="") as file:
        cells = list(csv.DictReader(file))
    for row, cell in zip(rows, cells, strict=True):
        with Image.open(tmp_path / row["shapes"]) as mask:
            assert set(np.unique(np.array(mask))) <= {0, 1, 2, 3}
            if cell["photo"]:
                with Image.open(drawn["test"].parent / cell["photo"]) as photo:
                    assert mask.size == photo.size
    answer = sm.load(run).predict(drawn["test"])[0].targets["meant"]
    assert isinstance(answer["value"], Attachment)
    assert sum(answer["areas"].values()) == pytest.approx(1)
    assert 0 <= answer["confidence"] <= 1


def test_without_an_image_the_answer_is_the_mean_mask(run: Path) -> None:
    model = sm.load(run)
    one, other = model.predict([{"note": "where is the red one?"}, {"note": "the blue thing, please"}])
    task: Any = model.model.tasks["shapes"]
    assert np.array_equal(one.targets["shapes"]["value"].data, other.targets["shapes"]["value"].data)
    prior = F.interpolate(task.prior[None], task.size, mode="bilinear", align_corners=False)[0].argmax(dim=0)
    # Interpolated in two steps, over the grid of the feature maps.
    assert (one.targets["shapes"]["value"].data == prior.numpy()).mean() > 0.98


def test_it_is_explained_by_stream_and_by_place(run: Path, drawn: dict[str, Path]) -> None:
    explanation = sm.load(run).explain(drawn["train"], row=2)
    for name, (one,) in explanation.targets.items():
        assert one.what.startswith("mean probability of")
        assert sum(one.shares.values()) == pytest.approx(one.value - one.nothing, abs=1e-5), name


def test_masks_are_written_as_run_lengths_and_regions_are_explained(
    run: Path, drawn: dict[str, Path], tmp_path: Path, cli: Callable[..., Any]
) -> None:
    from sensorium.codecs.regions import run_lengths

    files = ("--coco", tmp_path / "masks.json", "--overlay", tmp_path / "drawn")
    assert cli("predict", run, drawn["test"], "--out", tmp_path / "out.jsonl", *files, "-q")[0] == 0
    coco = json.loads((tmp_path / "masks.json").read_text(encoding="utf-8"))
    names = {one["id"]: one["name"] for one in coco["categories"]}
    assert coco["annotations"]
    for one in coco["annotations"]:
        image = coco["images"][one["image_id"] - 1]
        inside = run_lengths(one["segmentation"]["counts"], *one["segmentation"]["size"])
        assert inside.shape == (image["height"], image["width"])
        wanted = {np.array(Image.open(path)).tobytes() for path in tmp_path.glob(f"out_media/{image['row']}-*.png")}
        number = int(names[one["category_id"]])
        masks = [np.frombuffer(part, np.uint8).reshape(inside.shape) == number for part in wanted]
        assert any(np.array_equal(inside, mask) for mask in masks)
        assert inside.sum() == one["area"]
    assert len(list((tmp_path / "drawn").iterdir())) == len(coco["images"])
    model = sm.load(run)
    subjects = model.explain(drawn["train"], row=2, where=False).subjects
    if not subjects:
        pytest.skip("two epochs answered no foreground")
    name = next(iter(subjects))
    chosen = model.explain(drawn["train"], row=2, where=False, about=f"{name}:1").targets[name][0]
    assert chosen.what == "mean probability of the chosen region"
    assert 0 < chosen.value < 1


def test_a_new_process_answers_the_same(run: Path, drawn: dict[str, Path], python: Callable[..., Any]) -> None:
    program = (
        "import json, sys, sensorium as sm; from sensorium.data.files.attachment_files import with_data_urls; "
        "print(json.dumps([with_data_urls(p.targets) for p in sm.load(sys.argv[1]).predict(sys.argv[2])[:4]]))"
    )
    done = python("-c", program, run, drawn["test"])
    assert done.returncode == 0, done.stderr
    from sensorium.data.files.attachment_files import with_data_urls

    mine = [with_data_urls(p.targets) for p in sm.load(run).predict(drawn["test"])[:4]]
    assert json.loads(done.stdout) == json.loads(json.dumps(mine))


def test_words_steer_the_mask(tmp_path: Path) -> None:
    """Only the note says which thing is meant: without it the model cannot tell."""
    tables = make(tmp_path, rows=200, seed=1)
    settings = [
        *(*SMALL, NOTE, "training.epochs=28", "training.lr=0.006", "columns.photo.augment=none"),
    ]
    model = sm.fit(tables["train"], target="meant", ignore=["shapes"], overrides=settings, quiet=True)
    evaluation = model.evaluate(tables["test"]).targets["meant"]
    whole, alone = evaluation.metrics["foreground_iou"], evaluation.subsets["photo"]["foreground_iou"]
    assert whole > alone + 0.1, (whole, alone)


def test_damaged_and_misfitting_masks_are_named_and_missing(
    drawn: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with drawn["train"].open(newline="") as file:
        cells = [{key: row[key] for key in ("photo", "shapes")} for row in csv.DictReader(file)]
    rows = [{key: str(drawn["train"].parent / name) if name else "" for key, name in row.items()} for row in cells]
    full = [row for row in rows if row["photo"] and row["shapes"]]
    (tmp_path / "bad.png").write_bytes(b"no picture")
    Image.fromarray(np.zeros((20, 50), np.uint8)).save(tmp_path / "wide.png")
    full[0]["shapes"], full[1]["shapes"] = str(tmp_path / "bad.png"), str(tmp_path / "wide.png")
    model = sm.fit(full, target="shapes", overrides=QUICK, quiet=True)
    stderr = capsys.readouterr().err
    assert "row 1, column 'shapes'" in stderr
    assert "bad.png: not a picture" in stderr
    assert "row 2, column 'shapes'" in stderr
    assert "wide.png: a mask of 50 × 20 pixels does not lie on an image" in stderr
    assert model.evaluate(full).targets["shapes"].rows == len(full) - 2


def test_inspection_names_masks_and_damaged_ones(drawn: dict[str, Path], tmp_path: Path, cli: Callable[..., Any]) -> None:
    with drawn["train"].open(newline="") as file:
        cells = list(csv.DictReader(file))[:20]
    rows = [
        {key: str(drawn["train"].parent / row[key]) if row[key] else "" for key in ("photo", "shapes")} for row in cells
    ]
    (tmp_path / "bad.png").write_bytes(b"no picture")
    rows[3]["shapes"] = str(tmp_path / "bad.png")
    with (tmp_path / "train.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    _, stdout, _ = cli("inspect", tmp_path / "train.csv", "--target", "shapes")
    assert "mask" in stdout
    assert "bad.png" in stdout


def test_a_server_sends_masks_and_areas(run: Path, drawn: dict[str, Path]) -> None:
    pytest.importorskip("fastapi", reason="serving needs sensorium[serve]")
    from starlette.testclient import TestClient

    from sensorium.data.files.media_access import UPLOADS_ONLY
    from sensorium.predictor import Predictor
    from sensorium.serve.app import create

    predictor = Predictor(sm.load(run).artifact, device="cpu", media=UPLOADS_ONLY)
    photo = base64.b64encode((drawn["train"].parent / "photo" / "0001.png").read_bytes()).decode()
    with TestClient(create({"scenes": predictor}), base_url="http://localhost") as client:
        response = client.post("/predict", json={"row": {"photo": {"base64": photo}, "note": "where is the red one?"}})
    assert response.status_code == 200, response.text
    answer = response.json()["targets"]["shapes"]
    mask = Image.open(io.BytesIO(base64.b64decode(answer["value"].partition(",")[2])))
    with Image.open(drawn["train"].parent / "photo" / "0001.png") as own:
        assert mask.size == own.size
    assert set(answer["areas"]) == {"0", "1", "2", "3"}


def test_invalid_setups_are_refused_before_training(drawn: dict[str, Path]) -> None:
    with pytest.raises(ConfigError, match="no class named 'lung'"):
        sm.fit(
            drawn["train"],
            target="shapes",
            ignore=["meant"],
            overrides=[*QUICK, "model.tasks.shapes={kind: segmentation, focus: lung}"],
            quiet=True,
        )
    with pytest.raises(ConfigError, match="lies on an image, and there is none"):
        sm.fit(drawn["train"], target="shapes", ignore=["meant", "photo"], overrides=QUICK[:-1], quiet=True)
    with pytest.raises(ConfigError, match="cannot be averaged"):
        sm.fit(drawn["train"], target="shapes", ignore=["meant"], overrides=[*QUICK, "model.fusion=late"], quiet=True)


@pytest.mark.parametrize("encoder", ["resnet", "patch", "vit", "{kind: tiles, side: 16, overlap: 8}"])
def test_it_reads_convolutions_patches_and_tiles(encoder: str, drawn: dict[str, Path]) -> None:
    overrides = [*QUICK, "training.epochs=1", f"model.encoders.photo={encoder}"]
    model = sm.fit(drawn["train"], target="shapes", ignore=["meant", "note"], overrides=overrides, quiet=True)
    assert model.predict(drawn["test"])[0].targets["shapes"]["value"].data.ndim == 2
