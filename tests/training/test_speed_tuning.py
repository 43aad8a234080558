"""Speed tuning: the run that follows is that of the recipe with the chosen settings, resumed or not."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import sensorium as sm
from sensorium.core.errors import ConfigError
from sensorium.core.recipe import Recipe
from sensorium.training import speed_tuning
from sensorium.training.callbacks import Checkpoint
from sensorium.training.step_timing import Gradient, StepTimer, relative_difference

FEW = ["cost", "tags", "photo", "sound"]
Times = Callable[[dict[str, Any]], float]


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Callable[[Times], None]:
    """Says how many times as fast a setting is, instead of measuring it."""

    def set_to(times: Times) -> None:
        def result(one: StepTimer, other: StepTimer, seconds: float, least: int = 1) -> list[float]:
            one.steps(1), other.steps(1)
            before = one.spec.model_dump()
            return [times({k: v for k, v in other.spec.model_dump().items() if v != before[k]})] * 5

        monkeypatch.setattr(speed_tuning, "speed_ratios", result)
        monkeypatch.setattr(speed_tuning, "process_cores", lambda: 1)  # a second thread is slow on a busy machine
        monkeypatch.setattr(speed_tuning, "WASTE", -1.0)  # the table is too small for any to be saved

    return set_to


def weights(model: Any) -> dict[str, torch.Tensor]:
    return dict(model.model.state_dict())


def same(one: Any, other: Any) -> bool:
    first, second = weights(one), weights(other)
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


def results(model: Any) -> dict[str, dict[str, Any]]:
    return {one["setting"]: one for one in model.artifact.report["speed"]["found"]}


def test_tuned_run_equals_run_of_its_recipe(
    quick_fit: Any, scenes: Path, clock: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    clock(lambda changed: 1.5 if set(changed) & {"bucket", "precision"} else 0.8)
    state = torch.get_rng_state()
    fast = quick_fit(tune_speed=True, out=tmp_path / "run", quiet=False, valid=scenes / "valid.csv")
    assert torch.equal(torch.get_rng_state(), state)
    stderr = [" ".join(line.split()) for line in capsys.readouterr().err.splitlines()]
    assert "bf16-mixed 1.50 × taken: faster" in stderr
    assert any(line.startswith("compile left: the run takes about") for line in stderr)
    assert any(line.startswith("padding is") for line in stderr)
    spec = fast.recipe.training
    assert (spec.bucket, spec.precision, spec.compile) == (0, "bf16-mixed", False)
    assert fast.artifact.report["speed"]["chosen"] == {"precision": "bf16-mixed"}
    overrides = ["training.precision=bf16-mixed"]
    plain = quick_fit(overrides=overrides, valid=scenes / "valid.csv")
    assert same(fast, plain)
    assert plain.recipe.training == spec
    assert same(sm.load(tmp_path / "run"), plain)


class KilledError(Exception):
    """Stands for a power cut."""


def test_resumed_run_keeps_tuned_settings(
    quick_fit: Any, scenes: Path, clock: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run(**options: Any) -> Any:
        return quick_fit(tune_speed=True, valid=scenes / "valid.csv", ignore=FEW, **options)

    clock(lambda changed: 1.5 if "precision" in changed else 0.9)
    whole = run()
    real = Checkpoint.on_train_epoch_end

    def killed(self: Any, trainer: Any, module: Any) -> None:
        real(self, trainer, module)
        raise KilledError

    with monkeypatch.context() as patch:
        patch.setattr(Checkpoint, "on_train_epoch_end", killed)
        with pytest.raises(KilledError):
            run(out=tmp_path / "run")
    clock(lambda changed: 0.9)  # the machine is another by now
    again = run(out=tmp_path / "run", resume=True)
    assert again.recipe.training.precision == "bf16-mixed"
    assert same(again, whole)
    assert same(run(out=tmp_path / "run", resume=True), whole), "a finished run too"
    (tmp_path / "run" / "resume" / "last.ckpt").write_bytes(b"")
    with pytest.raises(ConfigError, match="belongs to another run"):
        run(out=tmp_path / "run", resume=True, seed=4)
    other = run(out=tmp_path / "run", overwrite=True)
    assert other.recipe.training.precision == "32-true", "without --resume it is measured anew"
    kept = json.loads((tmp_path / "run" / "resume" / "speed.json").read_text(encoding="utf-8"))
    assert kept["speed"]["chosen"] == {}


def test_user_settings_are_not_tuned(quick_fit: Any, clock: Any) -> None:
    clock(lambda changed: 3.0)
    predicted = ["precision=32-true", "bucket=0", "threads=1", "compile=false", "lr=0.001"]
    model = quick_fit(tune_speed=True, overrides=[f"training.{one}" for one in predicted])
    assert model.artifact.report["speed"] | {"seconds": 0, "rows_per_second": 0} == {
        "seconds": 0,
        "rows_per_second": 0,
        "found": [],
        "chosen": {},
    }


def test_setting_that_changes_results_is_not_taken(quick_fit: Any, clock: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    clock(lambda changed: 3.0)
    monkeypatch.setattr(speed_tuning, "relative_difference", lambda one, other: (0.0, 0.3))
    model = quick_fit(tune_speed=True, ignore=FEW)
    left = results(model)["bf16-mixed"]
    assert (left["taken"], left["times"]) == (False, None)
    assert "changes the loss" in left["why"]
    assert model.recipe.training.precision == "32-true"


def test_failing_setting_is_not_taken(quick_fit: Any, clock: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    clock(lambda changed: 3.0)
    real = StepTimer.gradient

    def failing(self: StepTimer, *, training: bool) -> Gradient:
        if self.spec.precision != "32-true":
            raise RuntimeError("no kernel for it")
        return real(self, training=training)

    monkeypatch.setattr(StepTimer, "gradient", failing)
    left = results(quick_fit(tune_speed=True, ignore=FEW))["bf16-mixed"]
    assert left["why"] == "fails here: no kernel for it"


def test_setting_that_changes_training_is_only_reported(quick_fit: Any, clock: Any) -> None:
    """Rows of like length together, and larger batches: faster, and not the same results."""
    clock(lambda changed: 1.5 if set(changed) & {"bucket", "batch_size"} else 0.9)
    recipe = Recipe.parse({"model": {"size": "tiny"}, "training": {"epochs": 1}})
    folder = next(cell.cell_contents for cell in quick_fit.__closure__ if isinstance(cell.cell_contents, Path))
    ignore = [*FEW, "sensor"]
    model = sm.fit(folder / "train.csv", target="event", ignore=ignore, recipe=recipe, quiet=True, tune_speed=True)
    result = {name.split()[0]: one for name, one in results(model).items()}
    for name, way in (("bucket", "training.bucket=50 takes it"), ("batch", "training.batch_size=32 takes it")):
        assert (result[name]["times"], result[name]["taken"]) == (1.5, False)
        assert way in result[name]["why"]
    assert model.artifact.report["speed"]["chosen"] == {}


def test_tuning_of_searches_and_several_processes_is_refused(quick_fit: Any) -> None:
    with pytest.raises(ConfigError, match="a search tries many"):
        quick_fit(tune_speed=True, search=2)
    with pytest.raises(ConfigError, match="one process"):
        quick_fit(tune_speed=True, overrides=["training.devices=2"])


def test_real_measurement(quick_fit: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(speed_tuning, "SECONDS", 0.1)
    model = quick_fit(tune_speed=True, ignore=FEW, overrides=["training.threads=1"])
    speed = model.artifact.report["speed"]
    assert speed["found"]
    assert all(one["times"] is None or 0.01 < one["times"] < 100 for one in speed["found"])
    assert all(rate > 0 for rate in speed["rows_per_second"])


def test_relative_difference_of_gradients() -> None:
    one = Gradient(2.0, torch.tensor([3.0, 4.0]).double())
    assert relative_difference(one, one) == (0.0, 0.0)
    loss, gradient = relative_difference(one, Gradient(2.02, torch.tensor([3.0, 4.5]).double()))
    assert loss == pytest.approx(0.01)
    assert gradient == pytest.approx(0.1)
