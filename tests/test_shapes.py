"""A table of points, videos with sound, molecules, graphs, vectors and albums, with holes and broken cells, end to end."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import sensorium
from sensorium.core.recipe import Recipe
from sensorium.data.files.media_access import UPLOADS_ONLY
from sensorium.data.inspection.inspect import inspect
from sensorium.data.tables.table import Table

av = pytest.importorskip("av")
pytest.importorskip("rdkit")

pytestmark = pytest.mark.filterwarnings("ignore")

SMILES = ["CCO", "c1ccccc1O", "CC(=O)OC", "C1CCNC1C(=O)O"]
ROWS = 24


def clip(level: int) -> bytes:
    """Half a second of grey frames and a tone."""
    file = io.BytesIO()
    with av.open(file, "w", format="mp4") as out:
        picture = out.add_stream("mpeg4", rate=8)
        picture.width, picture.height, picture.pix_fmt = 32, 32, "yuv420p"
        sound = out.add_stream("aac", rate=8000, layout="mono")
        for i in range(4):
            shot = np.full((32, 32, 3), level + 10 * i, np.uint8)
            out.mux(picture.encode(av.VideoFrame.from_ndarray(shot, format="rgb24")))
        out.mux(picture.encode())
        wave = (0.3 * np.sin(np.arange(4096) * 0.1 * (1 + level / 50))).astype(np.float32)
        block = av.AudioFrame.from_ndarray(wave[None], format="fltp", layout="mono")
        block.rate = 8000
        out.mux(sound.encode(block))
        out.mux(sound.encode())
    return file.getvalue()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from PIL import Image

    root = tmp_path_factory.mktemp("shapes")
    draw = np.random.default_rng(0)
    clips = {label: clip(60 + 90 * label) for label in (0, 1)}
    rows: list[dict[str, Any]] = []
    for i in range(ROWS):
        label = i % 2
        cloud = draw.standard_normal((60, 3)) * [1, 1, 1 if label else 0.1]
        np.save(root / f"{i}.npy", cloud.astype(np.float32))
        (root / f"{i}.mp4").write_bytes(clips[label])
        Image.fromarray(draw.integers(0, 100 + 100 * label, (16, 16, 3), dtype=np.uint8)).save(root / f"{i}.png")
        chain = [[k, k + 1] for k in range(2 + label)]
        row = {
            "lidar": f"{i}.npy",
            "clip": f"{i}.mp4",
            "smiles": SMILES[(i // 2 % 2) * 2 + label],
            "net": {"nodes": 3 + label, "edges": chain},
            "embedding": (draw.standard_normal(5) + label).tolist(),
            "photos": [f"{i}.png", f"{(i + 2) % ROWS}.png"] if i % 3 else [f"{i}.png"],
            "label": ["no", "yes"][label],
        }
        for k, name in enumerate(row):
            if (i + k) % 7 == 3 and name != "label":
                row[name] = None
        rows.append(row)
    # One broken cell of every kind, all in rows that are otherwise whole.
    (root / "cut.mp4").write_bytes(clips[0][:400])
    np.save(root / "flat.npy", np.zeros(4))
    rows[0] |= {"lidar": "flat.npy", "clip": "cut.mp4", "smiles": "C1CC(", "net": {"nodes": 2, "edges": [[0, 9]]}}
    rows[0] |= {"embedding": [1.0, 2.0], "photos": ["0.png", "no.png"]}
    (root / "train.jsonl").write_text("\n".join(json.dumps(row) for row in rows), encoding="utf-8")
    return root


KINDS = {
    "lidar": "points",
    "clip": "video",
    "clip_sound": "audio",
    "smiles": "molecule",
    "net": "graph",
    "embedding": "vector",
    "photos": "images",
    "label": "category",
}


def test_a_look_tells_kinds_and_broken_cells(folder: Path) -> None:
    inspection = inspect({"train": Table.read(folder / "train.jsonl")}, target="label")
    assert {column.name: column.kind for column in inspection.columns} == KINDS
    bad = {problem.column: problem for problem in inspection.problems["train"]}
    assert set(bad) == set(KINDS) - {"label"}
    assert all(problem.row == 1 for problem in bad.values())
    assert bad["lidar"].file == "flat.npy"
    assert bad["clip"].file == bad["clip_sound"].file == "cut.mp4"
    assert bad["photos"].file == "no.png"
    assert bad["smiles"].file is None


def test_a_look_loads_no_torch(folder: Path) -> None:
    program = f"""
