"""Compilation, and bfloat16 with the fused optimiser: the same model with the same parameter names."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import sensorium as sm
from sensorium.core.errors import ConfigError

FEW = {"ignore": ["cost", "tags", "photo", "sound", "sensor"], "overrides": ["training.epochs=1"]}


def traced(monkeypatch: pytest.MonkeyPatch, backend: Any = "eager") -> list[str]:
    """Let ``torch.compile`` trace, and run what it traced as it is: making machine code of it takes a minute."""
    real, seen = nn.Module.compile, []

    def compile(self: nn.Module, **options: Any) -> None:
        seen.append(type(self).__name__)
        real(self, **options, backend=backend)

    monkeypatch.setattr(nn.Module, "compile", compile)
    return seen


def test_compiled_training_gives_the_same_model(
    quick_fit: Any, scenes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usual = quick_fit(valid=scenes / "valid.csv", **FEW)
    torch._dynamo.reset()
    seen = traced(monkeypatch)
    options = {**FEW, "overrides": [*FEW["overrides"], "training.compile=true"]}
    made = quick_fit(valid=scenes / "valid.csv", out=tmp_path / "run", **options)
    assert len(seen) == len(made.model.streams) + 1, "every encoder, and the fusion"
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] >= 1
    first, second = usual.model.state_dict(), made.model.state_dict()
    assert first.keys() == second.keys()
    for name in first:
        torch.testing.assert_close(first[name], second[name], rtol=1e-4, atol=1e-5)
    assert all(module._compiled_call_impl is None for module in made.model.modules())
    loaded = sm.load(tmp_path / "run")
    assert loaded.recipe.training.compile
    assert len(seen) == len(made.model.streams) + 1, "a saved model is used as it is written"
    assert loaded.predict(scenes / "test.csv") == made.predict(scenes / "test.csv")


def test_failed_compilation_is_reported(quick_fit: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(graph: Any, inputs: Any) -> Any:
        raise RuntimeError("no C++ compiler")

    torch._dynamo.reset()
    traced(monkeypatch, broken)
    with pytest.raises(ConfigError, match=r"training\.compile: the model cannot be compiled here") as caught:
        quick_fit(ignore=FEW["ignore"], overrides=["training.compile=true"])
    assert "leave out training.compile" in str(caught.value)


def test_compilation_with_several_processes_is_refused(quick_fit: Any) -> None:
    from sensorium.core.recipe import Recipe
    from sensorium.training.lightning_training import train_epochs
    from sensorium.training.process_group import ProcessGroup

    plan = Recipe.parse({"training": {"compile": True, "devices": 2}})
    with pytest.raises(ConfigError, match="one process"):
        train_epochs(plan, *[[0] * 8] * 6, False, None, ProcessGroup(0, 2))  # type: ignore[arg-type, misc]


def test_half_precision_trains_with_the_fused_optimiser_and_clips(quick_fit: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    norms: list[float] = []
    fused: list[bool] = []
    real = nn.utils.clip_grad_norm_

    def clip(parameters: Any, most: float, *rest: Any, **more: Any) -> Any:
        result = list(parameters)
        before = real(result, most, *rest, **more)
        norms.append(float(torch.stack([p.grad.norm() for p in result if p.grad is not None]).norm()))
        return before

    def adamw(*args: Any, **more: Any) -> Any:
        fused.append(more["fused"])
        return optimiser(*args, **more)

    optimiser = torch.optim.AdamW
    monkeypatch.setattr(nn.utils, "clip_grad_norm_", clip)
    monkeypatch.setattr(torch.optim, "AdamW", adamw)
    overrides = [*FEW["overrides"], "training.precision=bf16-mixed", "training.clip=0.25"]
    model = quick_fit(ignore=FEW["ignore"], overrides=overrides)
    assert fused == [True]
    assert norms
    assert max(norms) <= 0.25 * 1.001
    assert math.isfinite(model.history[-1]["valid_loss"])
    assert all(t.dtype == torch.float32 for t in model.model.parameters())
