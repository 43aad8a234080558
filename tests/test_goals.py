"""What tasks are built for: names of their own, several columns to one target, prompts, inputs that are targets."""

from __future__ import annotations

import csv
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import sensorium as sm
from sensorium.core import registry
from sensorium.core.errors import ConfigError, SensoriumError
from sensorium.core.goal import task_spec
from sensorium.core.recipe import Recipe

TOYS = '''
from __future__ import annotations
from functools import partial
import torch
from torch import nn
from sensorium.core.task import Task
from sensorium.core.registry import component
from sensorium.metrics import regression
from sensorium.metrics.pair_scorer import PairScorer


class Linear(Task):
    predicts = ("number",)
    headline = "mae"
    higher_is_better = False
    wide = 1

    def __init__(self, goal, dim):
        super().__init__(goal, dim)
        self.last = nn.Linear(dim, self.wide)

    def forward(self, fused, streams, prompts):
        return self.last(fused.pooled)

    def loss(self, output, target):
        return (output - target.data.to(output).nan_to_num(0.0)).square().mean(dim=1)

    def table(self, values):
        readers = list(self.goal.targets.values())
        return torch.tensor([[r.decode(row[i : i + 1]) for i, r in enumerate(readers)] for row in values.detach().numpy()])

    def scorer(self):
        compare = lambda output, target: (self.table(output).mean(dim=1), self.table(target.data).mean(dim=1))
        return PairScorer(self, compare, {"mae": regression.mae})

    def answers(self, output, batch):
        return [{"value": row if self.wide > 1 else row[0]} for row in self.table(output).tolist()]


@component
class Span(Linear):
    """From where to where: two columns make one target."""

    parts = ("low", "high")
    wide = 2

    def __init__(self, goal, dim):
        super().__init__(goal, dim)


@component
class Asked(Linear):
    """A number that depends on what is asked: the prompt turns the answer's sign."""

    def __init__(self, goal, dim):
        super().__init__(goal, dim)

    def forward(self, fused, streams, prompts):
        (question,) = prompts.values()
        sign = torch.where(question.present, question.data[:, 0], torch.zeros(())).sign()
        return self.last(fused.pooled) * sign[:, None]
'''


