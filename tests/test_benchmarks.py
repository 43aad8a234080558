"""The benchmarks run, on small data, and give finite figures. No time is asserted here: a test machine is a busy one."""

from __future__ import annotations

import importlib
import json
import math
import subprocess
import sys
from pathlib import Path

import pytest

# The benchmarks are no part of the package: they are found from the repository's root.
sys.path.insert(0, str(Path(__file__).parent.parent))

from benchmarks.__main__ import NAMES, run, table
from benchmarks.measure import Cost, Measure, Settings, compared, interleaved

SLOW = ("start", "memory", "av_hard", "processes", "scaling", "serving", "large_pictures", "live", "report", "columns")
SLOW += ("front_ends", "encoders", "padding", "chat")
"""These start processes or a server, or take long: only ``make test-all`` runs them."""


@pytest.mark.parametrize("name", [pytest.param(name, marks=[pytest.mark.benchmark] * (name in SLOW)) for name in NAMES])
def test_a_benchmark_runs(name: str) -> None:
    results = run(name, Settings(smoke=True))
    assert results
    for result in results:
        assert isinstance(result, Measure), result
        assert math.isfinite(result.value)
        assert result.ours >= 0
        if result.ratio is not None:
            assert result.ratio > 0
    assert results[0].name in table(results)


@pytest.mark.parametrize(
    "path", sorted((Path(__file__).parent.parent / "benchmarks").glob("*.py")), ids=lambda path: path.stem
)
def test_every_file_can_be_imported(path: Path) -> None:
    """They use parts of the library that are not public, which nothing else would miss when they are renamed."""
    importlib.import_module(f"benchmarks.{path.stem}")


def test_every_benchmark_is_listed() -> None:
    folder = Path(__file__).parent.parent / "benchmarks"
    apart = {"__init__", "__main__", "measure", "results", "senses", "fusion_results", "objectives", "kills", "explainers"}
    apart |= {"senses_lm", "smollm", "package_weights", "large_tables"}
    apart |= {"league", "league_sets", "league_rivals", "floor", "tagging"}
    apart |= {
        "pretraining",
        "transcription",
        "segmentation",
        "detection",
        "edges",
        "keypoints",
        "labelling",
        "survival",
        "words_out",
        "forecasting",
        "retrieval",
        "generation",
    }
    files = (
        {path.stem for path in folder.glob("*.py")}
        - apart
        - {"plain", "torch_fusions", "by_hand", "digits", "browser", "service", "bombs"}
    )
    assert files == set(NAMES)


def test_ratios_are_medians_of_pairs_and_both_take_turns_to_be_first() -> None:
    calls: list[str] = []

    def cost(name: str, seconds: float) -> Cost:
        calls.append(name)
        return Cost(seconds, seconds)

    mine, other = interleaved(lambda: cost("ours", 3.0), lambda: cost("reference", 2.0), 2)
    assert calls == ["ours", "reference", "reference", "ours"]
    slower = compared("x", "s", [c.cpu for c in mine], [c.cpu for c in other], at_most=1.4)
    assert (slower.ratio, slower.met) == (1.5, False)
    speed = compared("x", "s", [1.0, 4.0, 2.0], [1.0, 2.0, 4.0], inverse=True, at_least=0.85)
    assert (speed.ratio, speed.spread, speed.met) == (1.0, (0.5, 2.0), True)


def test_the_command_prints_a_table_and_writes_json(tmp_path: Path) -> None:
    out = tmp_path / "out.json"
    command = [sys.executable, "-m", "benchmarks", "store", "--smoke", "--json", str(out)]
    done = subprocess.run(command, check=True, capture_output=True, text=True, cwd=Path(__file__).parent.parent)
    assert "torch:" in done.stdout
    assert "≥ 0.85" in done.stdout
    document = json.loads(out.read_text())
    assert document["machine"]["cores"] >= 1
    assert all(math.isfinite(result["ratio"]) for result in document["results"])


def test_real_data_that_is_not_there_is_skipped_with_a_reason(tmp_path: Path) -> None:
    (skipped,) = run("av_hard", Settings(data=tmp_path))
    assert str(tmp_path) in getattr(skipped, "why", "")


def test_the_table_of_fusions_marks_the_best_and_what_is_like_it(tmp_path: Path) -> None:
    from benchmarks.fusion_results import MULTIMODAL, slug
    from benchmarks.fusion_results import table as fusions

    name = MULTIMODAL[0]
    both = ["image", "audio"]

    def row(name: str, mean: float, streams: list[str], apart: bool) -> dict[str, object]:
        area = 0.9 if len(streams) > 1 else None
        return {
            "name": name,
            "mean": mean,
            "spread": 0.01,
            "streams": streams,
            "told_apart": apart,
            "robustness_area": area,
        }

    runs = [row("gated", 0.9, both, False), row("concat", 0.89, both, False), row("weighted", 0.7, both, True)]
    runs.append(row("image alone", 0.5, ["image"], True))
    document = {"metric": "accuracy", "best": "gated", "runs": runs, "skipped": {"tensor": "too large"}}
    document |= {"baseline": 0.1, "budget": "8 epochs", "rows": 900}
    folder = tmp_path / slug(name)
    folder.mkdir()
    (folder / "set.txt").write_text(name)
    (folder / "compare.json").write_text(json.dumps(document))
    text = fusions(tmp_path)
    assert "| gated | **0.900** ± 0.010 (0.90) |" in text
    assert "| concat | 0.890 ± 0.010 (0.90) ≈ |" in text
    assert "| weighted | 0.700 ± 0.010 (0.90) |" in text
    assert "| tensor | – |" in text
    assert "| *best modality alone* | 0.500 (image) |" in text
