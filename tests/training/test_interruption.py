"""A run that is killed at any moment resumes bit-identically; a full or unwritable disk is reported."""

from __future__ import annotations

import errno
import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

import sensorium as sm
from sensorium.core.errors import ConfigError, SensoriumError
from sensorium.training.callbacks import Checkpoint
from sensorium.training.lightning_module import TrainingModule

ROOT = Path(__file__).parent.parent.parent
OPTIONS = ["training.epochs=2", "training.batch_size=8", "training.checkpoint_every=0.000001"]


class PowerCutError(Exception):
    """Stands for a kill."""


def same(one: Any, other: Any) -> bool:
    first, second = one.model.state_dict(), other.model.state_dict()
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


def report(model: Any) -> Any:
    """All of it but the clock."""
    result = json.loads(json.dumps(model.artifact.report))
    for record in result["history"]:
        del record["seconds"]
    return result


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the runs are forked")
def test_run_killed_at_random_moments_resumes_bit_identically(python: Any) -> None:
    """The whole of it, with 50 kills, is `python -m benchmarks.kills`."""
    done = python("-m", "benchmarks.kills", "--count", 2, "--rows", 24, cwd=ROOT)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "ended with the same result as the undisturbed one, 2 kills" in done.stdout


@pytest.fixture(scope="module")
def rows() -> list[dict[str, Any]]:
    """Numbers and words: nothing to decode."""
    return [{"x": i % 7 - 3.0, "z": (i * 5) % 11, "word": ["ash", "elm"][i % 2], "y": "ab"[i % 7 > 3]} for i in range(60)]


@pytest.fixture(scope="module")
def run(rows: Any) -> Any:
    def fit(**arguments: Any) -> Any:
        options: dict[str, Any] = {"target": "y", "quiet": True, "overrides": OPTIONS} | arguments
        return sm.fit(rows, **{**options, "overrides": ["model.size=tiny", *options["overrides"]]})

    return fit


@pytest.fixture(scope="module")
def whole(run: Any) -> Any:
    return run()


