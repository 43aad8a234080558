"""A saved model: whole or not there, vouched for byte by byte, and the same when loaded. (Forgeries: test_hostile.py.)"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

import sensorium as sm
from sensorium.artifact import FILES, Artifact
from sensorium.core.errors import ArtifactError
from sensorium.core.portable_recipe import portable


def test_what_is_loaded_is_what_was_saved(trained: Any, run_folder: Path) -> None:
    again = Artifact.load(run_folder)
    state = again.model.state_dict()
    assert state.keys() == trained.model.state_dict().keys()
    for name, tensor in trained.model.state_dict().items():
        assert torch.equal(tensor, state[name]), name
        assert tensor.dtype == state[name].dtype
    assert again.schema.to_json() == trained.schema.to_json()
    assert again.recipe == portable(trained.recipe)
    assert again.report == json.loads(json.dumps(trained.artifact.report))
    assert not again.model.training


def test_the_manifest_vouches_for_every_file(run_folder: Path) -> None:
    manifest = json.loads((run_folder / "manifest.json").read_text(encoding="utf-8"))
    assert {path.name for path in run_folder.iterdir()} == {"manifest.json", *FILES}
    for name, entry in manifest["files"].items():
        data = (run_folder / name).read_bytes()
        assert entry == {"sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data)}
    assert manifest["sensorium"] == sm.__version__


def test_saving_twice_writes_the_same_bytes(trained: Any, run_folder: Path, tmp_path: Path) -> None:
    sm.load(run_folder).save(tmp_path / "again")
    for name in ("manifest.json", *FILES):
        assert (tmp_path / "again" / name).read_bytes() == (run_folder / name).read_bytes(), name


@pytest.mark.parametrize("writes", range(5))
def test_killed_while_saving_over_a_model(
    trained: Any, run_folder: Path, writes: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever file was being replaced, what is there is no model, and says so; the next save mends it."""
    folder = tmp_path / "run"
    shutil.copytree(run_folder, folder)
    done = 0
    real = os.replace

    def replace(source: Any, target: Any) -> None:
        nonlocal done
        if done == writes:
            raise RuntimeError("power cut")
        done += 1
        real(source, target)

    with monkeypatch.context() as patch:
        patch.setattr("sensorium.data.files.atomic_write.os.replace", replace)
        with pytest.raises(RuntimeError, match="power cut"):
            trained.save(folder)
    with pytest.raises(ArtifactError, match="no finished model"):
        sm.load(folder)
    trained.save(folder)
    sm.load(folder)
    assert not list(folder.glob(".*.part"))


def test_other_files_in_the_folder_are_let_be(run_folder: Path, tmp_path: Path) -> None:
    shutil.copytree(run_folder, tmp_path / "run")
    (tmp_path / "run" / "notes.txt").write_text("mine", encoding="utf-8")
    (tmp_path / "run" / "resume").mkdir()
    (tmp_path / "run" / "resume" / "last.ckpt").write_bytes(b"a pickle that nobody opens")
    sm.load(tmp_path / "run").save(tmp_path / "run")
    assert (tmp_path / "run" / "notes.txt").read_text(encoding="utf-8") == "mine"


@pytest.mark.parametrize("what", ["nothing", "a file", "an empty folder"])
def test_what_is_no_model(what: str, tmp_path: Path) -> None:
    path = tmp_path / "run"
    if what == "a file":
        path.write_text("x", encoding="utf-8")
    elif what == "an empty folder":
        path.mkdir()
    with pytest.raises(ArtifactError) as caught:
        sm.load(path)
    assert str(path) in str(caught.value)
    assert "→" in str(caught.value)


def test_a_forged_column_of_an_expert_is_refused_when_it_is_loaded(quick_fit: Any, tmp_path: Path) -> None:
    from safetensors.torch import load, save

    ignore = ["cost", "tags", "note", "sound", "when", "photo", "sensor"]
    quick_fit(ignore=ignore, overrides=["model.experts=[linear]", "model.network=false"], out=tmp_path / "run")
    Artifact.load(tmp_path / "run")
    file, manifest = tmp_path / "run" / "model.safetensors", tmp_path / "run" / "manifest.json"
    tensors = load(file.read_bytes())
    name = next(name for name in tensors if name.endswith("columns_0"))
    tensors[name] = tensors[name][1:] + 10_000_000
    data = save(tensors)
    file.write_bytes(data)
    document = json.loads(manifest.read_text(encoding="utf-8"))
    document["files"]["model.safetensors"] = {"sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data)}
    manifest.write_text(json.dumps(document), encoding="utf-8")
    with pytest.raises(ArtifactError, match="is inconsistent"):
        Artifact.load(tmp_path / "run")
