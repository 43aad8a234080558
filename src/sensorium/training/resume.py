"""What a run leaves in its folder so that it can be taken up where it was stopped, at whatever moment that was.

out/resume/
  run.json     which run this is, and whether it is finished
  last.ckpt    where its training stands; gone once the model is saved
  network-2/   the same of one of several networks, and the network itself once it is trained; gone once the model is saved
  speed.json   the settings that were measured to be fast when it began, where that was asked for
"""

from __future__ import annotations

import hashlib
import json
import shutil
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sensorium.console import Console
from sensorium.core.errors import ConfigError
from sensorium.core.recipe import Recipe
from sensorium.core.schema import Schema
from sensorium.data import rows as encoded
from sensorium.data.whole import part_of, told, write

LAST = "refit"
"""The folder of the last fit, on all rows, within that of the run."""
MEMBER = "network-{}"
"""That of each of several networks, counted from 1."""
ANEW = "give the same command, or leave out --resume to start anew"


class Resume:
    """The resume folder of one run."""

    def __init__(self, out: Path, run: str) -> None:
        self.out, self.run = out, run
        self.checkpoint, self.named = out / "resume" / "last.ckpt", out / "resume" / "run.json"

    def begin(self, resume: bool, console: Console) -> bool:
        """Whether there is a checkpoint to go on from. Another run's is refused, or removed where nothing is resumed."""
        if resume and self.checkpoint.is_file() and self.named.is_file():
            if self._told().get("run") != self.run:
                problem = "the checkpoint belongs to another run: its recipe or its rows differ"
                raise ConfigError(problem, file=self.checkpoint, fix=ANEW)
            if not _whole(self.checkpoint):
                raise ConfigError("the checkpoint is damaged", file=self.checkpoint, fix="leave out --resume to start anew")
            console.note("going on from the last checkpoint")
            return True
        with told(self.out):
            self.checkpoint.unlink(missing_ok=True)
        write(self.named, json.dumps({"run": self.run}).encode())
        return False

    def finished(self) -> bool:
        """Whether this very run came to its end and its model lies in the folder."""
        found = self._told() if self.named.is_file() else {}
        return found.get("run") == self.run and bool(found.get("finished"))

    def known(self) -> bool:
        """Whether what lies in the folder, if anything, is of this very run."""
        return not self.named.is_file() or self._told().get("run") == self.run

    def _told(self) -> dict[str, object]:
        try:
            found = json.loads(self.named.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}
        return found if isinstance(found, dict) else {}


def complete(out: Path) -> bool:
    """Whether the run in a folder came to its end, and its model lies there."""
    try:
        found = json.loads((out / "resume" / "run.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(found, dict) and bool(found.get("finished"))


def finish(out: Path) -> None:
    """The model is safe: note it, and let the checkpoints go."""
    named, checkpoint = out / "resume" / "run.json", out / "resume" / "last.ckpt"
    with told(out):
        parted(out)
        if not named.is_file():
            return  # no network was trained: there is nothing to go on from
        run = json.loads(named.read_text(encoding="utf-8"))["run"]
        write(named, json.dumps({"run": run, "finished": True}).encode())
        checkpoint.unlink(missing_ok=True)
        part_of(checkpoint).unlink(missing_ok=True)


def forget(out: Path) -> None:
    """What was trained here in one run is not what lies here now: nothing goes on from it."""
    with told(out):
        for name in ("run.json", "last.ckpt", "speed.json"):
            (out / "resume" / name).unlink(missing_ok=True)
        parted(out)


def parted(out: Path) -> None:
    """The folders of the trainings within a run are gone."""
    for folder in (out / "resume" / LAST, *(out / "resume").glob(MEMBER.format("*"))):
        shutil.rmtree(folder, ignore_errors=True)


def measured(out: Path, run: str) -> dict[str, Any] | None:
    """What ``remember`` kept of a run, where it is this one."""
    try:
        found = json.loads((out / "resume" / "speed.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return found["speed"] if isinstance(found, dict) and found.get("run") == run else None


def remember(out: Path, run: str, speed: Mapping[str, Any]) -> None:
    """Keep what was measured of the speed of a run, for whoever takes it up."""
    with told(out):
        (out / "resume").mkdir(parents=True, exist_ok=True)
        write(out / "resume" / "speed.json", json.dumps({"run": run, "speed": speed}).encode())


def identity(plan: Recipe, schema: Schema, rows: encoded.Rows, valid: encoded.Rows, ranks: int = 1, of: str = "") -> str:
    """What a checkpoint must share with the run that takes it up: recipe, fitted columns, processes, targets in order.

    Args:
        of: What else it is a run of, such as the shards of a stream.
    """
    h = hashlib.sha256(json.dumps([plan.model_dump(), schema.to_json(), ranks], sort_keys=True).encode())
    h.update(of.encode())
    for part in (rows, valid):
        part.digest(h.update)
    return h.hexdigest()


def _whole(checkpoint: Path) -> bool:
    """Whether every byte is as it was written."""
    try:
        with zipfile.ZipFile(checkpoint) as archive:
            return archive.testzip() is None
    except (OSError, zipfile.BadZipFile):
        return False
