"""Ctrl-C at any moment of any command: exit code 130, no traceback, and advice that is true of that command then."""

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
def heard() -> Iterator[None]:
    """What a stopped command does to Ctrl-C is of its own process."""
    before = signal.getsignal(signal.SIGINT)
    yield
    signal.signal(signal.SIGINT, before)


def stop(*_: Any, **__: Any) -> Any:
    raise KeyboardInterrupt


@pytest.fixture
def stopped(cli: Any, scenes: Path, run_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """What a command says that is stopped when it comes to a function. T is a table, M a model, R a place for results."""

    def run(moment: str, *words: Any, out: str = "my run") -> str:
        told = {"T": scenes / "test.csv", "M": run_folder, "R": tmp_path / out}
        with monkeypatch.context() as patch:
            patch.setattr(moment, stop)
            code, _, said = cli(*(told.get(word, word) for word in words))
        assert code == 130, said
        lines: list[str] = said.splitlines()
        assert "Traceback" not in said
        assert lines[-1].startswith("stopped")
        return lines[-1]

    return run


@pytest.mark.parametrize(
    "moment",
    [
        "sensorium.training.table_splits.read_table",
        "sensorium.training.prepare.resolve",
        "sensorium.training.train.assemble",
    ],
)
def test_before_anything_is_saved_nothing_is_resumed(stopped: Any, moment: str) -> None:
    said = stopped(moment, *FIT)
    assert "Nothing is saved yet" in said
    assert "--resume" not in said


@pytest.mark.parametrize("moment", ["sensorium.evaluation.evaluate.evaluate", "sensorium.artifact.Artifact.save"])
def test_after_an_epoch_it_is(stopped: Any, cli: Any, scenes: Path, tmp_path: Path, moment: str) -> None:
    said = stopped(moment, *FIT, "training.epochs=1", "model.experts=[]")
    told = said.partition("Go on where it was: sensorium ")[2]
    assert told.endswith("training.epochs=1 'model.experts=[]' --resume")
    assert f"'{tmp_path / 'my run'}'" in told, "names with blanks are quoted"
    code, _, said = cli(*shlex.split(told), "--quiet")
    assert code == 0, said
    assert (tmp_path / "my run" / "manifest.json").is_file()


def test_a_model_that_was_there_is_told_of(stopped: Any, cli: Any, scenes: Path, tmp_path: Path) -> None:
    (tmp_path / "my run").mkdir()
    (tmp_path / "my run" / "manifest.json").write_text("{}")
    os.utime(tmp_path / "my run" / "manifest.json", (0, time.time() - 60))
    said = stopped("sensorium.training.table_splits.read_table", *FIT, "--overwrite")
    assert "is still there" in said


def test_a_search_tells_of_its_trials(stopped: Any, tmp_path: Path) -> None:
    (tmp_path / "my run").mkdir()
    (tmp_path / "my run" / "search.json").write_text(json.dumps({"search": "", "trials": [{}, {}]}))
    said = stopped("sensorium.training.table_splits.read_table", *FIT, "--search", 3)
    assert "2 trials of the search are kept. Go on: sensorium fit" in said
    assert "--resume" not in said


def test_a_comparison_tells_of_its_runs(stopped: Any, tmp_path: Path) -> None:
    words = ["compare", *FIT[1:]]
    assert "No run is finished yet" in stopped("sensorium.training.table_splits.read_table", *words)
    (tmp_path / "my run").mkdir(exist_ok=True)
    (tmp_path / "my run" / "runs.jsonl").write_text("{}\n")
    assert "1 finished run is kept. Go on: sensorium compare" in stopped(
        "sensorium.training.table_splits.read_table", *words
    )


@pytest.mark.parametrize(
    ("moment", "words", "said"),
    [
        ("sensorium.artifact.Artifact.load", ["predict", "M", "T", "--out", "R"], "Nothing is written"),
        ("sensorium.predictor.Predictor.answer", ["predict", "M", "T", "--out", "R"], "Nothing is written"),
        ("sensorium.predictor.Predictor.answer", ["predict", "M", "T"], "The lines so far are whole."),
        ("sensorium.trained.Trained.score", ["evaluate", "M", "T"], "What was decoded is kept."),
        ("sensorium.evaluation.stream_attribution.explain", ["explain", "M", "T"], "What was decoded is kept."),
        ("sensorium.predictor.Predictor.trace", ["trace", "M", "T"], "stopped."),
        ("sensorium.data.inspection.inspect.inspect", ["inspect", "T"], "stopped."),
        ("sensorium.data.shards.pack.pack", ["pack", "T", "R"], "packs anew"),
        ("sensorium.data.synthetic.make", ["demo", "--out", "R"], "begins anew"),
        ("sensorium.serve.server.server", ["serve", "M"], "stopped."),
        ("sensorium.core.registry.kinds", ["kinds"], "stopped."),
    ],
)
def test_each_command_tells_what_it_has(stopped: Any, moment: str, words: list[str], said: str, tmp_path: Path) -> None:
    out = "p.csv" if words[0] == "predict" else "R"
    line = stopped(moment, *words, out=out)
    assert said in line
    assert "--resume" not in line
    assert not [path for path in tmp_path.iterdir() if path.is_file()], "nor is a part of a file left"


def test_while_it_is_imported(python: Any) -> None:
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


def test_processes_that_predict_leave_with_the_first(scenes: Path, run_folder: Path, tmp_path: Path, cli: Any) -> None:
    """As a terminal does it: Ctrl-C comes to all of them."""
    if sys.platform == "win32":
        pytest.skip("signals are others there")
    code, _, said = cli("pack", scenes / "train.csv", tmp_path / "packed", "--rows-per-shard", 2)
    assert code == 0, said
    heeding = (
        "import signal\nsignal.signal(signal.SIGINT, signal.default_int_handler)\nfrom sensorium.cli import main\nmain()"
    )
    words = ["predict", run_folder, tmp_path / "packed", "--out", tmp_path / "parts", "--processes", 2, "--batch-size", 1]
    process = subprocess.Popen(
        [sys.executable, "-c", heeding, *map(str, words)], stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    deadline = time.monotonic() + 60
    while not (tmp_path / "parts" / "parts.json").is_file():
        assert time.monotonic() < deadline
        time.sleep(0.01)
    time.sleep(0.5)
    os.killpg(process.pid, signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130, said
    assert "Traceback" not in said
    assert said.splitlines()[-1].startswith("stopped. Parts that are whole are kept. Go on: sensorium predict")
