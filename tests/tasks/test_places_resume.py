"""Detection, segmentation and key points: a stopped run resumes bit for bit, and two processes train like one."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import sensorium as sm
from sensorium.data.synthetic_boxes import make as make_boxes
from sensorium.data.synthetic_poses import make as make_poses
from sensorium.data.synthetic_scenes import make as make_masks
from sensorium.training.callbacks import Checkpoint

QUICK = ["model.size=tiny", "training.epochs=2", "training.batch_size=8", "training.threads=1", "model.experts=[]"]
MAKERS = {"detection": make_boxes, "segmentation": make_masks, "keypoints": make_poses}
ROWS = {"detection": 32, "segmentation": 40, "keypoints": 32}
"""Of which 24 train: three quarters, less the masks that are missing."""
TARGETS = {"detection": "boxes", "segmentation": "shapes", "keypoints": "points"}


def fit(task: str, folder: Path, *more: str, **options: Any) -> Any:
    paths = MAKERS[task](folder / "data", rows=ROWS[task], holes=0.1)
    target: dict[str, Any] = {"segmentation": {"target": "shapes", "ignore": ["meant"]}, "keypoints": {"target": "points"}}
    image = "image" if task == "detection" else "photo"
    # Validation rows of their own leave 24 for training, whole steps of 8: a short last step may join the one before with
    # two processes, which need two rows each, where it does not with one.
    return sm.fit(
        paths["train"],
        valid=paths["test"],
        overrides=[*QUICK, f"columns.{image}={{kind: image, size: 32}}", *more],
        quiet=True,
        **target.get(task, {"task": "detection"}),
        **options,
    )


@pytest.mark.parametrize("task", MAKERS)
def test_stopped_training_resumes_bit_identically(task: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fit(task, tmp_path, out=tmp_path / "whole")
    real = Checkpoint.on_train_epoch_end

    def stop(self: Any, trainer: Any, module: Any) -> None:
        real(self, trainer, module)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Checkpoint, "on_train_epoch_end", stop)
        with pytest.raises(BaseException):  # noqa: B017 - however the trainer passes it on
            fit(task, tmp_path, out=tmp_path / "run")
    assert not (tmp_path / "run" / "manifest.json").exists()
    fit(task, tmp_path, out=tmp_path / "run", resume=True)
    for name in ("model.safetensors", "recipe.yaml", "schema.json"):
        assert (tmp_path / "run" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes(), name


@pytest.mark.skipif(sys.platform != "linux", reason="processes speak over gloo")
@pytest.mark.parametrize("task", MAKERS)
def test_two_processes_train_like_one(task: str, tmp_path: Path) -> None:
    image, options = "image" if task == "detection" else "photo", f"{{kind: {task}, dropout: 0}}"
    plain = [f"columns.{image}.augment=none", f"model.tasks.{TARGETS[task]}={options}", "training.epochs=1"]
    plain.append("objectives=[{kind: supervised, subsets: 0}]")
    one = fit(task, tmp_path, *plain, out=tmp_path / "one")
    # Each process takes half of a step's rows.
    two = fit(task, tmp_path, *plain, "training.devices=2", "training.batch_size=4", out=tmp_path / "two")
    assert one.history[0]["step"] == two.history[0]["step"]
    for name in one.history[0]:
        if "loss" in name:
            np.testing.assert_allclose(two.history[0][name], one.history[0][name], rtol=0.03, err_msg=name)
    assert sm.load(tmp_path / "two").predict([{}])[0].targets.keys() == {TARGETS[task]}
