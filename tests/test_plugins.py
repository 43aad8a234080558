"""Tasks of a foreign package, one file each, edit nothing and go the whole road, from a table to a server and back."""

from __future__ import annotations

import base64
import csv
import io
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import sensorium as sm
from sensorium.core import registry
from sensorium.core.answer import Attachment
from sensorium.core.batch import Batch, Field
from sensorium.core.goal import Goal
from sensorium.core.layout import Grid, Row
from sensorium.core.pyramid_level import Level

PLUGIN = Path(__file__).parents[1] / "examples" / "plugin"
COLOURS = {"red": (220, 40, 40), "green": (40, 180, 60), "blue": (50, 70, 220)}
QUICK = ["model.size=tiny", "training.epochs=3", "training.batch_size=16", "training.threads=1"]
TASKS = {
    "sentence": {"kind": "sentence", "target": "caption", "hidden": 24, "beam": 2, "longest": 6},
    "match": {"kind": "match", "target": None, "between": ["photo", "note"], "width": 8},
    "outline": {"kind": "outline", "target": "mask", "hidden": 8},
}
USED = {"sentence": ("photo", "note", "size", "caption"), "match": ("photo", "note"), "outline": ("photo", "note", "mask")}
COLUMNS = {"photo": {"kind": "image", "size": 24, "flip": "horizontal"}, "note": "text", "size": "number"}
TARGETS = {"caption": {"kind": "text", "role": "target"}, "mask": {"kind": "outline", "role": "target", "size": 48}}


