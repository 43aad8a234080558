"""Saved models and checkpoints that strangers may have written (all of them: ``python -m benchmarks.hostile loading``)."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import sensorium as sm

# The suite is no part of the package: it is found from the repository's root.
sys.path.insert(0, str(Path(__file__).parent.parent))

from benchmarks.hostile.checkpoint_folders import CHECKPOINTS, fitted
from benchmarks.hostile.confinement import alone
from benchmarks.hostile.forging import recipe, schema, weights
from benchmarks.hostile.saved_models import copied, fuzzed, saved

from sensorium.core.errors import ArtifactError, ConfigError, SensoriumError
from sensorium.core.load_guard import loading_guard
from sensorium.core.recipe import Recipe, read_yaml
from sensorium.core.safe_files import read_regular
from sensorium.core.safe_json import DEEPEST, read_json
from sensorium.language.tokeniser_limits import check_growth
from sensorium.pretrained.build_budget import build_budget
from sensorium.pretrained.checkpoint import Checkpoint

SAVED = saved()
QUICK = (
    "config.json cut short", "config.json a pipe", "a width in words", "a milliard layers", "four thousand layers",
    "weights cut short", "weights that are NaN", "weights of another shape", "tokenizer.json absent",
    "tokenizer.json that makes a text long", "lxmert: a milliard layers",
)  # fmt: skip


@pytest.mark.parametrize("name", SAVED)
def test_a_forged_model_is_refused(name: str, tmp_path: Path) -> None:
    SAVED[name](tmp_path)


def test_the_model_that_is_forged_is_sound(tmp_path: Path) -> None:
    """Else every refusal would be one for nothing; rewriting its files without a change does no harm either."""
    for i, forge in enumerate([recipe(lambda r: None), schema(lambda c: None), weights(lambda t: None)]):
        run = copied(tmp_path / str(i))
        forge(run)
        with alone(tmp_path):
            assert sm.load(run).predict([{}])


def test_what_is_done_outside_is_seen(tmp_path: Path) -> None:
    import socket

    inside, outside = tmp_path / "in", tmp_path / "out"
    inside.mkdir()
    with pytest.raises(AssertionError, match="was written"), alone(inside):
        outside.write_bytes(b"x")
    with pytest.raises(AssertionError, match=r"socket\.connect"), alone(inside), socket.socket() as one:
        one.connect(("127.0.0.1", 9))
    (inside / "elsewhere").mkdir()
    (inside / "elsewhere" / "x").write_bytes(b"x")
    with pytest.raises(AssertionError, match="was opened"), alone(inside):
        (inside / "elsewhere" / "x").read_bytes()


@pytest.mark.parametrize("name", QUICK)
def test_a_forged_checkpoint_is_refused(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("transformers")
    monkeypatch.setenv("SENSORIUM_CACHE", str(tmp_path / "cache"))
    fitted(*CHECKPOINTS[name], tmp_path)


@pytest.mark.parametrize("kind", ["bert", "lxmert"])
def test_the_checkpoint_that_is_forged_is_sound(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("transformers")
    monkeypatch.setenv("SENSORIUM_CACHE", str(tmp_path / "cache"))
    with pytest.raises(AssertionError, match="it was trained with"):
        fitted(kind, lambda folder: None, tmp_path)


def test_single_values_changed_at_random(tmp_path: Path) -> None:
    fuzzed("schema.json", 7, 12, tmp_path)


def test_a_nested_checkpoint_is_taken_over_and_the_model_stands_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A fusion in a group gets its checkpoint's weights, and once saved needs the checkpoint no more."""
    pytest.importorskip("transformers")
    import shutil

    from sensorium.testing.checkpoints import tiny

    shutil.copytree(tiny("lxmert"), tmp_path / "lxmert")
    fusion = {
        "kind": "compose",
        "groups": {"g": {"streams": ["x", "table"], "fusion": {"kind": "lxmert", "checkpoint": str(tmp_path / "lxmert")}}},
        "fusion": "single",
    }
    recipe = Recipe.parse(
        {"model": {"fusion": fusion, "size": "tiny", "experts": []}, "training": {"epochs": 1, "lr": 1e-9}}
    )
    rows = [{"x": f"the red dress {i % 3} is good", "z": i / 2, "y": "ab"[i % 2]} for i in range(16)]
    model = sm.fit(rows, target="y", columns={"x": "text", "z": "number"}, recipe=recipe, quiet=True)
    inner = model.model.fusion.inner["g"]
    theirs = Checkpoint(str(tmp_path / "lxmert")).tensors()
    name = "encoder.x_layers.0.visual_attention.att.query.weight"
    result = next(t for n, t in theirs.items() if n.endswith(name))
    assert torch.allclose(inner.layers[0].cross.attention.query.weight, result, atol=1e-4)
    model.save(tmp_path / "run")
    shutil.rmtree(tmp_path / "lxmert")
    with alone(tmp_path):
        again = sm.load(tmp_path / "run")
    assert again.predict(rows[:2]) == model.predict(rows[:2])


