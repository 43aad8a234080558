"""Checkpoint folders from untrusted sources, as ``fit`` reads them."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

import sensorium as sm
from benchmarks.hostile.confinement import alone, check_message
from benchmarks.hostile.forging import Change, Forge, filled_with, growing_tokeniser
from sensorium.core.errors import SensoriumError


def _json(name: str, change: Change) -> Forge:
    def forge(folder: Path) -> None:
        document = json.loads((folder / name).read_text(encoding="utf-8"))
        result = change(document)
        (folder / name).write_text(json.dumps(document if result is None else result), encoding="utf-8")

    return forge


def _cut(name: str) -> Forge:
    return lambda folder: (folder / name).write_bytes((folder / name).read_bytes()[:-40])


def _tensors(change: Callable[[dict[str, Any]], Any]) -> Forge:
    def forge(folder: Path) -> None:
        from safetensors.numpy import load_file, save_file

        tensors = load_file(folder / "model.safetensors")
        change(tensors)
        kept = {k: np.asarray(v, order="C") for k, v in tensors.items()}
        save_file(kept, folder / "model.safetensors", metadata={"format": "pt"})

    return forge


def _setting(name: str, value: Any) -> Forge:
    return _json("config.json", lambda c: c.update({name: value}))


def _instead(name: str) -> Forge:
    def forge(folder: Path) -> None:
        (folder / name).unlink()
        os.mkfifo(folder / name)

    return forge


CHECKPOINTS: dict[str, tuple[str, Forge]] = {
    "config.json cut short": ("bert", _cut("config.json")),
    "config.json a list": ("bert", lambda f: (f / "config.json").write_text("[]")),
    "config.json of brackets": ("bert", lambda f: (f / "config.json").write_text("[" * 100_000)),
    "config.json not UTF-8": ("bert", lambda f: (f / "config.json").write_bytes(b'{"model_type": "\xff"}')),
    "config.json a pipe": ("bert", _instead("config.json")),
    "config.json absent": ("bert", lambda f: (f / "config.json").unlink()),
    "a model_type that is a list": ("bert", _setting("model_type", ["bert"])),
    "a width in words": ("bert", _setting("hidden_size", "wide")),
    "a width of zero": ("bert", _setting("hidden_size", 0)),
    "a negative width": ("bert", _setting("hidden_size", -16)),
    "a width of a milliard": ("bert", _setting("hidden_size", 10**9)),
    "a milliard layers": ("bert", _setting("num_hidden_layers", 10**9)),
    "four thousand layers": ("bert", _setting("num_hidden_layers", 4000)),
    "a vocabulary of a milliard": ("bert", _setting("vocab_size", 10**9)),
    "a width that its weights are not": ("bert", _setting("hidden_size", 32)),
    "more positions than it has": ("bert", _setting("max_position_embeddings", 48)),
    "positions in words": ("bert", _setting("max_position_embeddings", "many")),
    "an activation that is none": ("bert", _setting("hidden_act", "os.system")),
    "padding of an id that is a list": ("bert", _setting("pad_token_id", [1])),
    "pictures of no size": ("vit", _setting("image_size", 0)),
    "pictures of a size in words": ("vit", _setting("image_size", "large")),
    "a patch of zero": ("vit", _setting("patch_size", 0)),
    "a processor that is a list": ("vit", lambda f: (f / "preprocessor_config.json").write_text("[1]")),
    "a processor with sizes in words": (
        "vit",
        lambda f: (f / "preprocessor_config.json").write_text('{"size": {"height": "tall"}}'),
    ),
    "weights cut short": ("bert", _cut("model.safetensors")),
    "weights of nothing": ("bert", lambda f: (f / "model.safetensors").write_bytes(b"")),
    "weights a pipe": ("bert", _instead("model.safetensors")),
    "weights that are NaN": ("bert", _tensors(filled_with(np.nan))),
    "weights that are infinite": ("vit", _tensors(filled_with(-np.inf))),
    "weights of another shape": ("bert", _tensors(lambda t: t.update({k: v[:-1] for k, v in t.items()}))),
    "weights of another model": ("vit", _tensors(lambda t: (t.clear(), t.update(x=np.zeros(4, np.float32))))),
    "weights pickled": ("bert", lambda f: (f / "model.safetensors").rename(f / "pytorch_model.bin")),
    "an index of weights that leads out": (
        "bert",
        lambda f: (
            (f / "model.safetensors").unlink(),
            (f / "model.safetensors.index.json").write_text('{"weight_map": {"a": "../../etc/passwd"}}'),
        ),
    ),
    "an index of weights that is a list": (
        "bert",
        lambda f: (
            (f / "model.safetensors").unlink(),
            (f / "model.safetensors.index.json").write_text('{"weight_map": [1]}'),
        ),
    ),
    "tokenizer.json absent": ("bert", lambda f: (f / "tokenizer.json").unlink()),
    "tokenizer.json cut short": ("bert", _cut("tokenizer.json")),
    "tokenizer.json without a model": ("bert", _json("tokenizer.json", lambda t: {"version": "1.0"})),
    "tokenizer.json that makes a text long": (
        "bert",
        lambda f: (f / "tokenizer.json").write_text(json.dumps(growing_tokeniser())),
    ),
    "tokenizer.json that puts a page between any two letters": (
        "bert",
        _json(
            "tokenizer.json",
            lambda t: t.update(normalizer={"type": "Replace", "pattern": {"Regex": ""}, "content": "x" * 3000}),
        ),
    ),
    "tokenizer.json with tokens that are numbers": ("bert", _json("tokenizer.json", lambda t: t.update(added_tokens=[1]))),
    "tokenizer.json of more words than the network": (
        "bert",
        _json("tokenizer.json", lambda t: t["model"]["vocab"].update({f"w{i}": 100 + i for i in range(500)})),
    ),
    "lxmert: layers in words": ("lxmert", _setting("x_layers", "two")),
    "lxmert: a milliard layers": ("lxmert", _setting("x_layers", 10**9)),
    "lxmert: weights of another shape": ("lxmert", _tensors(lambda t: t.update({k: v[:-1] for k, v in t.items()}))),
    "lxmert: weights that are NaN": ("lxmert", _tensors(filled_with(np.nan))),
}


def _rows(kind: str, folder: Path) -> list[dict[str, Any]]:
    from PIL import Image

    words = ("red dress", "blue shoes", "the cat sat on the mat", "a warm and soft dog")
    rows = []
    for i in range(16):
        if kind == "vit":
            Image.new("RGB", (16, 16), (i * 10, 0, 0)).save(folder / f"{i}.png")
        cell = {"x": f"{i}.png"} if kind == "vit" else {"x": f"{words[i % 4]} {i % 3} good"}
        rows.append({**cell, "z": str(i / 2), "y": "ab"[i % 2]})
    return rows


def fitted(kind: str, forge: Forge, folder: Path) -> None:
    """Check that ``fit`` refuses to start from a forged checkpoint."""
    from sensorium.testing.checkpoints import tiny

    inputs = folder / "checkpoint"
    shutil.copytree(tiny(kind), inputs)
    forge(inputs)
    rows = _rows(kind, folder)
    part = "model.fusion" if kind == "lxmert" else "model.encoders.x"
    named = {"kind": "lxmert" if kind == "lxmert" else "huggingface", "checkpoint": str(inputs)}
    overrides = [f"{part}={json.dumps(named)}", "model.size=tiny", "training.epochs=1", "model.experts=[]"]
    os.environ["SENSORIUM_CACHE"] = str(folder / "cache")
    with alone(folder):
        try:
            columns = {"x": "image" if kind == "vit" else "text", "z": "number"}
            sm.fit(rows, target="y", columns=columns, media=folder, overrides=overrides, quiet=True)
        except SensoriumError as error:
            check_message(error)
            return
    raise AssertionError("it was trained with")
