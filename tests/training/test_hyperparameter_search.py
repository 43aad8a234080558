"""Hyperparameter search: set values are kept, open ones vary; deterministic however often it is interrupted."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from sensorium.core.errors import ConfigError, SensoriumError
from sensorium.reporting.console import Console
from sensorium.training import hyperparameter_search as module
from sensorium.training.comparison_setup import prepare
from sensorium.training.defaults import resolve
from sensorium.training.hyperparameter_search import Search, Trial
from sensorium.training.search_space import SearchSpace, search_space
from sensorium.training.training_request import Request

QUICK = ["training.epochs=1", "training.batch_size=32", "model.size=tiny"]
IGNORED = ("cost", "tags", "note", "sound", "photo", "when")


def run_search(scenes: Path, out: Path | None, trials: int, **more: Any) -> Any:
    from sensorium.training.fit import fit

    options: dict[str, Any] = {"target": "event", "ignore": IGNORED, "overrides": QUICK, "quiet": True} | more
    return fit(scenes / "train.csv", search=trials, out=out, **options)


@pytest.fixture(scope="module")
def folder(scenes: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("searched") / "run"
    run_search(scenes, out, 3)
    return out


def opened(scenes: Path, overrides: list[str], ignore: tuple[str, ...] = IGNORED) -> SearchSpace:
    request = Request.of(scenes / "train.csv", target="event", ignore=ignore, overrides=overrides)
    ground, _ = prepare(request, None, Console(True))
    return search_space(request.plan, ground.schema, len(ground.rows), {})


def test_first_trial_is_the_default_and_best_is_kept(folder: Path, scenes: Path, quick_fit: Any) -> None:
    document = json.loads((folder / "search.json").read_text(encoding="utf-8"))
    assert document["trials"][0]["setting"]["lr"] == 1.5e-3
    assert document["trials"][0]["setting"]["dropout"] == 1.0
    scores = [trial["score"] for trial in document["trials"]]
    assert document["metric"] == "accuracy"
    assert document["trials"][document["best"]]["score"] == max(scores)
    assert [path.name for path in (folder / "search").iterdir()] == [f"trial-{document['best']}"], "one model is kept"


def test_search_result_recipe_reproduces_the_model(folder: Path, scenes: Path) -> None:
    from sensorium.trained import load
    from sensorium.training.fit import fit

    again = fit(scenes / "train.csv", recipe=folder / "recipe.yaml", quiet=True)
    for one, other in zip(load(folder).model.parameters(), again.model.parameters(), strict=True):
        assert torch.equal(one, other)


def test_stopped_search_resumes_identically(folder: Path, scenes: Path, tmp_path: Path) -> None:
    run_search(scenes, tmp_path / "run", 2)
    run_search(scenes, tmp_path / "run", 3)
    whole, parted = (json.loads((at / "search.json").read_text(encoding="utf-8")) for at in (folder, tmp_path / "run"))
    for one, other in zip(whole["trials"], parted["trials"], strict=True):
        assert {k: v for k, v in one.items() if k != "seconds"} == {k: v for k, v in other.items() if k != "seconds"}


def test_finished_trials_are_kept_and_another_search_is_refused(
    folder: Path, scenes: Path, monkeypatch: pytest.MonkeyPatch, cli: Any
) -> None:
    def never(*args: Any) -> Any:
        raise AssertionError("a finished trial was trained again")

    monkeypatch.setattr(module, "_run_trial", never)
    words = ["--target", "event", "--ignore", ",".join(IGNORED), "--search", 3, "--out", folder]
    code, _, stderr = cli("fit", scenes / "train.csv", *QUICK, *words)
    assert code == 0, stderr
    assert "3 trials, ranked on the validation rows" in stderr
    with pytest.raises(ConfigError, match="another search"):
        run_search(scenes, folder, 3, overrides=[*QUICK, "training.warmup=0.2"])


def test_interrupted_search_returns_best_so_far(scenes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = module._run_trial

    def stopped(result: SearchSpace, number: int, *rest: Any) -> Any:
        if number == 1:
            raise KeyboardInterrupt
        return whole(result, number, *rest)

    monkeypatch.setattr(module, "_run_trial", stopped)
    trained = run_search(scenes, tmp_path / "run", 5)
    assert (tmp_path / "run" / "manifest.json").is_file()
    assert len(trained.artifact.report["search"]["trials"]) == 1


def test_time_limit_covers_all_trials(scenes: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shares: list[float] = []

    def one(result: SearchSpace, number: int, setting: Any, seconds: float, *rest: Any) -> Any:
        shares.append(seconds)
        return Trial(number, setting, None, None, 0, 4.0, "no reason"), None

    monkeypatch.setattr(module, "_run_trial", one)
    with pytest.raises(SensoriumError, match="no trial could be trained"):
        run_search(scenes, None, 3, time_limit=20.0)
    # A trial that took less than its share leaves the rest to the others.
    assert shares == pytest.approx([20 / 3, 16 / 2, 12])


def test_only_open_settings_vary(scenes: Path) -> None:
    every = opened(scenes, [], ("cost", "tags", "when"))
    assert {parameter.name for parameter in every.parameters} == {
        "fusion",
        "size",
        "lr",
        "weight_decay",
        "dropout",
        "augment",
    }
    overrides = ["model.fusion=gated", "model.size=tiny", "training.lr=0.001", "training.weight_decay=0.05"]
    few = opened(scenes, [*overrides, "training.augment=false"])
    assert [parameter.name for parameter in few.parameters] == ["dropout"]
    plan, schema = every.at(
        {"fusion": "late", "size": "tiny", "lr": 0.00123456, "weight_decay": 0.2, "dropout": 2.0, "augment": "strong"}
    )
    assert plan.model.fusion["kind"] == "late"
    assert (plan.model.size, plan.training.lr, plan.training.weight_decay) == ("tiny", 0.00123, 0.2)
    assert plan.model.tasks["event"]["dropout"] == 0.2
    assert schema.columns["sound"].spec["augment"] == plan.columns["sound"]["augment"] == "strong"
    assert schema.columns["sound"].reader.augment == "strong"
    usual, _ = every.at(every.usual)
    resolved, _ = resolve(every.plan, every.schema, every.rows, {})
    assert usual.model == resolved.model, "the first trial is what is trained without a search, options of its fusion too"
    assert usual.model.tasks["event"]["dropout"] == 0.1


def test_given_dropout_is_kept(scenes: Path) -> None:
    results = opened(scenes, ["model.tasks.event={kind: classification, dropout: 0.3}", "model.fusion={kind: gated}"])
    plan, _ = results.at(results.usual | {"dropout": 2.0})
    assert plan.model.tasks["event"]["dropout"] == 0.3


def test_complete_recipe_leaves_nothing_to_search(folder: Path, scenes: Path) -> None:
    from sensorium.training.fit import fit

    with pytest.raises(ConfigError, match="nothing open"):
        fit(scenes / "train.csv", recipe=folder / "recipe.yaml", search=2, quiet=True)


def test_ties_are_broken_by_loss() -> None:
    trials = [
        Trial(i, {}, score, loss, 1, 1.0)
        for i, (score, loss) in enumerate([(0.5, 2.0), (0.7, 1.0), (0.7, 0.5), (0.7, 0.5)])
    ]
    trials.append(Trial(4, {}, None, None, 0, 1.0, "diverged"))
    best = Search("accuracy", True, trials).best
    assert best is not None
    assert best.number == 2
    lowest = Search("mae", False, trials).best
    assert lowest is not None
    assert lowest.number == 0
    assert "trial 4 failed: diverged" in Search("accuracy", True, trials).text()


def test_missing_optuna_names_the_extra(scenes: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(SensoriumError, match=r"sensorium\[tune\]"):
        run_search(scenes, None, 2)