@pytest.mark.parametrize("how", ["back", "nowhere", "leaf"])
def test_trees_that_lead_nowhere(how: str, tmp_path: Path) -> None:
    """A branch that leads back would send a row round for ever."""
    rows = [{"x": i % 17 + 0.5, "y": "ab"[i % 17 > 8]} for i in range(80)]
    overrides = ["model.experts=[forest]", "training.refit=none", "training.epochs=1", "model.size=tiny"]
    sm.fit(rows, target="y", overrides=overrides, quiet=True, out=tmp_path / "run")
    sm.load(tmp_path / "run").predict(rows[:3])

    def change(tensors: dict[str, Any]) -> None:
        name = next(n for n in sorted(tensors) if n.endswith(".feature_0"))
        inner = np.flatnonzero(tensors[name] >= 0)[-1] if how != "leaf" else np.flatnonzero(tensors[name] < 0)[0]
        tensors[name.replace("feature", "left")][inner] = {"back": 0, "nowhere": 10**9, "leaf": -5}[how]

    weights(change)(tmp_path / "run")
    with pytest.raises(ArtifactError, match="its trees have"):
        sm.load(tmp_path / "run")


# ── the parts ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_sealed_refuses_whoever_asks(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}", encoding="utf-8")
    checkpoint = Checkpoint(str(tmp_path))
    assert checkpoint.file("config.json")
    with loading_guard(), pytest.raises(ConfigError, match="self-contained"):
        checkpoint.file("config.json")
    assert checkpoint.file("config.json")


BUILDS: dict[str, Callable[[], Any]] = {
    "wide": lambda: nn.Linear(10**9, 10**9),
    "many": lambda: nn.ModuleList(nn.Linear(2, 2) for _ in range(10**9)),
    "many without weights": lambda: nn.ModuleList(nn.Dropout() for _ in range(10**9)),
    "deep recurrent": lambda: nn.LSTM(2, 2, num_layers=10**9),
    "drawn": lambda: torch.randn(10**6, 10**6),
    "counted": lambda: torch.arange(10**12),
    "filled": lambda: torch.full((10**9, 10**3), 1.0),
    "window": lambda: torch.hann_window(10**12),
}


@pytest.mark.parametrize("name", BUILDS)
def test_what_is_larger_than_its_file_is_not_built(name: str) -> None:
    with pytest.raises(ConfigError, match="larger network than the file"), build_budget(1000, 10):
        BUILDS[name]()
    with build_budget(1000, 10):
        assert nn.Linear(10, 10)(torch.ones(10)).shape == (10,)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b'{"a": 1, "a": 2}', "twice"),
        (b"[NaN]", "finite"),
        (b"[1e999]", "too large"),
        (b"[-Infinity]", "finite"),
        (b"[" * 2000, "within each other"),
        (b"[" * (DEEPEST + 2) + b"]" * (DEEPEST + 2), "within each other"),
        (b'["\\udc00"]', "surrogate"),
        (b'{"\\udc00": 1}', "surrogate"),
        (b'"\xff"', "UTF-8"),
        (b" " * 101, "bytes"),
    ],
)
def test_json_that_is_not_read(data: bytes, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        read_json(data, most=100 if message == "bytes" else 10_000)


def test_json_that_is_read() -> None:
    text = '{"a": [1, -2.5e-3, null, true, "é\\u00e9\\ud83d\\ude00"], "b": {"": 123456789012345678901234567890}}'
    assert read_json(text.encode(), most=1000) == {"a": [1, -2.5e-3, None, True, "éé😀"], "b": {"": int("1234567890" * 3)}}
    nested = b"[" * DEEPEST + b"]" * DEEPEST
    assert read_json(nested, most=1000)


def test_a_recipe_with_one_list_in_two_places_is_read_back() -> None:
    """As YAML it would be an alias, which is not read."""
    groups = {"streams": ["a", "b"], "fusion": "gated"}
    recipe = Recipe.parse({"model": {"fusion": {"kind": "compose", "groups": {"x": groups, "y": groups}}}})
    assert "&" not in recipe.to_yaml()
    assert Recipe.parse(read_yaml(recipe.to_yaml())) == recipe
    assert read_yaml('"<<": 1\na: "&b"') == {"<<": 1, "a": "&b"}


def test_a_recipe_that_is_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    import os

    os.mkfifo(tmp_path / "recipe.yaml")
    with pytest.raises(SensoriumError, match="no regular file"):
        Recipe.from_yaml(tmp_path / "recipe.yaml")
    with pytest.raises(OSError, match="no regular file"):
        read_regular(tmp_path, 10)


def test_growth_of_texts() -> None:
    def file(*steps: dict[str, Any]) -> dict[str, Any]:
        return {"normalizer": {"type": "Sequence", "normalizers": list(steps)}}

    def replace(content: str, **pattern: str) -> dict[str, Any]:
        return {"type": "Replace", "pattern": pattern, "content": content}

    check_growth(file(replace("''", String='"'), replace(" ", Regex=" {2,}"), {"type": "NFKC"}, {"type": "Lowercase"}))
    check_growth({"normalizer": None, "pre_tokenizer": {"type": "ByteLevel"}, "decoder": None})
    for steps in (
        [replace("aaaaaaaaaa", String="a")] * 2,
        [replace("x" * 70, String="a")],
        [replace("x" * 70, Regex=".")],
        [replace("x" * 70, String="")],
        [{"type": "Prepend", "prepend": "x" * 70}],
    ):
        with pytest.raises(ValueError, match="times as long"):
            check_growth(file(*steps))