@pytest.fixture(scope="module", autouse=True)
def installed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The package as pip installs it, found by this process and by those it starts, for as long as these tests last."""
    site = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--no-build-isolation", "--no-index"]
    done = subprocess.run([*command, "--target", site, PLUGIN], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    caches: Any = (registry._plugins, registry.kinds, registry.find, registry.options)

    def forget() -> None:
        for cached in caches:
            cached.cache_clear()

    before = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(site), before]))
    sys.path.insert(0, str(site))
    forget()
    yield site
    sys.path.remove(str(site))
    os.environ.pop("PYTHONPATH") if before is None else os.environ.update(PYTHONPATH=before)
    for name in ("sentence", "match", "outline", "peak"):
        sys.modules.pop(name, None)
    forget()


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pictures of a coloured square, of different sizes; where it is, what it is, and rows that lack this or that."""
    folder = tmp_path_factory.mktemp("squares")
    draw = np.random.default_rng(0)
    with (folder / "train.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["photo", "note", "size", "caption", "mask"])
        for i in range(64):
            name = list(COLOURS)[i % 3]
            wide, high = int(draw.integers(30, 50)), int(draw.integers(30, 50))
            side, x, y = 11 + i % 4, int(draw.integers(0, wide - 14)), int(draw.integers(0, high - 14))
            picture = draw.integers(0, 60, (high, wide, 3)).astype(np.uint8)
            picture[y : y + side, x : x + side] = COLOURS[name]
            mask = np.zeros((high, wide), np.uint8)
            mask[y : y + side, x : x + side] = 7
            Image.fromarray(picture).save(folder / f"{i}.png")
            Image.fromarray(mask).save(folder / f"{i}-mask.png")
            row = [f"{i}.png", f"paint it {name}", side, f"a {name} square", f"{i}-mask.png"]
            # Some rows lack the picture, some the words, some a target, one all that could be read, one has a broken mask.
            gaps = {0: [0], 5: [1], 10: [3], 15: [4], 20: [0, 1, 2], 25: [0, 4]}.get(i % 32, [])
            writer.writerow(["" if k in gaps else cell for k, cell in enumerate(row)])
    (folder / "30-mask.png").write_bytes(b"no picture")
    return folder / "train.csv"


def recipe(*kinds: str) -> dict[str, Any]:
    used = {column for kind in kinds for column in USED[kind]}
    columns = {name: spec for name, spec in (COLUMNS | TARGETS).items() if name in used}
    ignored = {name: {"role": "ignore"} for name in COLUMNS | TARGETS if name not in used}
    return {
        "columns": columns | ignored,
        "model": {"tasks": {kind: TASKS[kind] for kind in kinds}, "encoders": {"photo": {"kind": "convnet", "depth": 2}}},
    }


def fitted(table: Path, *kinds: str, overrides: tuple[str, ...] = (), **options: Any) -> Any:
    from sensorium.core.recipe import Recipe

    plan = Recipe.parse(recipe(*kinds))
    return sm.fit(table, recipe=plan, overrides=[*QUICK, *overrides], quiet=True, seed=1, **options)


@pytest.fixture(scope="module")
def run(table: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A saved model of all three tasks at once."""
    out = tmp_path_factory.mktemp("all") / "run"
    fitted(table, *TASKS, out=out)
    return out


def test_they_keep_what_a_task_promises() -> None:
    from sensorium.testing import check_task

    text = registry.build("modalities", "text")
    words = ["a red square", "a blue square", "green", "a red square, painted"] * 3
    text.fit(words)
    ids = text.prepare_target(text.collate([text.encode_target(word) for word in words]))
    check_task("sentence", Goal.of(text), Batch({}, {"target": ids}, torch.ones(12)))
    check_task("match", Goal("match", streams={"one": Row((0,)), "two": Row((0,))}), Batch({}, {}, torch.ones(12)))
    mask = registry.build("modalities", {"kind": "outline", "size": 16})
    cells = [np.random.default_rng(i).integers(0, 3, (20, 20)).astype(np.uint8) for i in range(12)]
    mask.fit(cells)
    stored = mask.collate([mask.encode_target(cell) for cell in cells])
    present, frame = torch.ones(12, dtype=torch.bool), torch.eye(2, 3).expand(12, 2, 3)
    photo = Field(torch.zeros(12, 3, 16, 16), present, frame=frame, extent=torch.full((12, 2), 16.0))
    goal = Goal(
        "target",
        {"target": mask},
        streams={"photo": Grid(3, (16, 16))},
        levels={"photo": (Level(4, (2, 2)), Level(6, (4, 4)))},
        lies_on={"target": "photo"},
    )
    check_task("outline", goal, Batch({"photo": photo}, {"target": Field(stored.data, present)}, torch.ones(12)))


def test_each_is_described_where_it_is_looked_for(cli: Any) -> None:
    for family, kind in (("tasks", "sentence"), ("tasks", "match"), ("tasks", "outline"), ("modalities", "outline")):
        code, stdout, _ = cli("kinds", family, kind)
        assert code == 0
        assert f"{family}/{kind}" in stdout
    assert "Side of the stored mask" in cli("kinds", "modalities", "outline")[1]
    assert "Channels of the maps" in cli("kinds", "tasks", "outline")[1]


@pytest.mark.parametrize("kind", list(TASKS))
def test_each_is_trained_scored_and_reported_by_itself(kind: str, table: Path, tmp_path: Path) -> None:
    model = fitted(table, kind, out=tmp_path / "run")
    evaluation = model.evaluate(table, report=tmp_path / "report.html").targets[kind]
    assert evaluation.headline in evaluation.metrics
    low, high = evaluation.intervals[evaluation.headline]
    assert low <= evaluation.metrics[evaluation.headline] <= high
    assert set(model.model.streams) <= set(evaluation.subsets), "each stream alone is scored"
    assert len(evaluation.subsets) == 2 ** len(model.model.streams) - 1
    assert set(evaluation.shapley) == set(model.model.streams)
    assert evaluation.rows == {"sentence": 62, "match": 56, "outline": 59}[kind], "rows without what is needed do not count"
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    heading = {
        "sentence": "The most frequent answers",
        "match": "How often the other side is found",
        "outline": "Each class",
    }[kind]
    assert heading in page
    assert "Hardest rows" in page
    if kind == "outline":
        assert "data:image/png;base64" in page.partition("Hardest rows")[2]
    assert json.loads((tmp_path / "run" / "report.json").read_text())["valid"]["targets"][kind]
    assert any(key.startswith(f"valid_{evaluation.headline}") for key in model.history[-1])


@pytest.mark.parametrize("kind", list(TASKS))
def test_each_learns(kind: str, table: Path) -> None:
    epochs = {"sentence": 30, "match": 30, "outline": 12}[kind]
    model = fitted(table, kind, overrides=(f"training.epochs={epochs}", "training.lr=0.01"))
    evaluation = model.evaluate(table).targets[kind]
    assert evaluation.metrics[evaluation.headline] > {"sentence": 0.9, "match": 0.1, "outline": 0.55}[kind]
    if evaluation.baseline is not None:
        assert evaluation.metrics[evaluation.headline] > evaluation.baseline[evaluation.headline] + 0.1


def test_all_are_one_model_explained_stream_by_stream(run: Path, table: Path, tmp_path: Path) -> None:
    model = sm.load(run)
    explanation = model.explain(table, row=2, out=tmp_path / "why.html")
    assert set(explanation.targets) == set(TASKS)
    for kind, (one,) in explanation.targets.items():
        assert sum(one.shares.values()) == pytest.approx(one.value - one.nothing, abs=1e-5), kind
        maps = explanation.maps_of(2, kind)
        assert {m.stream for m in maps} == set(model.model.streams)
        assert all(np.isfinite(m.values).all() for m in maps)
    assert explanation.targets["sentence"][0].what.startswith("log-likelihood of ")
    assert (tmp_path / "why.html").stat().st_size > 1000


def test_answers_are_written_as_rows_and_files(run: Path, table: Path, tmp_path: Path, cli: Any) -> None:
    for name in ("out.csv", "out.jsonl"):
        assert cli("predict", run, table, "--out", tmp_path / name, "-q")[0] == 0
    with (tmp_path / "out.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 64
    with table.open(newline="") as file:
        cells = list(csv.DictReader(file))
    for row, cell in zip(rows, cells, strict=True):
        assert isinstance(row["sentence"], str)
        assert (row["match"] == "") == (not (cell["photo"] and cell["note"])), "a side is missing: nothing to compare"
        with Image.open(tmp_path / row["outline"]) as mask:
            assert set(np.unique(np.array(mask))) <= {0, 7}, "the numbers of the table's own masks"
            if cell["photo"]:
                with Image.open(table.parent / cell["photo"]) as photo:
                    assert mask.size == photo.size, "the mask lies on the user's own pixels"
    lines = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text(encoding="utf-8").splitlines()]
    assert (tmp_path / lines[0]["targets"]["outline"]["value"]).is_file()
    assert set(lines[1]["targets"]["match"]["vectors"]) == {"photo", "note"}
    code, stdout, _ = cli("predict", run, table, "-q")
    assert code == 0
    assert "<mask>" in stdout, "on a terminal a picture is named"


def test_a_new_process_answers_the_same(run: Path, table: Path, tmp_path: Path, python: Any) -> None:
    from sensorium.data.files.attachment_files import with_data_urls

    program = (
        "import json, sys, sensorium as sm; "
        "print(json.dumps([p.to_json() for p in sm.load(sys.argv[1]).predict(sys.argv[2])]))"
    )
    done = python("-c", program, run, table)
    assert done.returncode == 0, done.stderr
    mine = [p.to_json() for p in sm.load(run).predict(table)]
    assert json.loads(done.stdout) == json.loads(json.dumps(mine))
    one = sm.load(run).predict(table)[1].targets["outline"]["value"]
    assert isinstance(one, Attachment)
    assert with_data_urls(one).startswith("data:image/png;base64,")


def test_a_server_sends_what_is_answered(run: Path, table: Path) -> None:
    pytest.importorskip("fastapi", reason="serving needs sensorium[serve]")
    from starlette.testclient import TestClient

    from sensorium.data.files.media_access import UPLOADS_ONLY
    from sensorium.predictor import Predictor
    from sensorium.serve.app import create

    predictor = Predictor(sm.load(run).artifact, device="cpu", media=UPLOADS_ONLY)
    with TestClient(create({"squares": predictor}), base_url="http://localhost") as client:
        form = client.get("/schema").json()
        assert {t["name"]: (t["task"], t["kind"]) for t in form["targets"]} == {
            "sentence": ("sentence", "text"),
            "match": ("match", "match"),
            "outline": ("outline", "outline"),
        }
        photo = base64.b64encode((table.parent / "1.png").read_bytes()).decode()
        row = {"photo": {"base64": photo}, "note": "paint it green", "size": 12}
        response = client.post("/predict", json={"row": row})
        assert response.status_code == 200, response.text
        answer = response.json()["targets"]["outline"]["value"]
        mask = Image.open(io.BytesIO(base64.b64decode(answer.partition(",")[2])))
        with Image.open(table.parent / "1.png") as own:
            assert mask.size == own.size
        assert client.post("/predict", json={"row": {}}).status_code == 200, "a row with nothing is answered too"
        explained = client.post("/explain", json={"row": row}).json()
        assert set(explained["targets"]) == set(TASKS)


linux = pytest.mark.skipif(sys.platform != "linux", reason="processes are forked")


@linux
def test_killed_and_taken_up_it_ends_bit_for_bit(run: Path, table: Path, tmp_path: Path) -> None:
    from sensorium.training.callbacks import Checkpoint

    out = tmp_path / "run"
    child = os.fork()
    if child == 0:
        real = Checkpoint.on_train_epoch_end

        def cut(self: Any, trainer: Any, module: Any) -> None:
            real(self, trainer, module)
            os.kill(os.getpid(), signal.SIGKILL)

        Checkpoint.on_train_epoch_end = cut  # type: ignore[method-assign]
        try:
            fitted(table, *TASKS, out=out)
        finally:
            os._exit(1)
    assert os.waitpid(child, 0)[1] == signal.SIGKILL
    assert not (out / "manifest.json").exists()
    fitted(table, *TASKS, out=out, resume=True)
    for name in ("model.safetensors", "recipe.yaml", "schema.json"):
        assert (out / name).read_bytes() == (run / name).read_bytes(), name


@linux
def test_two_processes_train_and_score_them(table: Path, tmp_path: Path) -> None:
    model = fitted(table, *TASKS, overrides=("training.devices=2",), out=tmp_path / "run")
    assert all(np.isfinite(model.history[-1][f"valid_loss_{kind}"]) for kind in TASKS)
    assert all(f"valid_{model.model.tasks[kind].headline}_{kind}" in model.history[-1] for kind in TASKS)
    assert sm.load(tmp_path / "run").predict(table)[0].targets.keys() == TASKS.keys()


def test_what_cannot_be_is_said_before_any_training(table: Path) -> None:
    from sensorium.core.errors import ConfigError

    with pytest.raises(ConfigError, match="cannot be averaged"):
        fitted(table, "match", overrides=("model.fusion=late",))
    with pytest.raises(ConfigError, match="feature maps of 'photo'"):
        fitted(table, "outline", overrides=("model.encoders.photo=recurrent",))
    with pytest.raises(ConfigError, match="no stream named 'noise'; did you mean note"):
        fitted(table, "match", overrides=("model.tasks.match.between=[photo, noise]",))
    with pytest.raises(ConfigError, match="answers no column"):
        fitted(table, "match", overrides=("model.tasks.match.target=size",))
