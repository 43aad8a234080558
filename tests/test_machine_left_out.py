"""Nothing that a training leaves behind names the folder, the machine or the user it was made by."""

from __future__ import annotations

import getpass
import os
import shutil
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

import sensorium as sm
from sensorium.core.portable_recipe import portable
from sensorium.core.recipe import Recipe

MARK = "zqtellta1e"
HOST, USER = "hostname-zqh0st", "user-zqu5er"


@pytest.fixture
def told_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder whose absolute path, and a machine and a user whose names, would be seen anywhere."""
    folder = tmp_path / MARK / "project"
    folder.mkdir(parents=True)
    monkeypatch.setattr(socket, "gethostname", lambda: HOST)
    monkeypatch.setattr(socket, "getfqdn", lambda *_: f"{HOST}.example")
    monkeypatch.setattr("platform.node", lambda: HOST)
    monkeypatch.setattr(os, "uname", lambda: os.uname_result(("Linux", HOST, "6", "1", "x86_64")))
    monkeypatch.setattr(getpass, "getuser", lambda: USER)
    for name in ("USER", "LOGNAME", "USERNAME"):
        monkeypatch.setenv(name, USER)
    monkeypatch.setenv("HOSTNAME", HOST)
    return folder


def leaks(folder: Path) -> list[str]:
    """Files in whose name or bytes the path, the machine or the user is found."""
    marks = [mark.encode() for mark in (MARK, HOST, USER)]
    files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    assert files
    results = []
    for path in files:
        inside = str(path.relative_to(folder)).encode() + b"\0" + path.read_bytes()
        results += [f"{path.relative_to(folder)}: {mark.decode()}" for mark in marks if mark in inside]
    return results


def test_nothing_of_the_machine_is_in_what_training_leaves(
    quick_fit: Callable[..., Any], scenes: Path, told_of: Path, read_csv: Any
) -> None:
    table = told_of / "scenes"
    shutil.copytree(scenes, table)
    out = told_of / "run"
    recipe = told_of / "recipe.yaml"
    recipe.write_text(
        yaml.safe_dump(
            {"data": {"train": str(table / "train.csv"), "valid": str(table / "valid.csv"), "media": str(table)}}
        ),
        encoding="utf-8",
    )
    bad = read_csv(table / "train.csv")
    (table / bad[1]["photo"] if bad[1]["photo"] else table / "none.png").write_bytes(b"no picture")
    model = quick_fit(
        table / "train.csv",
        recipe=recipe,
        out=out,
        overrides=["model.experts=[linear]", "training.refit=experts"],
    )
    model.evaluate(table / "test.csv", report=out / "report.html")
    assert leaks(out) == []
    assert (out / "report.html").is_file()
    assert (out / "logs" / "metrics.csv").is_file()
    document = yaml.safe_load((out / "recipe.yaml").read_text(encoding="utf-8"))
    assert document["data"]["train"] == "train.csv"
    assert document["data"]["media"] == "scenes"
    # What is left out is needed by nothing: the model is taken up, loaded and scored as before.
    rows = read_csv(table / "test.csv")[:4]
    assert quick_fit(
        table / "train.csv",
        recipe=recipe,
        out=out,
        resume=True,
        overrides=["model.experts=[linear]", "training.refit=experts"],
    ).predict(rows, media=table)
    again = sm.load(out)
    assert again.predict(rows, media=table) == model.predict(rows, media=table)
    assert leaks(out) == []


def test_what_the_search_for_leaks_finds(told_of: Path) -> None:
    for name, data in (("a.bin", f"\0{HOST}\0".encode()), (f"b.{USER}", b""), ("c.json", str(told_of).encode())):
        (told_of / name).write_bytes(data)
    assert len(leaks(told_of)) == 3


def test_event_files_are_named_after_no_machine(told_of: Path) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    from sensorium.training.tensorboard_events import EventFile

    events = EventFile(told_of)
    for step in range(3):
        events.add("loss", 1.0 / (step + 1), step)
    assert leaks(told_of) == []
    read = EventAccumulator(str(told_of))
    read.Reload()
    assert [(e.step, round(e.value, 3)) for e in read.Scalars("loss")] == [(0, 1.0), (1, 0.5), (2, 0.333)]


def test_paths_in_a_recipe_become_names() -> None:
    recipe = Recipe.parse(
        {
            "data": {"train": "/home/ann/data/train.csv", "valid": "tables/valid.csv", "media": "../../ann/media"},
            "columns": {"note": {"kind": "text", "checkpoint": "~/models/bert"}, "/a/column": "number"},
            "model": {
                "encoders": {
                    "note": {"kind": "huggingface", "checkpoint": "C:\\Users\\ann\\bert"},
                    "photo": {"kind": "huggingface", "checkpoint": "google/vit-base"},
                },
                "tasks": {"y": {"kind": "classification", "target": "/a/column/of/this/name"}},
                "fusion": {
                    "kind": "compose",
                    "groups": {"g": {"streams": ["note"], "fusion": {"kind": "lxmert", "checkpoint": "/opt/lxmert"}}},
                },
            },
        }
    )
    result = portable(recipe)
    assert result.data.train == "train.csv"
    assert result.data.valid == "tables/valid.csv"
    assert result.data.media == "media"
    assert result.columns == {"note": {"kind": "text", "checkpoint": "bert"}, "/a/column": "number"}
    assert result.model.encoders["note"] == {"kind": "huggingface", "checkpoint": "bert"}
    assert result.model.encoders["photo"] == {"kind": "huggingface", "checkpoint": "google/vit-base"}
    assert result.model.tasks == recipe.model.tasks
    assert "/opt" not in result.to_yaml()
    assert "lxmert" in result.to_yaml()
    assert portable(result) == result
