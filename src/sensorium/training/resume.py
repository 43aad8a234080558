"""Resuming of runs: what a run leaves in its folder so that it can continue from any point of interruption.

out/resume/
  run.json     identity of the run, and whether it is finished
  last.ckpt    checkpoint of its training; removed once the model is saved
  refit/       the same for the final fit
  network-2/   the same for one network of several, and the network once it is trained; removed once the model is saved
  speed.json   the settings that were measured to be fast at the start, if that was asked for
"""

from __future__ import annotations

import hashlib
import json
import shutil
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sensorium.artifact import MANIFEST
from sensorium.core.errors import ConfigError, listed
from sensorium.core.plurals import counted
from sensorium.core.portable_recipe import portable_document
from sensorium.core.recipe import Recipe
from sensorium.core.schema import Schema
from sensorium.data import encoded_rows as encoded
from sensorium.data.files.atomic_write import partial_path, readable_disk_errors, write
from sensorium.reporting.console import Console

LAST = "refit"
"""Name of the folder of the final fit within ``resume``."""
RESTART = "give the same command; or start anew: --overwrite instead of --resume"
MAX_DIFFERENCES = 6
"""Maximum number of differences between two runs that are listed."""
MEMBER = "network-{}"
"""Name of the folder of each of several networks, counted from 1."""


class Resume:
    """The resume folder of one run.

    Args:
        out: The run's folder.
        description: The identity of the run, from ``run_description``.
    """

    def __init__(self, out: Path, description: Mapping[str, Any]) -> None:
        self.out, self.description, self.run = out, description, run_name(description)
        self.checkpoint, self.run_file = out / "resume" / "last.ckpt", out / "resume" / "run.json"

    def begin(self, resume: bool, console: Console) -> bool:
        """Return whether there is a checkpoint to continue from.

        Without ``resume``, an old checkpoint is removed. Notes go to ``console``.

        Raises:
            ConfigError: The checkpoint belongs to another run, or is damaged.
        """
        model = self.out / MANIFEST
        if resume and self.run_file.is_file() and (self.checkpoint.is_file() or model.is_file()):
            stored = self._read()
            if stored.get("run") != self.run:
                what, where = ("checkpoint", self.checkpoint) if self.checkpoint.is_file() else ("model", self.out)
                changes = "; ".join(differences(stored.get("begun"), self.description))
                raise ConfigError(f"the {what} belongs to another run: {changes}", file=where, fix=RESTART)
        if resume and self.checkpoint.is_file() and self.run_file.is_file():
            if not _is_intact(self.checkpoint):
                raise ConfigError(
                    "the checkpoint is damaged", file=self.checkpoint, fix="start anew: --overwrite instead of --resume"
                )
            console.note("resuming from the last checkpoint")
            return True
        with readable_disk_errors(self.out):
            self.checkpoint.unlink(missing_ok=True)
        write(self.run_file, json.dumps({"run": self.run, "begun": self.description}).encode())
        return False

    def is_finished(self) -> bool:
        """Return whether this very run is finished and its model is in the folder."""
        stored = self._read() if self.run_file.is_file() else {}
        return stored.get("run") == self.run and bool(stored.get("finished"))

    def is_same_run(self) -> bool:
        """Return whether the folder is empty or belongs to this very run."""
        return not self.run_file.is_file() or self._read().get("run") == self.run

    def _read(self) -> dict[str, Any]:
        try:
            stored = json.loads(self.run_file.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}
        return stored if isinstance(stored, dict) else {}


