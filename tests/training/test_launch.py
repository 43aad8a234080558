"""Launching several processes: by ``fit`` on one machine, elsewhere by torchrun or SLURM."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
import torch.distributed as dist

import sensorium as sm
from sensorium.core.errors import ConfigError, SensoriumError
from sensorium.core.recipe import Recipe
from sensorium.training import launch
from sensorium.training.callbacks import Checkpoint
from sensorium.training.lightning_module import TrainingModule

TWO = ["model.size=tiny", "training.epochs=3", "training.batch_size=8", "training.devices=2"]
TORCHRUN = {"RANK": "3", "WORLD_SIZE": "4", "LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "2"}
SLURM = {"SLURM_PROCID": "3", "SLURM_NTASKS": "4", "SLURM_LOCALID": "1", "SLURM_NNODES": "2", "SLURM_STEP_ID": "0"}
linux = pytest.mark.skipif(sys.platform != "linux", reason="gloo over the loopback device")


@pytest.fixture
def table(tmp_path: Path) -> Path:
    lines = ["x,z,note,y"]
    for i in range(100):
        note = ["red ash", "blue elm", "old oak"][i % 3] if i % 4 else ""
        lines.append(f"{i % 7 - 3.0},{(i * 5) % 11 + 0.5},{note},{'ab'[i % 7 > 3]}")
    (tmp_path / "t.csv").write_text("\n".join(lines), encoding="utf-8")
    return tmp_path / "t.csv"


def same(one: Any, other: Any) -> bool:
    first, second = one.model.state_dict(), other.model.state_dict()
    return all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.parametrize("started", [TORCHRUN, SLURM])
def test_rank_is_read_from_the_launcher_environment(started: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    assert launch.process_place() is None
    assert launch.first()
    for name, value in started.items():
        monkeypatch.setenv(name, value)
    assert launch.process_place() == (3, 4, 1, 2)
    assert not launch.first()
    plan = launch.with_processes(Recipe())
    assert (plan.training.devices, plan.training.nodes) == (2, 2)
    assert launch.with_processes(plan) == plan
    with pytest.raises(ConfigError, match=r"training\.devices=4, training\.nodes=1"):
        launch.with_processes(Recipe().override(["training.devices=4"]))


def test_single_slurm_task_is_not_a_group(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (SLURM | {"SLURM_PROCID": "0", "SLURM_NTASKS": "1", "SLURM_NNODES": "1"}).items():
        monkeypatch.setenv(name, value)
    assert launch.process_place() is None
    monkeypatch.setenv("SLURM_NTASKS", "4")
    monkeypatch.delenv("SLURM_STEP_ID")
    assert launch.process_place() is None, "the batch script itself, which has no step, is not one of the tasks"


def test_rows_in_memory_and_unlaunched_nodes_are_refused(table: Path) -> None:
    with pytest.raises(ConfigError, match="rows in memory") as caught:
        sm.fit(pd.read_csv(table), target="y", overrides=TWO, quiet=True)
    assert "torchrun" in str(caught.value)
    with pytest.raises(ConfigError, match=r"training\.nodes is 2") as caught:
        sm.fit(table, target="y", overrides=[*TWO, "training.nodes=2"], quiet=True)
    assert "torchrun" in str(caught.value)


def test_default_batch_size_is_divided_among_processes(table: Path) -> None:
    from sensorium.training.defaults import resolve

    frame = [{"x": i % 7 - 3.0, "y": "ab"[i % 7 > 3]} for i in range(40)]
    schema = sm.fit(frame, target="y", overrides=["model.size=tiny", "training.epochs=1"], quiet=True).schema
    one, _ = resolve(Recipe(), schema, 4000)
    two, _ = resolve(Recipe().override(["training.devices=2", "training.nodes=2"]), schema, 4000)
    assert one.training.batch_size == 4 * (two.training.batch_size or 0)
    assert one.training.epochs == two.training.epochs


@linux
def test_fit_starts_and_ends_worker_processes(
    table: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[subprocess.Popen[bytes]] = []
    real = launch._worker
    monkeypatch.setattr(launch, "_worker", lambda *args: (started.append(real(*args)), started[-1])[1])
    trained = sm.fit(table, target="y", overrides=TWO, out=tmp_path / "run", quiet=True)
    assert [worker.returncode for worker in started] == [0]
    assert capfd.readouterr() == ("", ""), "the others say nothing"
    assert not dist.is_initialized()
    assert "GLOO_SOCKET_IFNAME" not in os.environ
    assert same(sm.load(tmp_path / "run"), trained)
    assert [record["step"] for record in trained.history] == [6, 12, 18], "85 rows, 16 a step, each process half of them"
    assert trained.recipe.training.devices == 2
    assert trained.artifact.report["valid"]["rows"] == 15


@linux
def test_failing_worker_ends_all_processes(
    table: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    real = launch.job_of
    monkeypatch.setattr(launch, "job_of", lambda *args, **requested: {**real(*args, **requested), "target": ["nothing"]})
    with pytest.raises(SensoriumError, match="training process 1 of this machine ended early"):
        sm.fit(table, target="y", overrides=TWO, quiet=True)
    assert "no column named 'nothing'" in capfd.readouterr().err
    assert not dist.is_initialized()


class PowerCutError(Exception):
    """Stands for a kill."""


@linux
@pytest.mark.slow
def test_two_process_run_resumes_with_two_processes(table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = sm.fit(table, target="y", overrides=TWO, out=tmp_path / "whole", quiet=True)
    real = Checkpoint.on_train_epoch_end

    def cut(self: Any, trainer: Any, module: Any) -> None:
        real(self, trainer, module)
        raise PowerCutError

    with monkeypatch.context() as patch:
        patch.setattr(Checkpoint, "on_train_epoch_end", cut)
        with pytest.raises(PowerCutError):
            sm.fit(table, target="y", overrides=TWO, out=tmp_path / "run", quiet=True)
    with pytest.raises(ConfigError, match="another run"):
        sm.fit(table, target="y", overrides=[*TWO, "training.devices=1"], out=tmp_path / "run", resume=True, quiet=True)
    again = sm.fit(table, target="y", overrides=TWO, out=tmp_path / "run", resume=True, quiet=True)
    assert len(again.history) == 3
    assert same(again, whole)


@linux
@pytest.mark.slow
def test_killed_worker_is_named(table: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[subprocess.Popen[bytes]] = []
    worker, step = launch._worker, TrainingModule.training_step
    monkeypatch.setattr(launch, "_worker", lambda *args: (started.append(worker(*args)), started[-1])[1])

    def killing(self: TrainingModule, batch: Any, batch_idx: int) -> Any:
        if self.global_step == 3:
            started[0].kill()
        return step(self, batch, batch_idx)

    monkeypatch.setattr(TrainingModule, "training_step", killing)
    with pytest.raises(SensoriumError, match="training process 1 of this machine ended early"):
        sm.fit(table, target="y", overrides=TWO, quiet=True)


@linux
@pytest.mark.slow
def test_torchrun_prints_once_and_decodes_once(scenes: Path, tmp_path: Path) -> None:
    """Two processes that start together: one decodes, the other waits; the command's result is said once."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", "2", "--master_addr", "127.0.0.1"]
    command += ["--master_port", str(port), "-m", "sensorium", "fit", str(scenes / "train.csv"), "--target", "event"]
    command += ["--ignore", "cost,tags", "--valid", str(scenes / "valid.csv"), "--out", str(tmp_path / "run")]
    command += [word for word in TWO if "devices" not in word]
    env = {**os.environ, "SENSORIUM_CACHE": str(tmp_path / "cache"), "GLOO_SOCKET_IFNAME": "lo"}
    done = subprocess.run(command, capture_output=True, text=True, encoding="utf-8", env=env, check=False, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.count("next    sensorium evaluate") == 1
    trained = sm.load(tmp_path / "run")
    assert trained.recipe.training.devices == 2
    assert json.loads((tmp_path / "run" / "manifest.json").read_text())