@pytest.mark.parametrize("average", [0.0, 0.05])
def test_resume_within_an_epoch(
    run: Any, whole: Any, average: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The steps that a checkpoint holds are not done again, and the end is the same, averaged weights and all."""
    options = [*OPTIONS, f"training.average={average}"]
    straight = whole if average else run(overrides=options)
    steps: list[int] = []
    real = TrainingModule.training_step

    def step(self: TrainingModule, batch: Any, batch_idx: int) -> Any:
        if len(steps) == 10:
            raise PowerCutError
        steps.append(self.global_step)
        return real(self, batch, batch_idx)

    with monkeypatch.context() as patch:
        patch.setattr("sensorium.training.callbacks.CHECKPOINT_INTERVAL", 0)
        patch.setattr(TrainingModule, "training_step", step)
        with pytest.raises(PowerCutError):
            run(out=tmp_path / "run", overrides=options)
        first, steps[:] = list(steps), []
        patch.setattr(
            TrainingModule, "training_step", lambda self, *args: (steps.append(self.global_step), real(self, *args))[1]
        )
        again = run(out=tmp_path / "run", overrides=options, resume=True)
    assert first + steps == list(range(14)), "each of the 2 × 7 steps was done once"
    assert same(again, straight)
    assert report(again) == report(straight)


def test_checkpoints_within_an_epoch_take_little_time(tmp_path: Path) -> None:
    now, written = 0.0, []

    class Trainer:
        class fit_loop:  # noqa: N801
            class epoch_loop:  # noqa: N801
                class batch_progress:  # noqa: N801
                    is_last_batch = False

        @staticmethod
        def save_checkpoint(path: Path) -> None:
            nonlocal now
            path.write_bytes(b"")
            written.append(now)
            now += 3.0

    callback = Checkpoint(tmp_path / "last.ckpt", 10.0, lambda: now)
    trainer: Any = Trainer()
    callback.on_train_start(trainer, None)  # type: ignore[arg-type]
    for _ in range(300):
        callback.on_train_batch_end(trainer, None, None, None, 0)  # type: ignore[arg-type]
        now += 1.0
    assert written == [11.0, 75.0, 139.0, 203.0, 267.0], "ten seconds, then twenty times what one costs"
    Trainer.fit_loop.epoch_loop.batch_progress.is_last_batch = True
    now += 1000.0
    callback.on_train_batch_end(trainer, None, None, None, 0)  # type: ignore[arg-type]
    assert len(written) == 5, "the end of the epoch follows"


def test_finished_run_is_loaded_not_trained(run: Any, whole: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run(out=tmp_path / "run")
    with monkeypatch.context() as patch:
        patch.setattr(TrainingModule, "training_step", None)
        again = run(out=tmp_path / "run", resume=True)
    assert same(again, whole)
    assert report(again) == report(whole)
    with pytest.raises(ConfigError, match="the model belongs to another run: seed is 1, and was 0"):
        run(out=tmp_path / "run", resume=True, seed=1)
    assert same(sm.load(tmp_path / "run"), whole)
    other = run(out=tmp_path / "run", overwrite=True, seed=1)
    assert not same(other, whole), "another run is trained"


def test_older_model_in_the_folder_is_not_used(
    run: Any, whole: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed before its first checkpoint, over the finished model of another run."""
    run(out=tmp_path / "run", seed=1)

    def cut(*_: Any) -> None:
        raise PowerCutError

    with monkeypatch.context() as patch:
        patch.setattr(TrainingModule, "training_step", cut)
        with pytest.raises(PowerCutError):
            run(out=tmp_path / "run", overwrite=True)
    assert same(run(out=tmp_path / "run", resume=True), whole)


def test_damaged_checkpoint_is_reported(run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "run" / "resume" / "last.ckpt"
    with monkeypatch.context() as patch:
        patch.setattr(sm.trained.Trained, "save", lambda *_: (_ for _ in ()).throw(PowerCutError()))
        with pytest.raises(PowerCutError):
            run(out=tmp_path / "run")
    data = bytearray(path.read_bytes())
    for spoiled in (data[: len(data) // 2], data[:5000] + b"\0\1\2\3" + data[5004:]):
        path.write_bytes(spoiled)
        with pytest.raises(ConfigError, match="damaged") as caught:
            run(out=tmp_path / "run", resume=True)
        assert str(path) in str(caught.value)
        assert "--resume" in str(caught.value)


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EROFS])
def test_failed_checkpoint_write_is_reported(
    run: Any, whole: Any, code: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Said with the folder; the checkpoint before is whole, and the run goes on from it."""
    out = tmp_path / "run"
    real, calls = os.fsync, 0

    def fsync(file: int) -> None:
        nonlocal calls
        calls += 1
        if calls > 12:
            raise OSError(code, os.strerror(code))
        real(file)

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", fsync)
        with pytest.raises(SensoriumError, match="disk is full" if code == errno.ENOSPC else "Read-only") as caught:
            run(out=out)
    assert str(out) in str(caught.value)
    assert "→" in str(caught.value)
    assert (out / "resume" / "last.ckpt").is_file()
    assert not list((out / "resume").glob(".*.part")), "it takes no room"
    assert same(run(out=out, resume=True), whole)


def test_full_disk_keeps_the_previous_model(run: Any, whole: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "run"
    other = run(out=out, seed=1)
    real = open

    def full(path: Any, mode: str = "r", **options: Any) -> Any:
        if str(path).endswith(".model.safetensors.part"):
            return real("/dev/full", mode, **options)
        return real(path, mode, **options)

    if not Path("/dev/full").exists():
        pytest.skip("no /dev/full here")
    with monkeypatch.context() as patch:
        patch.setattr("sensorium.data.files.atomic_write.open", full, raising=False)
        with pytest.raises(SensoriumError, match="disk is full"):
            run(out=out, overwrite=True)
    assert same(sm.load(out), other), "the older model is whole"
    assert same(run(out=out, resume=True), whole)
    assert same(sm.load(out), whole)


def test_unwritable_folder_is_reported_before_any_work(run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(SensoriumError, match="cannot be written") as caught:
        run(out=tmp_path / "file" / "run")
    assert "--out" in str(caught.value)

    def fails(*_: Any) -> Any:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", fails)
        patch.setattr("sensorium.training.table_splits.read_table", None)
        with pytest.raises(SensoriumError, match="Read-only file system"):
            run(out=tmp_path / "run")


if sys.platform == "win32":
    pytestmark = pytest.mark.skip(reason="files are replaced and locked otherwise there")