import sys
from sensorium.data.inspection.inspect import inspect
from sensorium.data.tables.table import Table
found = inspect({{"train": Table.read({str(folder / "train.jsonl")!r})}}, target="label")
assert len(found.problems["train"]) == 7, found.problems
assert "torch" not in sys.modules
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="module")
def trained(folder: Path) -> Any:
    return sensorium.fit(
        folder / "train.jsonl",
        target="label",
        recipe=Recipe().override(["training.epochs=2", "model.size=tiny"]),
        cache=folder / "cache",
        quiet=True,
    )


def test_trained_saved_loaded_and_asked(folder: Path, trained: Any) -> None:
    encoders = {stream: spec["kind"] for stream, spec in trained.recipe.model.encoders.items()}
    assert encoders == {
        "lidar": "pointnet",
        "clip": "frames",
        "clip_sound": "convnet",
        "smiles": "graph",
        "net": "graph",
        "embedding": "vector",
        "photos": "frames",
    }
    trained.save(folder / "run")
    again = sensorium.load(folder / "run")
    one, other = (model.predict(folder / "train.jsonl") for model in (trained, again))
    assert len(one) == ROWS
    for a, b in zip(one, other, strict=True):
        assert a.missing == b.missing
        assert a.problems == b.problems
        for label, chance in a.targets["label"]["probabilities"].items():
            assert b.targets["label"]["probabilities"][label] == pytest.approx(chance, abs=1e-5)
    assert set(one[0].missing) == set(encoders)  # every cell of the first row is broken
    assert {problem.column for problem in one[0].problems} == set(encoders)
    assert one[1].problems == []
    evaluation = again.evaluate(folder / "train.jsonl", report=folder / "report.html")
    assert evaluation.to_json()["rows"] == ROWS
    assert "clip" in (folder / "report.html").read_text(encoding="utf-8")
    assert again.trace({"smiles": "CCO", "clip": "1.mp4"}, media=folder)


def test_a_resolved_recipe_declares_the_sound_again(folder: Path, trained: Any) -> None:
    assert trained.recipe.columns["clip_sound"]["of"] == "clip"
    assert Recipe.parse(trained.recipe.model_dump()) == trained.recipe
    silent = sensorium.fit(
        folder / "train.jsonl",
        target="label",
        recipe=Recipe(columns={"clip": {"kind": "video", "rate": 4.0, "frames": 2}}).override(
            ["training.epochs=1", "model.size=tiny"]
        ),
        ignore=["clip_sound", "lidar", "net", "photos", "embedding"],
        cache=folder / "cache",
        quiet=True,
    )
    assert set(silent.model.streams) == {"clip", "smiles"}


def test_a_network_row_names_no_files(folder: Path, trained: Any) -> None:
    data = (folder / "1.mp4").read_bytes()
    row = {"clip": data, "smiles": "CCO", "photos": [(folder / "1.png").read_bytes()], "embedding": [0.0] * 5}
    (answer,) = trained.predictor.predict([row], media=UPLOADS_ONLY)
    assert set(answer.missing) == {"lidar", "net"}
    (refused,) = trained.predictor.predict(
        [{"clip": str(folder / "1.mp4"), "photos": [str(folder / "1.png")]}], media=UPLOADS_ONLY
    )
    assert {problem.column for problem in refused.problems} == {"clip", "clip_sound", "photos"}
