"""Output folders: results are continued or replaced only on request, unrelated files never."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import sensorium as sm
from sensorium.core.errors import ConfigError, DataError, SensoriumError
from sensorium.training import output_folder

FAST = {"quality": "fast", "overrides": ["model.experts=[linear]"], "ignore": ["cost", "tags", "photo", "sound", "sensor"]}


@pytest.fixture(scope="module")
def finished(quick_fit: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of experts alone. Do not write."""
    out = tmp_path_factory.mktemp("claim") / "run"
    quick_fit(**FAST, out=out)
    return out


def held(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_finished_model_is_not_replaced(finished: Path, quick_fit: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    before = held(finished)
    with monkeypatch.context() as patch:
        patch.setattr("sensorium.training.table_splits.read_table", None)
        with pytest.raises(ConfigError, match="holds a finished model") as caught:
            quick_fit(**FAST, out=finished)
    assert "--overwrite" in str(caught.value)
    assert "overwrite=True" in str(caught.value)
    assert f"--out {finished}-2" in str(caught.value)
    with pytest.raises(ConfigError, match="leave out one of the two"):
        quick_fit(**FAST, out=finished, overwrite=True, resume=True)
    with pytest.raises(ConfigError, match="holds a finished model"):
        quick_fit(out=finished, search=2)
    assert held(finished) == before


def test_overwrite_replaces_and_resume_keeps_a_finished_run(finished: Path, quick_fit: Any, tmp_path: Path) -> None:
    quick_fit(**FAST, out=tmp_path / "run")
    quick_fit(**FAST, out=tmp_path / "run", resume=True)
    weights = (tmp_path / "run" / "model.safetensors").read_bytes()
    assert weights == (finished / "model.safetensors").read_bytes()
    with pytest.raises(ConfigError, match="the model belongs to another run: seed is 1, and was 0"):
        quick_fit(**FAST, out=tmp_path / "run", resume=True, seed=1)
    quick_fit(**FAST, out=tmp_path / "run", overwrite=True, seed=1)
    assert sm.load(tmp_path / "run").recipe.seed == 1


def test_model_without_run_record_is_not_resumed(finished: Path, quick_fit: Any, tmp_path: Path) -> None:
    sm.load(finished).save(tmp_path / "run")
    with pytest.raises(ConfigError, match="without a record of its run"):
        quick_fit(**FAST, out=tmp_path / "run", resume=True)


@pytest.mark.parametrize("name", ["recipe.yaml", "report.html"])
def test_unrelated_files_are_refused(name: str, quick_fit: Any, tmp_path: Path) -> None:
    (tmp_path / name).write_text("mine")
    with pytest.raises(ConfigError, match=f"holds {name}"):
        quick_fit(**FAST, out=tmp_path)
    assert held(tmp_path) == {name: b"mine"}


@pytest.mark.skipif(sys.platform == "win32", reason="there are no such locks")
def test_second_process_cannot_write_into_the_same_folder(tmp_path: Path) -> None:
    program = (
        "import sys, pathlib\nfrom sensorium.training.output_folder import for_run\n"
        "with for_run(pathlib.Path(sys.argv[1]), resume=False, overwrite=False, search=False):\n"
        "    print('here', flush=True)\n    sys.stdin.read()"
    )
    words = [sys.executable, "-c", program, str(tmp_path / "run")]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == b"here\n"
        for options in ({"resume": True, "overwrite": False}, {"resume": False, "overwrite": True}):
            with (
                pytest.raises(ConfigError, match="another process is writing here"),
                output_folder.for_run(tmp_path / "run", search=False, **options),
            ):
                pass
        other.kill()
    with output_folder.for_run(tmp_path / "run", resume=True, overwrite=False, search=False):
        pass
    assert not (tmp_path / "run").is_dir() or not any((tmp_path / "run").iterdir())


def test_empty_created_folders_are_removed(quick_fit: Any, tmp_path: Path) -> None:
    with pytest.raises(SensoriumError, match="no column named"):
        quick_fit(**{**FAST, "target": "nothing"}, out=tmp_path / "a" / "b" / "run")
    assert not (tmp_path / "a").exists()


# ── files ───────────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("verb", "option", "name"),
    [
        ("predict", "--out", "p.csv"),
        ("predict", "--out", "p.jsonl"),
        ("evaluate", "--report", "r.html"),
        ("evaluate", "--json", "s.json"),
        ("explain", "--out", "e.html"),
        ("explain", "--json", "e.json"),
    ],
)
def test_result_replaces_only_its_own_kind(
    verb: str, option: str, name: str, cli: Any, finished: Path, scenes: Path, tmp_path: Path
) -> None:
    path = tmp_path / "new" / "folder" / name
    words = [verb, finished, scenes / "test.csv", option, path, *(["--row", 1] if verb == "explain" else [])]
    for _ in range(2):
        code, _, stderr = cli(*words)
        assert code == 0, stderr
    size = path.stat().st_size
    path.write_text("mine,missing\n1,2\n")
    code, _, stderr = cli(*words)
    assert code == 2
    assert "--overwrite" in stderr
    assert path.read_text() == "mine,missing\n1,2\n"
    code, _, stderr = cli(*words, "--overwrite")
    assert code == 0, stderr
    assert path.stat().st_size == pytest.approx(size, rel=0.05)


def test_input_table_is_never_replaced(cli: Any, finished: Path, table: Path) -> None:
    before = (table / "test.csv").read_bytes()
    for words in (["--out", table / "test.csv"], ["--out", table / ".." / "table" / "test.csv", "--overwrite"]):
        code, _, stderr = cli("predict", finished, table / "test.csv", *words)
        assert code == 2
        assert "is the input table" in stderr
    assert (table / "test.csv").read_bytes() == before


def test_impossible_output_path_is_reported_before_any_work(
    cli: Any, finished: Path, scenes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setattr("sensorium.artifact.Artifact.load", None)
    for verb, option in (("predict", "--out"), ("evaluate", "--report"), ("evaluate", "--json"), ("explain", "--out")):
        for place in (tmp_path / "file" / "r.csv", tmp_path):
            code, _, stderr = cli(verb, finished, scenes / "test.csv", option, place)
            assert code == 2, stderr
            assert option in stderr
            assert str(place) in stderr or str(place.parent) in stderr


def test_pack_replaces_shards_only_with_overwrite(scenes: Path, tmp_path: Path) -> None:
    from sensorium.data.files.media_access import LocalFiles
    from sensorium.data.shards.pack import pack
    from sensorium.data.shards.shard_folder import shards
    from sensorium.data.tables.table import Table

    rows, media = Table.read(scenes / "test.csv"), LocalFiles(scenes)
    (tmp_path / "shard-00000.tar").write_bytes(b"mine")
    with pytest.raises(DataError, match=r"holds 'shard-00000\.tar'"):
        pack(rows, tmp_path, media=media)
    assert (tmp_path / "shard-00000.tar").read_bytes() == b"mine"
    with pytest.raises(DataError, match="not packed here"):
        pack(rows, tmp_path, media=media, overwrite=True)
    assert (tmp_path / "shard-00000.tar").read_bytes() == b"mine"
    (tmp_path / "shard-00000.tar").unlink()
    pack(rows, tmp_path, media=media, rows_per_shard=7)
    with pytest.raises(DataError, match="already"):
        pack(rows, tmp_path, media=media)
    pack(rows, tmp_path, media=media, overwrite=True)
    assert [len(shard) for shard in shards(tmp_path)] == [len(rows)]


def test_demo_replaces_only_a_demo(cli: Any, tmp_path: Path) -> None:
    (tmp_path / "train.csv").write_text("mine\n1\n")
    code, _, stderr = cli("demo", "--out", tmp_path)
    assert code == 2
    assert "contains train.csv" in stderr
    assert held(tmp_path) == {"train.csv": b"mine\n1\n"}