@pytest.fixture(scope="module", autouse=True)
def toys(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Two small tasks of a foreign package, for as long as these tests last."""
    site = tmp_path_factory.mktemp("toys")
    for kind in ("span", "asked"):
        # The name of a component is that of its file.
        (site / f"{kind}.py").write_text(TOYS)
    info = site / "toys-0.1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: toys\nVersion: 0.1.0\n")
    (info / "entry_points.txt").write_text("[sensorium.tasks]\nspan = span:Span\nasked = asked:Asked\n")
    caches: Any = (registry._plugins, registry.kinds, registry.find, registry.options)
    sys.path.insert(0, str(site))
    for cached in caches:
        cached.cache_clear()
    yield
    sys.path.remove(str(site))
    for name in ("span", "asked"):
        sys.modules.pop(name, None)
    for cached in caches:
        cached.cache_clear()


QUICK = ["model.size=tiny", "training.epochs=40", "training.lr=0.01", "training.batch_size=32"]


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """``x`` and ``word`` say where a span lies; ``sign`` turns ``turned`` around; some rows lack a part of it."""
    draw = np.random.default_rng(0)
    path = tmp_path_factory.mktemp("goals") / "train.csv"
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["x", "word", "lo", "hi", "sign", "turned", "kind"])
        for i in range(160):
            x, word = draw.normal(), ["near", "far"][i % 2]
            low = x + 5 * (word == "far")
            sign = 1.0 if draw.random() < 0.5 else -1.0
            high = "" if i % 10 == 3 else f"{low + 1:.4f}"
            kind = "" if i % 16 == 5 else word
            writer.writerow([f"{x:.4f}", word, f"{low:.4f}", high, sign, f"{sign * low:.4f}", kind])
    return path


def test_a_task_says_what_it_answers() -> None:
    assert task_spec("y", "svm") == ("y", {"kind": "svm"}, ("y",), (), ())
    assert task_spec("mood", {"kind": "svm", "target": "y", "C": 2}) == ("mood", {"kind": "svm", "C": 2}, ("y",), (), ())
    assert task_spec("s", {"kind": "span", "target": ["a", "b"], "prompt": "q"}).targets == ("a", "b")
    assert task_spec("r", {"kind": "match", "target": None}).targets == ()
    for wrong in (3, ["a", "a"], [1], {"a": "b"}):
        with pytest.raises(ConfigError, match="target is"):
            task_spec("y", {"kind": "svm", "target": wrong})


def test_tasks_have_names_of_their_own_and_several_may_share_a_target(table: Path, tmp_path: Path) -> None:
    tasks = {
        "what": {"kind": "classification", "target": "kind"},
        "again": {"kind": "svm", "target": "kind", "kernel": "linear"},
        "where": {"kind": "regression", "target": "lo"},
    }
    plan = Recipe.parse({"model": {"tasks": tasks}})
    ignored = ["hi", "sign", "turned"]
    model = sm.fit(table, recipe=plan, ignore=ignored, overrides=QUICK, quiet=True, out=tmp_path / "run")
    evaluation = sm.load(tmp_path / "run").evaluate(table)
    assert set(evaluation.targets) == set(tasks)
    assert evaluation.targets["what"].metrics["accuracy"] > 0.95
    assert evaluation.targets["again"].metrics["accuracy"] > 0.95
    assert evaluation.targets["what"].rows == evaluation.targets["again"].rows == 150
    assert evaluation.targets["where"].metrics["r2"] > 0.8
    (one,) = model.predict([{"x": 0.5, "word": "far"}])
    assert set(one.targets) == set(tasks)
    assert model.recipe.model.tasks["where"]["target"] == "lo"  # type: ignore[index]
    assert Recipe.parse(model.recipe.model_dump()) == model.recipe


def test_several_columns_make_one_target(table: Path, tmp_path: Path, cli: Any) -> None:
    options = {"ignore": ["sign", "turned", "kind"], "overrides": QUICK, "quiet": True}
    model = sm.fit(table, task="span", target={"low": "lo", "high": "hi"}, out=tmp_path / "run", **options)
    evaluation = model.evaluate(table).targets["span"]
    assert evaluation.rows == 144, "a row that lacks a part of its target has none"
    assert evaluation.metrics["mae"] < 1.0
    low, high = model.predict([{"x": 0.0, "word": "far"}])[0].targets["span"]["value"]
    assert low == pytest.approx(5.0, abs=1.5)
    assert high == pytest.approx(6.0, abs=1.5)
    words = ("fit", table, "--task", "span", "--low", "lo", "--high", "hi", "--ignore", "sign,turned,kind", "-q")
    code, stdout, wrong = cli(*words, "--out", tmp_path / "told", "model.size=tiny", "training.epochs=2")
    assert code == 0, wrong
    assert "span: mae" in stdout
    assert sm.load(tmp_path / "told").recipe.model.tasks["span"]["target"] == ["lo", "hi"]  # type: ignore[index]
    with pytest.raises(ConfigError, match="its target is low, high"):
        sm.fit(table, task="span", target={"low": "lo"}, **options)
    with pytest.raises(ConfigError, match="answers low, high, but the target names 1 column"):
        sm.fit(table, task="span", target="lo", **options)
    code, _, wrong = cli("fit", table, "--task", "span", "--lowest", "lo")
    assert code == 2
    assert "has no option 'lowest'; did you mean low?" in wrong


def test_a_prompt_is_handed_to_the_task_and_read_by_no_encoder(table: Path, tmp_path: Path) -> None:
    tasks = {"answer": {"kind": "asked", "target": "turned", "prompt": "sign"}}
    plan = Recipe.parse({"model": {"tasks": tasks}, "columns": {"sign": "number"}})
    ignored = ["lo", "hi", "kind"]
    model = sm.fit(table, recipe=plan, ignore=ignored, overrides=QUICK, quiet=True, out=tmp_path / "run")
    model = sm.load(tmp_path / "run")
    assert [c.name for c in model.schema.prompts] == ["sign"]
    assert "sign" not in [c.name for columns in model.schema.streams.values() for c in columns]
    evaluation = model.evaluate(table).targets["answer"]
    assert evaluation.metrics["mae"] < 1.2
    assert all("sign" not in subset for subset in evaluation.subsets), "a prompt is no stream that could be left out"
    one, other, nothing = model.predict([{"x": 0, "word": "far", "sign": s} for s in (1, -1, None)])
    assert one.value == pytest.approx(5.0, abs=1.5)
    assert other.value == pytest.approx(-5.0, abs=1.5)
    assert np.isfinite(nothing.value), "a prompt may be missing like anything else"
    assert [p.to_json() for p in model.predict(table, batch_invariant=True)][:3]
    with pytest.raises(SensoriumError, match="no column named 'sing'"):
        sm.fit(table, recipe=Recipe.parse({"model": {"tasks": {"a": {**tasks["answer"], "prompt": "sing"}}}}), quiet=True)


def test_an_input_may_be_a_target_as_well(table: Path, tmp_path: Path) -> None:
    plan = Recipe.parse({"columns": {"x": {"kind": "number", "role": "both"}}})
    model = sm.fit(
        table,
        recipe=plan,
        ignore=["lo", "hi", "sign", "turned", "kind"],
        overrides=QUICK,
        quiet=True,
        out=tmp_path / "run",
    )
    model = sm.load(tmp_path / "run")
    assert [c.name for c in model.schema.targets] == ["x"]
    assert "x" in [c.name for c in model.schema.inputs]
    assert model.evaluate(table).targets["x"].metrics["r2"] > 0.9, "what is to be told stands in the row"
    assert model.predict([{"x": 1.5, "word": "near"}])[0].value == pytest.approx(1.5, abs=0.5)


def test_what_an_objective_learnt_is_saved_with_the_model(scenes: Path, quick_fit: Any, tmp_path: Path) -> None:
    import torch

    model = quick_fit(
        ignore=["cost", "tags", "sound", "sensor"],
        overrides=["objectives=[supervised, {kind: contrastive, width: 8}, impute]"],
        out=tmp_path / "run",
    )
    assert (tmp_path / "run" / "objectives.safetensors").is_file()
    again = sm.load(tmp_path / "run").artifact
    before, after = model.artifact.objectives(), again.objectives()
    assert [type(one).__name__ for one in after] == ["Supervised", "Contrastive", "StreamImputation"]
    for one, other in zip(before, after, strict=True):
        for name, tensor in one.state_dict().items():
            assert torch.equal(tensor, other.state_dict()[name]), name
    fresh = registry.build("objectives", again.recipe.objectives[1], again.model)
    assert not torch.equal(fresh.project[0].weight, after[1].project[0].weight), "it learnt"
    plain = quick_fit(ignore=["cost", "tags", "sound", "sensor", "photo"], out=tmp_path / "plain")
    assert plain.artifact.learnt == {}
    assert not (tmp_path / "plain" / "objectives.safetensors").exists()
    manifest = tmp_path / "run" / "manifest.json"
    manifest.write_text(manifest.read_text().replace("objectives.safetensors", "../objectives.safetensors"))
    with pytest.raises(SensoriumError, match="must name"):
        sm.load(tmp_path / "run")


def test_best_epochs_and_checkpoints_hold_only_what_training_changes(
    scenes: Path, quick_fit: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    from sensorium.training.callbacks import Checkpoint, KeepBest

    kept: list[set[str]] = []
    real = KeepBest.on_validation_end

    def seen(self: Any, trainer: Any, module: Any) -> None:
        real(self, trainer, module)
        kept.append(set(self.weights))

    saved: list[set[str]] = []
    end = Checkpoint.on_train_epoch_end

    def looked(self: Any, trainer: Any, module: Any) -> None:
        end(self, trainer, module)
        state = torch.load(self.path, weights_only=True)
        saved.append(set(state["state_dict"]))

    monkeypatch.setattr(KeepBest, "on_validation_end", seen)
    monkeypatch.setattr(Checkpoint, "on_train_epoch_end", looked)
    options: dict[str, Any] = {
        "ignore": ["cost", "tags", "sound", "sensor"],
        "overrides": ["model.surgery=[{kind: freeze, streams: [photo]}]"],
    }
    model = quick_fit(out=tmp_path / "run", **options)
    for names in (*kept, *saved):
        assert names
        assert not [name for name in names if "encoders.of_photo" in name and name.endswith("weight")]
        assert [name for name in names if "encoders.of_note" in name]
    whole = quick_fit(**options)
    for name, tensor in whole.model.state_dict().items():
        assert torch.equal(tensor, model.model.state_dict()[name]), name
