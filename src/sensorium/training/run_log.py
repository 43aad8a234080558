"""The finished runs of a comparison on disk, so that a stopped one goes on."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from safetensors import safe_open
from safetensors.torch import save as save_tensors
from torch import Tensor

from sensorium.core.errors import ConfigError
from sensorium.core.scorer import Kept
from sensorium.data.files.atomic_write import write


class RunLog:
    """The runs of a comparison on disk: ``runs.jsonl``, and what each answered in ``answers/``."""

    def __init__(self, folder: Path, identity: str) -> None:
        self.folder, self.identity = folder, identity
        self.path = folder / "runs.jsonl"
        self.lines: dict[tuple[str, int], dict[str, Any]] = {}
        for line in self._read():
            if line["comparison"] != identity:
                raise ConfigError(
                    "the folder holds another comparison: its rows, its recipe or its budget differ",
                    file=folder,
                    fix="give the same command to go on; or name another --out; or replace it: --overwrite",
                )
            self.lines[line["name"], line["seed"]] = line

    def _read(self) -> Iterator[dict[str, Any]]:
        if not self.path.is_file():
            return
        for text in self.path.read_text(encoding="utf-8").splitlines():
            try:
                yield json.loads(text)
            except ValueError:
                continue  # the line that was being written when the run was stopped

    def has(self, name: str, seed: int) -> bool:
        return (name, seed) in self.lines

    def add(self, name: str, seed: int, line: dict[str, Any], kept: Kept) -> None:
        """Keep a run: first what its scorer kept, then its line, so that a line means a whole run."""
        file = self.state_path(name, seed)
        file.parent.mkdir(exist_ok=True)
        tensors = {key: value.contiguous() for key, value in kept.items() if isinstance(value, Tensor)}
        plain = {key: value for key, value in kept.items() if key not in tensors}
        write(file, save_tensors(tensors, {"plain": json.dumps(plain)}))
        line = {"comparison": self.identity, "name": name, "seed": seed, **line}
        with open(self.path, "a", encoding="utf-8") as out:
            out.write(json.dumps(line) + "\n")
        self.lines[name, seed] = line

    def scorer_state(self, name: str, seed: int) -> Kept:
        """What the scorer of a run kept."""
        with safe_open(self.state_path(name, seed), "pt") as file:
            return {**{key: file.get_tensor(key) for key in file.keys()}, **json.loads(file.metadata()["plain"])}  # noqa: SIM118

    def state_path(self, name: str, seed: int) -> Path:
        key = hashlib.sha256(name.encode()).hexdigest()[:12]
        return self.folder / "answers" / f"{key}-{seed}.safetensors"
