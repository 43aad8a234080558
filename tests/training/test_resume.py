"""The same seed gives a bit-identical model, whatever interrupted the run."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch

import sensorium as sm
from sensorium.core.errors import ConfigError
from sensorium.training.callbacks import Checkpoint

OPTIONS = ["training.epochs=4", "model.size=tiny", "training.batch_size=16", "model.experts=[]"]


class KilledError(Exception):
    """Stands for a power cut."""


def weights(model: Any) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in model.model.state_dict().items()}


def same(one: Any, other: Any) -> bool:
    first, second = weights(one), weights(other)
    assert first.keys() == second.keys()
    return all(torch.equal(first[name], second[name]) for name in first)


def course(model: Any) -> list[dict[str, float]]:
    """The history without the clock."""
    return [{k: v for k, v in record.items() if k != "seconds"} for record in model.history]


@pytest.fixture(scope="module")
def run(quick_fit: Any, scenes: Path) -> Any:
    def fit(**options: Any) -> Any:
        return quick_fit(valid=scenes / "valid.csv", **{"overrides": OPTIONS} | options)

    return fit


@pytest.fixture(scope="module")
def whole(run: Any) -> Any:
    """The run that nothing interrupted."""
    return run()


def test_same_seed_gives_the_same_model(run: Any, whole: Any, scenes: Path) -> None:
    torch.rand(17)  # what went on before does not matter
    again = run()
    assert same(again, whole)
    assert course(again) == course(whole)
    assert again.artifact.report["valid"] == whole.artifact.report["valid"]
    assert again.evaluate(scenes / "test.csv").to_json() == whole.evaluate(scenes / "test.csv").to_json()


def test_another_seed_gives_another_model(run: Any, whole: Any) -> None:
    other = run(seed=1)
    assert not same(other, whole)
    assert course(other) != course(whole)


def test_training_keeps_the_callers_random_state(run: Any) -> None:
    torch.manual_seed(5)
    want = torch.rand(3)
    torch.manual_seed(5)
    torch.set_num_threads(2)
    try:
        run(overrides=[*OPTIONS, "training.epochs=1", "training.threads=1"])
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(1)
    assert torch.equal(torch.rand(3), want)


def stop_after(monkeypatch: pytest.MonkeyPatch, epochs: int) -> None:
    real = Checkpoint.on_train_epoch_end

    def killed(self: Any, trainer: Any, module: Any) -> None:
        real(self, trainer, module)
        if len(module.history) == epochs:
            raise KilledError

    monkeypatch.setattr(Checkpoint, "on_train_epoch_end", killed)


@pytest.mark.parametrize("epochs", [1, 3, 4])
def test_resumed_run_ends_bit_identically(
    run: Any, whole: Any, epochs: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "run"
    with monkeypatch.context() as patch:
        stop_after(patch, epochs)
        with pytest.raises(KilledError):
            run(out=out)
    assert (out / "resume" / "last.ckpt").is_file()
    assert not (out / "manifest.json").exists()
    again = run(out=out, resume=True)
    assert same(again, whole)
    assert course(again) == course(whole)
    assert not (out / "resume" / "last.ckpt").exists()
    assert same(sm.load(out), whole)


def test_resume_keeps_patience(run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Killed between the last epoch, in which patience ran out, and the saving of the model."""
    options = [*OPTIONS, "training.epochs=30", "training.patience=1", "training.lr=0.05"]
    short = run(overrides=options)
    assert len(short.history) < 30
    with monkeypatch.context() as patch:
        stop_after(patch, len(short.history))
        with pytest.raises(KilledError):
            run(out=tmp_path / "run", overrides=options)
    again = run(out=tmp_path / "run", overrides=options, resume=True)
    assert course(again) == course(short)
    assert same(again, short)


