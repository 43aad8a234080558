"""Edge detection: consensus and loss, targets that follow their image, and a whole run on drawn scenes."""

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
from scipy.ndimage import binary_dilation

import sensorium as sm
from sensorium.codecs.edges import mask_boundaries, read_edges, shrunk
from sensorium.core.answer import Attachment
from sensorium.core.batch import Field
from sensorium.core.errors import CellError, ConfigError
from sensorium.core.modality import Blob
from sensorium.data.synthetic_edges import make
from sensorium.heads.edges import consensus, edge_loss, in_user_pixels, thin_lines
from sensorium.modalities.edges import Edges
from sensorium.signal.geometry import identity

torch.set_num_threads(1)
QUICK = [
    *("model.size=tiny", "training.batch_size=16", "training.threads=1", "columns.photo.size=32", "training.epochs=2"),
    "model.tasks.edges={kind: edges, thresholds: 4, overlay: true}",
]


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return make(tmp_path_factory.mktemp("edges"), rows=48, holes=0.1)


@pytest.fixture(scope="module")
def run(drawn: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("run") / "run"
    sm.fit(drawn["train"], target="edges", overrides=QUICK, quiet=True, out=out)
    return out


def png(values: np.ndarray) -> Blob:
    file = io.BytesIO()
    Image.fromarray(values).save(file, "PNG")
    return Blob(file.getvalue(), "edges.png")


# ── cells ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_edges_are_the_boundaries_of_named_regions() -> None:
    squares = [[[1, 1, 4, 1, 4, 4, 1, 4]], [[4, 1, 7, 1, 7, 4, 4, 4]]]
    regions = [{"label": name, "polygons": square} for name, square in zip(("cat", "dog"), squares, strict=True)]
    numbers = [{"class": i, "polygons": region["polygons"]} for i, region in enumerate(regions, 1)]
    named, numbered = (read_edges([{"size": [6, 9], "regions": drawn}], boundaries=True) for drawn in (regions, numbers))
    assert np.array_equal(named, numbered)
    assert named[0, 2, 3], "there is an edge between the two"


def test_edges_are_read_from_files_stacks_and_masks() -> None:
    line = np.zeros((8, 10), np.uint8)
    line[3] = 255
    once = read_edges([png(line)])
    assert once.shape == (1, 8, 10)
    assert np.array_equal(once[0], line > 0)
    assert np.array_equal(read_edges([png(line), png(line // 255)]), np.repeat(once, 2, axis=0)), "0 and 1 or 0 and 255"
    assert np.array_equal(read_edges([np.stack([line, line]) > 0]), np.repeat(once, 2, axis=0))
    assert np.array_equal(read_edges([png(255 - line)], dark=True), once)
    codes = np.zeros((8, 10), np.uint8)
    codes[4:] = 2
    assert np.array_equal(read_edges([png(codes)], boundaries=True)[0], mask_boundaries(codes))
    assert np.array_equal(mask_boundaries(codes), line > 0)
    square = {"size": [6, 6], "regions": [{"label": "cat", "polygons": [[1, 1, 4, 1, 4, 4, 1, 4]]}]}
    inside = np.zeros((6, 6), np.uint8)
    inside[1:4, 1:4] = 1
    assert np.array_equal(read_edges([square], boundaries=True)[0], mask_boundaries(inside)), "also of regions as JSON"
    with pytest.raises(CellError, match="differ in size: 10 × 7, 10 × 8 pixels"):
        read_edges([line, line[:7]])
    with pytest.raises(CellError, match="no edge map in the cell"):
        read_edges([])


def test_no_line_is_lost_where_maps_are_reduced() -> None:
    edges = np.zeros((1, 101, 67), np.bool_)
    edges[0, :, 33] = edges[0, 50] = True
    small = shrunk(edges, (20, 13))[0]
    assert small.any(axis=1).all()
    assert small.any(axis=0).all()
    assert small.sum() == 20 + 13 - 1


def test_a_target_follows_its_image() -> None:
    line = np.zeros((16, 24), np.uint8)
    line[:, 5] = 255
    reader = Edges()
    reader.fit(iter([[line]]))
    stored = reader.collate([reader.encode([line])])
    extent = torch.tensor([[24.0, 16.0]])
    field = Field(stored.data, stored.present, frame=torch.from_numpy(reader.framing(extent.numpy())), extent=extent)
    mirror = torch.tensor([[[-0.5, 0.0, 12.0], [0.0, 0.5, 0.0]]])
    image = Field(torch.zeros(1, 1, 8, 14), torch.ones(1, dtype=torch.bool), frame=mirror, extent=extent)
    lying = reader.prepare_target(field, image).data[0, 0]
    assert lying.shape == (8, 14)
    assert (lying[:, 9] == 1).all(), "mirrored and halved, the line is whole"
    assert (lying[:, :12] == 1).sum() == 8
    assert (lying[:, 12:] == 255).all(), "nothing is known beyond the picture"


# ── formulas ───────────────────────────────────────────────────────────────────────────────────────────────────────


def test_annotators_agree_within_a_pixel() -> None:
    maps = torch.zeros(1, 3, 5, 9, dtype=torch.uint8)
    maps[0, 0, 1, :4] = maps[0, 1, 2, :4] = 1  # two that differ by a pixel
    maps[0, 2, 4, 8] = 1  # something that only the third draws
    wanted, known = consensus(maps, "majority")
    assert wanted[0, 1:3, :4].all()
    assert not bool(known[0, 4, 8])
    assert known.sum() == known.numel() - 1
    soft, everywhere = consensus(maps, "soft")
    assert float(soft[0, 4, 8]) == pytest.approx(1 / 3)
    assert float(soft[0, 1, 0]) == pytest.approx(2 / 3)
    assert bool(everywhere.all())
    maps[0, 2] = 255  # there is no third annotator
    assert float(consensus(maps, "soft")[0][0, 1, 0]) == 1


def test_the_loss_is_the_weighted_cross_entropy() -> None:
    draw = torch.Generator().manual_seed(0)
    logits = torch.randn(2, 4, 6, generator=draw)
    wanted = (torch.rand(2, 4, 6, generator=draw) < 0.2).float()
    known = torch.rand(2, 4, 6, generator=draw) < 0.8
    loss = edge_loss(logits, wanted, known, 1.0)
    for i in range(2):
        chance = logits[i].double().sigmoid()
        edge, other = (known[i] & (wanted[i] == 1)), (known[i] & (wanted[i] == 0))
        # As much of the loss from edges as from the rest.
        mean = -(chance[edge].log().mean() + (1 - chance[other]).log().mean()) / 2
        assert float(loss[i]) == pytest.approx(float(mean), rel=1e-5)
    plain = torch.nn.functional.binary_cross_entropy_with_logits(logits[0][known[0]], wanted[0][known[0]])
    assert float(edge_loss(logits, wanted, known, 0.0)[0]) == pytest.approx(float(plain), rel=1e-5)
    assert edge_loss(logits, wanted, torch.zeros_like(known), 0.5).tolist() == [0, 0]


def test_an_answer_in_bands_equals_the_full_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    logits = torch.randn(12, 16, generator=torch.Generator().manual_seed(1)).cumsum(dim=1)
    extent = torch.tensor([[96.0, 72.0]])
    frame = identity(1, 2, extent) / 6
    field = Field(torch.zeros(1, 1, 12, 16), torch.ones(1, dtype=torch.bool), frame=frame, extent=extent)
    whole = in_user_pixels(logits, (12, 16), field, 0, 0.6)
    assert whole.shape == (72, 96)
    assert whole.any()
    assert (whole[whole > 0] >= 0.6).all()
    monkeypatch.setattr("sensorium.heads.edges.MOST", 96 * 24)
    banded = in_user_pixels(logits, (12, 16), field, 0, 0.6)
    assert ((banded > 0) != (whole > 0)).mean() < 0.01


def test_lines_are_one_pixel_wide() -> None:
    y, x = torch.meshgrid(torch.arange(24.0), torch.arange(24.0), indexing="ij")
    lines = thin_lines((-((x - 11 + 0 * y) ** 2) / 6).exp()[None], 0.5)[0]
    assert (lines > 0).sum(axis=1)[2:-2].tolist() == [1] * 20


# ── a whole run ────────────────────────────────────────────────────────────────────────────────────────────────────


def test_it_is_trained_scored_and_reported(run: Path, drawn: dict[str, Path], tmp_path: Path) -> None:
    model = sm.load(run)
    assert model.recipe.columns["edges"]["kind"] == "edges", "the task says how its target is read"
    evaluation = model.evaluate(drawn["test"], report=tmp_path / "report.html").targets["edges"]
    assert list(evaluation.metrics) == ["ods", "ois", "average_precision", "precision", "recall"]
    low, high = evaluation.intervals["ods"]
    assert low <= evaluation.metrics["ods"] <= high
    (floor,) = evaluation.controls.values()
    assert 0 < floor.metrics["ods"] < 1
    assert evaluation.baseline is not None
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    for heading in ("Precision and recall", "Worst images", "Best images", "Least certain images", "Sobel"):
        assert heading in page


def test_answers_are_pictures_with_thin_lines(
    run: Path, drawn: dict[str, Path], tmp_path: Path, cli: Callable[..., Any]
) -> None:
    extra = ("--coco", tmp_path / "places.json", "--overlay", tmp_path / "drawn")
    assert cli("predict", run, drawn["test"], "--out", tmp_path / "out.csv", *extra, "-q")[0] == 0
    with (tmp_path / "out.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    with drawn["test"].open(newline="") as file:
        cells = list(csv.DictReader(file))
    for row, cell in zip(rows, cells, strict=True):
        with Image.open(tmp_path / row["edges"]) as edges:
            values = np.array(edges)
        assert set(np.unique(values)) <= {0, *range(127, 256)}, "nothing below the threshold of 0.5"
        if cell["photo"]:
            with Image.open(drawn["test"].parent / cell["photo"]) as photo:
                assert values.shape[::-1] == photo.size
    written = json.loads((tmp_path / "places.json").read_text(encoding="utf-8"))
    assert len(written["images"]) == sum(bool(cell["photo"]) for cell in cells) == len(list((tmp_path / "drawn").iterdir()))
    answer = sm.load(run).predict(drawn["test"])[0].targets["edges"]
    assert isinstance(answer["value"], Attachment)
    assert 0 <= answer["share"] <= 1
    assert 0 <= answer["confidence"] <= 1


def test_rows_without_an_image_get_the_mean_map(run: Path) -> None:
    one, other = (p.targets["edges"]["value"].data for p in sm.load(run).predict([{}, {"photo": None}]))
    assert np.array_equal(one, other)


def test_it_is_explained(run: Path, drawn: dict[str, Path]) -> None:
    (one,) = sm.load(run).explain(drawn["train"], row=2).targets["edges"]
    assert one.what.startswith("mean probability of")
    assert sum(one.shares.values()) == pytest.approx(one.value - one.nothing, abs=1e-5)


def test_a_line_or_a_place_is_explained(run: Path, drawn: dict[str, Path]) -> None:
    model = sm.load(run)
    plain = model.explain(drawn["train"], row=2, where=False)
    assert plain.subjects["edges"][0].startswith("line of ")
    lines = model.predict(drawn["train"])[1].targets["edges"]["value"].data > 0
    ys, xs = np.nonzero(lines)
    empty_y, empty_x = np.nonzero(binary_dilation(lines, iterations=4) == 0)
    values = {}
    for about in (1, f"{xs[0]},{ys[0]}", f"edges:{empty_x[0]},{empty_y[0]}"):
        (one,) = model.explain(drawn["train"], row=2, where=False, about=about).targets["edges"]
        assert sum(one.shares.values()) == pytest.approx(one.value - one.nothing, abs=1e-5)
        values[one.what] = one.value
    words = ["the chosen line", f"an edge near ({xs[0]}, {ys[0]})", f"an edge near ({empty_x[0]}, {empty_y[0]})"]
    assert list(values) == [f"mean probability of {what}" for what in words]
    line, edge, nothing = values.values()
    assert min(line, edge) > 0.5 > nothing
    for about, problem in (
        ("999,1", "'999,1' is no place on an image of"),
        ("a,b", "'a,b' is no place"),
        (999, "no '999'"),
    ):
        with pytest.raises(ConfigError, match=problem):
            model.explain(drawn["train"], row=2, where=False, about=about)


def test_a_server_sends_edges_and_places(run: Path, drawn: dict[str, Path]) -> None:
    pytest.importorskip("fastapi", reason="serving needs sensorium[serve]")
    from starlette.testclient import TestClient

    from sensorium.data.files.media_access import UPLOADS_ONLY
    from sensorium.predictor import Predictor
    from sensorium.serve.app import create

    predictor = Predictor(sm.load(run).artifact, device="cpu", media=UPLOADS_ONLY)
    path = drawn["train"].parent / "photo" / "0001.png"
    row = {"photo": {"base64": base64.b64encode(path.read_bytes()).decode()}}
    with TestClient(create({"edges": predictor}), base_url="http://localhost") as client:
        chosen = client.post("/explain?about=5,5", json={"row": row}).json()
        assert chosen["targets"]["edges"][0]["what"].endswith("edge near (5, 5)")
        refused = client.post("/explain?about=9999,5", json={"row": row})
        assert refused.status_code == 422
        plain = client.post("/predict", json={"row": row}).json()
        placed = client.post("/predict?places=yes", json={"row": row}).json()
        refused = client.post("/predict?places=maybe", json={"row": row})
    assert "places" not in plain
    assert placed["targets"] == plain["targets"]
    with Image.open(path) as photo:
        size = list(photo.size)
    (shown,) = placed["places"].values()
    assert shown["column"] == "photo"
    assert shown["size"] == size
    (edge,) = shown["places"]
    region = Image.open(io.BytesIO(base64.b64decode(edge["region"].partition(",")[2])))
    answer = Image.open(io.BytesIO(base64.b64decode(plain["targets"]["edges"]["value"].partition(",")[2])))
    assert np.array_equal(np.array(region) > 0, np.array(answer) > 0)
    assert refused.status_code == 422


def test_invalid_setups_are_refused(drawn: dict[str, Path]) -> None:
    with pytest.raises(ConfigError, match="threshold from 0 to 1"):
        sm.fit(drawn["train"], target="edges", overrides=[*QUICK, "model.tasks.edges.threshold=2"], quiet=True)
    with pytest.raises(ConfigError, match="cannot be averaged"):
        sm.fit(drawn["train"], target="edges", overrides=[*QUICK, "model.fusion=late"], quiet=True)
