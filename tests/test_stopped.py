"""Ctrl-C at any point of any command: exit code 130, no traceback and correct advice on how to resume."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

FIT = ["fit", "T", "--target", "event", "--ignore", "cost,tags,photo,sound,sensor", "--out", "R", "model.size=tiny"]


@pytest.fixture(autouse=True)
def restored_signal_handler() -> Iterator[None]:
    """Restore the handler of Ctrl-C, which an interrupted command changes."""
    before = signal.getsignal(signal.SIGINT)
    yield
    signal.signal(signal.SIGINT, before)


def stop(*_: Any, **__: Any) -> Any:
    raise KeyboardInterrupt


@pytest.fixture
def stopped(cli: Any, scenes: Path, run_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Interrupt a command when it calls a function and return its last line. T: a table, M: a model, R: the output."""

    def run(function: str, *words: Any, out: str = "my run") -> str:
        paths = {"T": scenes / "test.csv", "M": run_folder, "R": tmp_path / out}
        with monkeypatch.context() as patch:
            patch.setattr(function, stop)
            code, _, stderr = cli(*(paths.get(word, word) for word in words))
        assert code == 130, stderr
        lines: list[str] = stderr.splitlines()
        assert "Traceback" not in stderr
        assert lines[-1].startswith("stopped")
        return lines[-1]

    return run


@pytest.mark.parametrize(
    "moment",
    [
        "sensorium.training.table_splits.read_table",
        "sensorium.training.prepare.resolve",
        "sensorium.training.network_training.assemble",
    ],
)
def test_before_the_first_epoch_no_resume_is_offered(stopped: Any, moment: str) -> None:
    stderr = stopped(moment, *FIT)
    assert "Nothing was saved" in stderr
    assert "--resume" not in stderr


@pytest.mark.parametrize("moment", ["sensorium.evaluation.evaluate.evaluate", "sensorium.artifact.Artifact.save"])
def test_after_an_epoch_the_run_can_be_resumed(stopped: Any, cli: Any, scenes: Path, tmp_path: Path, moment: str) -> None:
    stderr = stopped(moment, *FIT, "training.epochs=1", "model.experts=[]")
    command = stderr.partition("Resume: sensorium ")[2]
    assert command.endswith("training.epochs=1 'model.experts=[]' --resume")
    assert f"'{tmp_path / 'my run'}'" in command, "names with blanks are quoted"
    code, _, stderr = cli(*shlex.split(command), "--quiet")
    assert code == 0, stderr
    assert (tmp_path / "my run" / "manifest.json").is_file()


def test_previous_model_is_mentioned(stopped: Any, cli: Any, scenes: Path, tmp_path: Path) -> None:
    (tmp_path / "my run").mkdir()
    (tmp_path / "my run" / "manifest.json").write_text("{}")
    os.utime(tmp_path / "my run" / "manifest.json", (0, time.time() - 60))
    stderr = stopped("sensorium.training.table_splits.read_table", *FIT, "--overwrite")
    assert "is unchanged" in stderr


def test_interrupted_search_reports_saved_trials(stopped: Any, tmp_path: Path) -> None:
    (tmp_path / "my run").mkdir()
    (tmp_path / "my run" / "search.json").write_text(json.dumps({"search": "", "trials": [{}, {}]}))
    stderr = stopped("sensorium.training.table_splits.read_table", *FIT, "--search", 3)
    assert "2 trials of the search are saved. Resume: sensorium fit" in stderr
    assert "--resume" not in stderr


def test_interrupted_comparison_reports_finished_runs(stopped: Any, tmp_path: Path) -> None:
    words = ["compare", *FIT[1:]]
    assert "No run has finished" in stopped("sensorium.training.table_splits.read_table", *words)
    (tmp_path / "my run").mkdir(exist_ok=True)
    (tmp_path / "my run" / "runs.jsonl").write_text("{}\n")
    assert "1 finished run is saved. Resume: sensorium compare" in stopped(
        "sensorium.training.table_splits.read_table", *words
    )


@pytest.mark.parametrize(
    ("moment", "words", "message"),
    [
        ("sensorium.artifact.Artifact.load", ["predict", "M", "T", "--out", "R"], "Nothing was written"),
        ("sensorium.predictor.Predictor.answer", ["predict", "M", "T", "--out", "R"], "Nothing was written"),
        ("sensorium.predictor.Predictor.answer", ["predict", "M", "T"], "The lines written so far are complete."),
        ("sensorium.trained.Trained.score", ["evaluate", "M", "T"], "Decoded media stay in the cache."),
        ("sensorium.evaluation.stream_attribution.explain", ["explain", "M", "T"], "Decoded media stay in the cache."),
        ("sensorium.predictor.Predictor.trace", ["trace", "M", "T"], "stopped."),
        ("sensorium.data.inspection.inspect.inspect", ["inspect", "T"], "stopped."),
        ("sensorium.data.shards.pack.pack", ["pack", "T", "R"], "packs everything again"),
        ("sensorium.data.synthetic.make", ["demo", "--out", "R"], "starts from the beginning"),
        ("sensorium.serve.server.create_server", ["serve", "M"], "stopped."),
        ("sensorium.core.registry.kinds", ["kinds"], "stopped."),
    ],
)
def test_each_command_says_what_was_saved(
    stopped: Any, moment: str, words: list[str], message: str, tmp_path: Path
) -> None:
    out = "p.csv" if words[0] == "predict" else "R"
    line = stopped(moment, *words, out=out)
    assert message in line
    assert "--resume" not in line
    assert not [path for path in tmp_path.iterdir() if path.is_file()], "no partial file may be left"


def test_interrupt_during_import(python: Any) -> None:
    program = """
import runpy, sys
class Stop:
    def find_spec(self, name, path=None, target=None):
        if name == "typer":
            raise KeyboardInterrupt
sys.meta_path.insert(0, Stop())
runpy.run_module("sensorium", run_name="__main__")
"""
    done = python("-c", program)
    assert done.returncode == 130
    assert done.stderr == "stopped before it began.\n"


def test_interrupt_ends_all_prediction_processes(scenes: Path, run_folder: Path, tmp_path: Path, cli: Any) -> None:
    """A terminal sends Ctrl-C to all processes of the group."""
    if sys.platform == "win32":
        pytest.skip("Windows has other signals")
    code, _, stderr = cli("pack", scenes / "train.csv", tmp_path / "packed", "--rows-per-shard", 2)
    assert code == 0, stderr
    program = (
        "import signal\nsignal.signal(signal.SIGINT, signal.default_int_handler)\nfrom sensorium.cli import main\nmain()"
    )
    words = ["predict", run_folder, tmp_path / "packed", "--out", tmp_path / "parts", "--processes", 2, "--batch-size", 1]
    process = subprocess.Popen(
        [sys.executable, "-c", program, *map(str, words)], stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    deadline = time.monotonic() + 60
    while not (tmp_path / "parts" / "parts.json").is_file():
        assert time.monotonic() < deadline
        time.sleep(0.01)
    time.sleep(0.5)
    os.killpg(process.pid, signal.SIGINT)
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == 130, stderr
    assert "Traceback" not in stderr
    assert stderr.splitlines()[-1].startswith("stopped. Finished parts are saved. Resume: sensorium predict")