@pytest.fixture
def halfway(run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A run that was killed after its second epoch."""
    with monkeypatch.context() as patch:
        stop_after(patch, 2)
        with pytest.raises(KilledError):
            run(out=tmp_path / "run")
    return tmp_path / "run"


def test_resume_with_another_recipe_is_refused(run: Any, whole: Any, halfway: Path) -> None:
    for inputs, predicted in (
        ({"overrides": [*OPTIONS, "training.lr=0.01"]}, "training.lr is 0.01, and was"),
        ({"seed": 3}, "seed is 3, and was 0"),
        ({"ignore": ["cost", "tags", "note"]}, 'columns.note.role is "ignore", and was "input"'),
    ):
        with pytest.raises(ConfigError, match="the checkpoint belongs to another run") as caught:
            run(out=halfway, resume=True, **inputs)
        assert "--resume" in str(caught.value)
        assert predicted in str(caught.value)
    assert same(run(out=halfway, resume=True), whole), "the refusals left the checkpoint as it was"


def test_resume_with_another_table_is_refused(run: Any, halfway: Path, table: Path, read_csv: Any, write_csv: Any) -> None:
    """Another row, column or cell, also one that changes nothing that is learnt of the columns; another picture."""
    path, rows = table / "train.csv", read_csv(table / "train.csv")

    def refused(*message: str) -> None:
        with pytest.raises(ConfigError, match="the checkpoint belongs to another run") as caught:
            # As if it was the same place: only what is in the table differs.
            run(train=path, out=halfway, resume=True, overrides=[*OPTIONS, f"data.train={path}"])
        for one in message:
            assert one in str(caught.value)

    write_csv(path, [{**rows[0], "temperature": "99"}, *rows[1:]])
    refused("other cells in the training rows: table")
    noted = next(i for i, row in enumerate(rows) if row["note"])
    write_csv(path, [{**row, "note": "nothing" if i == noted else row["note"]} for i, row in enumerate(rows)])
    refused("note")
    write_csv(path, rows[:-1])
    refused(f"{len(rows) - 1} training rows, and it began with {len(rows)}")
    write_csv(path, [{**row, "humidity": str(i)} for i, row in enumerate(rows)])
    refused("new: column 'humidity'")
    write_csv(path, rows)
    pictured = next(row["photo"] for row in rows if row["photo"])
    data = (table / pictured).read_bytes()
    (table / pictured).write_bytes(
        (table / next(r["photo"] for r in rows if r["photo"] not in ("", pictured))).read_bytes()
    )
    refused("other cells in the training rows: photo")
    (table / pictured).write_bytes(data)


def test_only_overwrite_starts_anew(run: Any, whole: Any, halfway: Path) -> None:
    with pytest.raises(ConfigError, match="holds a training that was stopped") as caught:
        run(out=halfway)
    assert "--resume" in str(caught.value)
    assert "--overwrite" in str(caught.value)
    assert same(run(out=halfway, overwrite=True), whole)


def test_resume_without_checkpoint_trains(run: Any, whole: Any, tmp_path: Path) -> None:
    assert same(run(out=tmp_path / "run", resume=True), whole)


# ── the command line, interrupted ───────────────────────────────────────────────────────────────────────────────────────


def start(*words: Any, cache: Path, first: str = "") -> subprocess.Popen[str]:
    """The command line in another process, after ``first`` was run in it."""
    # A job in the background is started with Ctrl-C ignored, and would hand that on.
    heeding = "import signal\nsignal.signal(signal.SIGINT, signal.default_int_handler)"
    return subprocess.Popen(
        [sys.executable, "-c", f"{heeding}\n{first}\nfrom sensorium.cli import main\nmain()", *map(str, words)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        encoding="utf-8",
        env={**os.environ, "SENSORIUM_CACHE": str(cache), "PYTHONIOENCODING": "utf-8"},
    )


def until(process: subprocess.Popen[str], what: Any, seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not what():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline, "it did not come that far"
        time.sleep(0.01)


def test_command_line_run_resumes_after_kill_and_interrupt(
    whole: Any, scenes: Path, tmp_path: Path, cli: Any, cache: Path
) -> None:
    """SIGKILL in mid-training, then Ctrl-C in mid-training, then to the end: the model of an undisturbed run."""
    out = tmp_path / "run"
    words = ["fit", scenes / "train.csv", "--target", "event", "--ignore", "cost,tags", "--valid", scenes / "valid.csv"]
    words += ["--out", out, "--quiet", *OPTIONS, "training.epochs=14", "training.patience=14"]
    checkpoint = out / "resume" / "last.ckpt"

    def length() -> int:
        log = out / "logs" / "metrics.csv"
        return len(log.read_text(encoding="utf-8").splitlines()) - 1 if log.exists() else 0

    process = start(*words, cache=cache)
    until(process, lambda: checkpoint.is_file() and length() >= 2)
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    reached = length()
    assert 2 <= reached < 12

    process = start(*words, "--resume", cache=cache)
    until(process, lambda: length() > reached + 1)
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == 130, stderr
    assert stderr.splitlines() == [f"stopped. Resume: {shlex.join(['sensorium', *map(str, words), '--resume'])}"]
    assert length() < 14
    assert not (out / "manifest.json").exists()

    code, _, stderr = cli(*words, "--resume")
    assert code == 0, stderr
    straight = tmp_path / "straight"
    code, _, stderr = cli(*[straight if word == out else word for word in words])
    assert code == 0, stderr
    assert same(sm.load(out), sm.load(straight))
    assert course(sm.load(out)) == course(sm.load(straight))


SLOW = """
import time
from sensorium.modalities.image import Image
quick = Image.encode
def encode(self, cell):
    time.sleep(0.02)
    return quick(self, cell)
Image.encode = encode
"""


def test_interrupted_decoding_keeps_decoded_rows(tmp_path: Path) -> None:
    from PIL import Image

    cache = tmp_path / "cache"
    lines = ["photo,y"]
    for i in range(300):
        Image.new("RGB", (16, 16), (i % 256, 7, i // 256)).save(tmp_path / f"{i}.png")
        lines.append(f"{i}.png,{'ab'[i % 2]}")
    (tmp_path / "t.csv").write_text("\n".join(lines), encoding="utf-8")
    words = ["fit", tmp_path / "t.csv", "--target", "y", "--out", tmp_path / "run", "training.epochs=1"]
    process = start(*words, cache=cache, first=SLOW)
    until(process, lambda: next(cache.glob("image-*/index.sqlite"), None) is not None)
    time.sleep(0.8)
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == 130, stderr
    assert "Traceback" not in stderr
    assert stderr.splitlines()[-1] == (
        "stopped. Nothing was saved: the same command starts from the beginning. Decoded media stay in the cache."
    )
    kept = next(cache.glob("image-*/values.bin")).stat().st_size
    one = 16 * 16 * 3
    assert one <= kept < 300 * one
    assert kept % one == 0