def is_complete(out: Path) -> bool:
    """Return whether the folder ``out`` holds a finished run and its model."""
    try:
        stored = json.loads((out / "resume" / "run.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(stored, dict) and bool(stored.get("finished"))


def mark_finished(out: Path) -> None:
    """Record that the model in ``out`` is saved, and remove the checkpoints."""
    named, checkpoint = out / "resume" / "run.json", out / "resume" / "last.ckpt"
    with readable_disk_errors(out):
        remove_inner_runs(out)
        if not named.is_file():
            return  # no network was trained: there is nothing to resume
        run = json.loads(named.read_text(encoding="utf-8"))
        # Kept beside the model, which must not name folders of the machine it was trained on.
        write(named, json.dumps({**portable_document(run), "finished": True}).encode())
        checkpoint.unlink(missing_ok=True)
        partial_path(checkpoint).unlink(missing_ok=True)


def discard(out: Path) -> None:
    """Remove all resume files of ``out``, whose model was not trained by the run that they describe."""
    with readable_disk_errors(out):
        for name in ("run.json", "last.ckpt", "speed.json"):
            (out / "resume" / name).unlink(missing_ok=True)
        remove_inner_runs(out)


def remove_inner_runs(out: Path) -> None:
    """Remove the folders of the final fit and of single networks from ``out``."""
    for folder in (out / "resume" / LAST, *(out / "resume").glob(MEMBER.format("*"))):
        shutil.rmtree(folder, ignore_errors=True)


def load_speed(out: Path, run: str) -> dict[str, Any] | None:
    """Return what ``save_speed`` stored in ``out`` for the run named ``run``; None if there is nothing."""
    try:
        stored = json.loads((out / "resume" / "speed.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return stored["speed"] if isinstance(stored, dict) and stored.get("run") == run else None


def save_speed(out: Path, run: str, speed: Mapping[str, Any]) -> None:
    """Store the measured ``speed`` settings of the run named ``run`` in ``out``, for when it is resumed."""
    with readable_disk_errors(out):
        (out / "resume").mkdir(parents=True, exist_ok=True)
        write(out / "resume" / "speed.json", json.dumps({"run": run, "speed": speed}).encode())


def run_description(
    plan: Recipe, schema: Schema, rows: encoded.Rows, valid: encoded.Rows, processes: int = 1, of: str = ""
) -> dict[str, Any]:
    """Return what a checkpoint must share with the run that resumes it, as plain JSON: recipe, columns and all cells.

    Args:
        plan: The resolved recipe.
        schema: The fitted columns.
        rows: Encoded training rows; ``valid`` are the validation rows.
        processes: The number of processes.
        of: Further identity, such as the shards of a stream.
    """
    columns = {item["name"]: {key: v for key, v in item.items() if key != "name"} for item in schema.to_json()["columns"]}
    return {
        "recipe": plan.model_dump(mode="json", exclude={"columns"}),
        "columns": {name: {key: v for key, v in item.items() if key != "state"} for name, item in columns.items()},
        "learnt": _digest([item.get("state") for item in columns.values()]),
        "rows": [len(rows), len(valid)],
        "cells": {part: encoded_part.contents() for part, encoded_part in (("training", rows), ("validation", valid))},
        "processes": processes,
        "of": of,
    }


def run_name(begun: Mapping[str, Any]) -> str:
    """Return the hash of a run's description ``begun``."""
    return _digest(begun)


def differences(before: object, now: Mapping[str, Any]) -> list[str]:
    """Describe how a run (``now``) differs from the one ``before``: its table first, then its recipe."""
    if not isinstance(before, Mapping) or set(before) != set(now):
        return ["it was started by another version"]
    if portable_document(before) == before:  # as written by ``mark_finished``
        now = portable_document(now)
    recipe = _document_differences(before["recipe"], now["recipe"])
    if any(line.startswith(("seed ", "data.split")) for line in recipe):
        changes = recipe  # and therefore other rows are in each part
    else:
        changes = _table_differences(before, now) + recipe
    if before["processes"] != now["processes"]:
        changes.append(f"{counted(now['processes'], 'process', 'processes')}, and it began with {before['processes']}")
    if before["of"] != now["of"]:
        changes.append("other shards")
    more = len(changes) - MAX_DIFFERENCES
    changes = [*changes[:MAX_DIFFERENCES], f"and {more} more"] if more > 0 else changes
    return changes or ["the fitted state of its columns differs"]


def _table_differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Describe how two tables differ: rows, columns, column options, and finally cells."""
    changes = [
        f"{counted(new, f'{part} row')}, and it began with {old:,}"
        for part, old, new in zip(("training", "validation"), before["rows"], now["rows"], strict=True)
        if old != new
    ]
    old, new = before["columns"], now["columns"]
    for how, names in (("new", set(new) - set(old)), ("no longer there", set(old) - set(new))):
        if names:
            changes.append(f"{how}: {'columns' if len(names) > 1 else 'column'} {listed(map(repr, sorted(names)), 5)}")
    both = [name for name in old if name in new]
    changes += _document_differences({name: old[name] for name in both}, {name: new[name] for name in both}, "columns")
    if changes:
        return changes
    for part, cells in now["cells"].items():
        changed = [name for name, digest in cells.items() if before["cells"][part].get(name) != digest]
        if changed:
            changes.append(f"other cells in the {part} rows: {listed(changed, 5)}")
    return changes


def _document_differences(before: Any, now: Any, path: str = "") -> list[str]:
    """Describe where two documents differ, by path."""
    if isinstance(before, dict) and isinstance(now, dict):
        keys = dict.fromkeys([*before, *now])
        dot = f"{path}." if path else ""
        return [line for key in keys for line in _document_differences(before.get(key), now.get(key), f"{dot}{key}")]
    if before == now:
        return []
    return [f"{path} is {_short(now)}, and was {_short(before)}"]


def _short(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 60 else text[:57] + "…"


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def _is_intact(checkpoint: Path) -> bool:
    """Return whether the checksums of the file are correct."""
    try:
        with zipfile.ZipFile(checkpoint) as archive:
            return archive.testzip() is None
    except (OSError, zipfile.BadZipFile):
        return False
