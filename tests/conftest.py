"""What all tests share: one thread, no network, a store of their own, a small table and a model trained on it."""

from __future__ import annotations

import csv
import os
import runpy
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch

os.environ |= {
    "HF_HUB_OFFLINE": "1",
    "TRANSFORMERS_OFFLINE": "1",
    "OMP_NUM_THREADS": "1",
    "NO_COLOR": "1",
    "COLUMNS": "200",
}
torch.set_num_threads(1)

QUICK = ("model.size=tiny", "training.epochs=2", "training.batch_size=32")
Rows = list[dict[str, str]]
Fit = Callable[..., Any]
Start = Callable[..., "subprocess.CompletedProcess[str]"]


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Mark the slow and the long tests, and refuse lists that name tests which are no longer there."""
    lists = runpy.run_path(str(Path(__file__).parent / "slow.py"))
    missing = {*lists["SLOW"], *lists["LONG"]}
    for item in items:
        for mark in ("slow", "long"):
            for start in lists[mark.upper()]:
                if item.nodeid.startswith(start):
                    item.add_marker(mark)
                    missing.discard(start)
    if missing and config.args == ["tests"]:
        raise pytest.UsageError(f"tests/slow.py names tests that are not there: {', '.join(sorted(missing))}")


@pytest.fixture(scope="session", autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """No test reads or fills the store of whoever runs it."""
    folder = tmp_path_factory.mktemp("cache")
    before = os.environ.get("SENSORIUM_CACHE")
    os.environ["SENSORIUM_CACHE"] = str(folder)
    yield folder
    if before is None:
        del os.environ["SENSORIUM_CACHE"]
    else:
        os.environ["SENSORIUM_CACHE"] = before


@pytest.fixture(scope="session", autouse=True)
def networks_alone() -> Iterator[None]:
    """A test that does not name experts trains a network alone: else every test would pay for all three."""
    from sensorium.training import defaults, final_fit

    fitted, network = defaults.resolve_experts, final_fit._network_epochs

    def only_named(recipe: Any, *rest: Any) -> Any:
        return ([], {}, []) if recipe.model.experts is None else fitted(recipe, *rest)

    def only_asked(plan: Any, *rest: Any) -> int:
        return network(plan, *rest) if plan.model.experts else 0

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(defaults, "resolve_experts", only_named)
        patch.setattr(final_fit, "_network_epochs", only_asked)
        yield


@pytest.fixture(scope="session")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """``train.csv``, ``valid.csv``, ``test.csv`` with pictures, sounds, sensors, words and holes. Do not write."""
    from sensorium.data.synthetic import make

    folder = tmp_path_factory.mktemp("scenes")
    make(folder, rows=120, holes=0.15, targets=("event", "cost", "tags"), valid=0.15, test=0.2)
    return folder


def read(path: Path) -> Rows:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def write(path: Path, rows: Rows, columns: list[str] | None = None) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, columns or list(rows[0]), extrasaction="ignore")
        writer.writeheader()
        writer.writerows(rows)
    return path


@pytest.fixture(scope="session")
def read_csv() -> Callable[[Path], Rows]:
    return read


@pytest.fixture(scope="session")
def write_csv() -> Callable[..., Path]:
    return write


@pytest.fixture
def table(scenes: Path, tmp_path: Path) -> Path:
    """A folder with copies of the tables and media that a test may spoil."""
    folder = tmp_path / "table"
    shutil.copytree(scenes, folder)
    return folder


@pytest.fixture(scope="session")
def quick_fit(scenes: Path) -> Fit:
    """``fit`` with a tiny model and two epochs on the mixed table; any argument can be given otherwise."""

    def run(train: Any = None, **arguments: Any) -> Any:
        from sensorium.training.fit import fit

        options: dict[str, Any] = {
            "target": "event",
            "ignore": ["cost", "tags"],
            "quiet": True,
            "overrides": [],
        } | arguments
        options["overrides"] = [*QUICK, *options["overrides"]]
        return fit(scenes / "train.csv" if train is None else train, **options)

    return run


@pytest.fixture(scope="session")
def trained(scenes: Path, quick_fit: Fit, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A tiny model of ``event`` from all streams, three epochs. Do not change it."""
    return quick_fit(
        valid=scenes / "valid.csv", out=tmp_path_factory.mktemp("trained") / "run", overrides=["training.epochs=3"]
    )


@pytest.fixture(scope="session")
def run_folder(trained: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same model, saved. Do not write."""
    return Path(trained.save(tmp_path_factory.mktemp("saved") / "run"))


@pytest.fixture
def cli(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[int, str, str]]:
    """The command line in this process: exit code, standard output, standard error. An exception is a traceback."""

    def run(*words: Any) -> tuple[int, str, str]:
        from sensorium.cli import main

        monkeypatch.setattr(sys, "argv", ["sensorium", *map(str, words)])
        capsys.readouterr()
        code: Any = 0
        try:
            main()
        except SystemExit as stop:
            code = stop.code or 0
        output = capsys.readouterr()
        return int(code), output.out, output.err

    return run


@pytest.fixture(scope="session")
def python() -> Start:
    """Another Python process: ``python("-c", program, cwd=...)``."""

    def run(
        *words: Any, cwd: Path | None = None, env: Mapping[str, str] | None = None, timeout: float = 120
    ) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, *map(str, words)],
            cwd=cwd,
            env={**os.environ, "PYTHONIOENCODING": "utf-8", **(env or {})},
            capture_output=True,
            text=True,
            encoding="utf-8",
            check=False,
            timeout=timeout,
        )

    return run
