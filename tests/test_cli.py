"""The command line: fast to start, with clear errors."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import sensorium
from sensorium.core.registry import FAMILIES, kinds

LIGHT = """
import sys, time
began = time.process_time()
import sensorium
spent = time.process_time() - began
assert not {"torch", "numpy", "pydantic", "typer", "lightning"} & set(sys.modules), "the import itself is heavy"
assert spent < 0.3, f"{spent:.2f} CPU seconds to import"
from sensorium.cli import main
def run(*words):
    sys.argv = ["sensorium", *words]
    try:
        main()
    except SystemExit as stop:
        assert not stop.code, (words, stop.code)
    heavy = {"torch", "lightning", "torchmetrics", "tensorboard"} & set(sys.modules)
    assert not heavy, f"{words} loads {heavy}"
run("--help")
run("--version")
run("fit", "--help")
run("predict", "--help")
run("kinds")
run("kinds", "encoders")
run("kinds", "fusions", "gated")
run("inspect", sys.argv_table, "--target", "event")
"""


def test_help_kinds_and_inspect_do_not_import_torch(scenes: Path, python: Any) -> None:
    done = python("-c", LIGHT.replace("sys.argv_table", repr(str(scenes / "train.csv"))))
    assert done.returncode == 0, done.stderr
    for word in ("inspect", "fit", "evaluate", "predict", "trace", "kinds", sensorium.__version__, "temperature", "photo"):
        assert word in done.stdout
    for family in FAMILIES:
        for kind in kinds(family):
            assert kind in done.stdout


def test_help_of_each_command_has_an_example(cli: Any) -> None:
    for verb in ("inspect", "fit", "evaluate", "predict", "trace", "kinds"):
        code, out, _ = cli(verb, "--help")
        assert code == 0
        assert f"Example: sensorium {verb}" in out


def test_inspect_lists_damaged_files(cli: Any, table: Path, tmp_path: Path, read_csv: Any) -> None:
    rows = read_csv(table / "train.csv")
    at = next(i for i, row in enumerate(rows) if row["photo"])
    (table / rows[at]["photo"]).write_bytes(b"no picture")
    code, out, _ = cli(
        "inspect", table / "train.csv", table / "test.csv", "--target", "event", "--json", tmp_path / "i.json"
    )
    assert code == 0
    assert rows[at]["photo"] in out
    result = json.loads((tmp_path / "i.json").read_text(encoding="utf-8"))
    (problem,) = result["problems"][str(table / "train.csv")]
    assert (problem["row"], problem["column"], problem["file"]) == (at + 1, "photo", rows[at]["photo"])


def test_inspect_exits_with_1_if_training_is_impossible(cli: Any, tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("x,y\n1,a\n2,a\n3,a\n", encoding="utf-8")
    code, out, _ = cli("inspect", tmp_path / "t.csv", "--target", "y")
    assert code == 1
    assert "one class only" in out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["evaluate", "nowhere", "t.csv"], "there is no such folder"),
        (["predict", "nowhere", "t.csv"], "there is no such folder"),
        (["kinds", "encoder"], "did you mean encoders?"),
        (["kinds", "encoders", "convnt"], "did you mean convnet?"),
        (["inspect", "nowhere.csv"], "no such file"),
        (["inspect", "t.xlsx"], "no such file"),
        (["fit"], "there is no training table"),
        (["fit", "nowhere.csv", "--target", "y"], "no such file"),
        (["compare", "t.csv", "--target", "y", "--fusion", "late"], "no such option: --fusion; did you mean fusions?"),
        (["trace", "nowhere", "nowhere.csv"], "no such file"),
    ],
)
def test_errors_are_one_line_with_a_fix(
    cli: Any, words: list[str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    code, out, stderr = cli(*words)
    assert code == 2
    assert stderr.startswith("error: ")
    assert message in stderr
    assert len(stderr.splitlines()) <= 2
    assert out == ""
    assert list(tmp_path.iterdir()) == [], "nothing is left behind"


@pytest.mark.parametrize(
    "words", [["fitt"], ["fit", "--no-such-option"], ["trace", "run", "t.csv", "--row", "0"], ["evaluate"]]
)
def test_wrong_usage_exits_with_2(cli: Any, words: list[str]) -> None:
    code, _, stderr = cli(*words)
    assert code == 2
    assert "Traceback" not in stderr


def test_fit_prints_the_kinds_of_columns(cli: Any, tmp_path: Path) -> None:
    lines = ["id,x,colour,y"] + [f"r{i:03d},{i % 7}.5,{('red', 'blue')[i % 2]},{'ab'[i % 2]}" for i in range(40)]
    (tmp_path / "t.csv").write_text("\n".join(lines), encoding="utf-8")
    words = ["fit", tmp_path / "t.csv", "--target", "y", "--out", tmp_path / "run", "model.size=tiny", "training.epochs=1"]
    code, out, stderr = cli(*words)
    assert code == 0, stderr
    for line in ("id: ignore (a row id", "x: number (", "colour: category (", "y: target category ("):
        assert line in stderr
    assert "accuracy" in out
    assert str(tmp_path / "run" / "report.html") in out
    for name in ("manifest.json", "report.html", "logs/metrics.csv"):
        assert (tmp_path / "run" / name).is_file()


def test_a_table_without_rows_is_mentioned(cli: Any, run_folder: Path, scenes: Path, tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text((scenes / "test.csv").read_text(encoding="utf-8").splitlines()[0] + "\n")
    code, _, stderr = cli("predict", run_folder, tmp_path / "t.csv", "--out", tmp_path / "p.csv")
    assert code == 0, stderr
    assert "has no rows, so there is nothing to predict" in stderr


def test_closed_pipe_prints_no_traceback(run_folder: Path, scenes: Path) -> None:
    words = [sys.executable, "-m", "sensorium", "kinds"]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        stderr = process.stderr.read()
        process.wait(60)
    assert "Traceback" not in stderr
    assert "Exception" not in stderr
