"""Changes to the files of a saved model or checkpoint, as an attacker could make them."""

from __future__ import annotations

import hashlib
import json
import os
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import yaml

Change = Callable[[Any], Any]
Forge = Callable[[Path], Any]


def resign(run: Path, name: str, data: bytes) -> None:
    """Replace a file and update its digest in the manifest."""
    (run / name).write_bytes(data)
    manifest = json.loads((run / "manifest.json").read_text(encoding="utf-8"))
    manifest["files"][name] = {"sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data)}
    (run / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")


def recipe(change: Change) -> Forge:
    """Return a function that changes the recipe and its digest."""

    def forge(run: Path) -> None:
        document = yaml.safe_load((run / "recipe.yaml").read_text(encoding="utf-8"))
        change(document)
        resign(run, "recipe.yaml", yaml.safe_dump(document, sort_keys=False, allow_unicode=True).encode())

    return forge


def schema(change: Change) -> Forge:
    """Return a function that changes the columns and their fitted state, and the digest of the file."""

    def forge(run: Path) -> None:
        document = json.loads((run / "schema.json").read_text(encoding="utf-8"))
        change({column["name"]: column for column in document["columns"]} | {"": document})
        resign(run, "schema.json", json.dumps(document).encode())

    return forge


def raw(name: str, data: bytes | Change) -> Forge:
    """Return a function that replaces the bytes of a file and its digest."""
    return lambda run: resign(run, name, data if isinstance(data, bytes) else data((run / name).read_bytes()))


def manifest(change: Change) -> Forge:
    """Return a function that changes the manifest."""

    def forge(run: Path) -> None:
        document = json.loads((run / "manifest.json").read_text(encoding="utf-8"))
        change(document)
        (run / "manifest.json").write_text(json.dumps(document), encoding="utf-8")

    return forge


def weights(change: Callable[[dict[str, Any]], Any]) -> Forge:
    """Return a function that changes tensors and the digest of their file."""

    def forge(run: Path) -> None:
        from safetensors.numpy import load, save

        tensors = load((run / "model.safetensors").read_bytes())
        change(tensors)
        resign(run, "model.safetensors", save({k: np.asarray(v, order="C") for k, v in tensors.items()}))

    return forge


def header(change: Change) -> Forge:
    """Return a function that changes the header of a file of weights, but not its values, and the digest of the file."""

    def forge(run: Path) -> None:
        data = (run / "model.safetensors").read_bytes()
        (length,) = struct.unpack("<Q", data[:8])
        document = json.loads(data[8 : 8 + length])
        change(document)
        text = json.dumps(document).encode()
        resign(run, "model.safetensors", struct.pack("<Q", len(text)) + text + data[8 + length :])

    return forge


def pipe(name: str) -> Forge:
    """Return a function that replaces a file with a named pipe, which blocks whoever opens it."""

    def forge(run: Path) -> None:
        (run / name).unlink()
        os.mkfifo(run / name)

    return forge


def link(name: str) -> Forge:
    """Return a function that replaces a file with a symbolic link to it."""

    def forge(run: Path) -> None:
        (run / name).rename(run.parent / name)
        (run / name).symlink_to(run.parent / name)

    return forge


def sparse(run: Path) -> None:
    """Write a sparse file of weights of two terabytes, which takes no space on the disk."""
    text = json.dumps({"w": {"dtype": "F32", "shape": [1 << 39], "data_offsets": [0, 1 << 41]}}).encode()
    with (run / "model.safetensors").open("wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        file.truncate(8 + len(text) + (1 << 41))
    manifest(lambda m: m["files"]["model.safetensors"].update(bytes=8 + len(text) + (1 << 41)))(run)


def filled_with(value: float) -> Callable[[dict[str, Any]], None]:
    """Fill the first tensor with ``value``."""

    def change(tensors: dict[str, Any]) -> None:
        name = first_tensor(tensors)
        tensors[name] = np.full_like(tensors[name], value)

    return change


def first_tensor(tensors: dict[str, Any]) -> str:
    """Return the name of the first non-empty float32 tensor."""
    return min(name for name, value in tensors.items() if value.dtype == np.float32 and value.size)


def growing_tokeniser() -> dict[str, Any]:
    """Return a tokenizer.json whose normaliser replaces each ``a`` with ten, eight times over."""
    grow = {"type": "Replace", "pattern": {"String": "a"}, "content": "a" * 10}
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [],
        "normalizer": {"type": "Sequence", "normalizers": [grow] * 8},
        "pre_tokenizer": None,
        "post_processor": None,
        "decoder": None,
        "model": {"type": "WordLevel", "vocab": {"[UNK]": 0, "a": 1}, "unk_token": "[UNK]"},
    }
