"""The finished runs of a comparison on disk, for resuming."""

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
    """The finished runs of a comparison: figures in ``runs.jsonl``, predictions in ``answers/``.

    Args:
        folder: The comparison's folder.
        identity: The hash of the comparison.

    Raises:
        ConfigError: The folder holds another comparison.
    """

    def __init__(self, folder: Path, identity: str) -> None:
        self.folder, self.identity = folder, identity
        self.path = folder / "runs.jsonl"
        self.lines: dict[tuple[str, int], dict[str, Any]] = {}
        for line in self._read():
            if line["comparison"] != identity:
                raise ConfigError(
                    "the folder holds another comparison: its rows, its recipe or its budget differ",
                    file=folder,
                    fix="give the same command to resume; or name another --out; or replace it: --overwrite",
                )
            self.lines[line["name"], line["seed"]] = line

    def _read(self) -> Iterator[dict[str, Any]]:
        if not self.path.is_file():
            return
        for text in self.path.read_text(encoding="utf-8").splitlines():
            try:
                yield json.loads(text)
            except ValueError:
                continue  # an incomplete line, from an interrupted write

    def has(self, name: str, seed: int) -> bool:
        """Return whether the run of variant ``name`` with ``seed`` is finished."""
        return (name, seed) in self.lines

    def add(self, name: str, seed: int, line: dict[str, Any], kept: Kept) -> None:
        """Record a run: first the state of its scorer, then its line, so that a line implies a complete run.

        Args:
            name: The variant.
            seed: The number of the seed.
            line: The figures of the run.
            kept: The state of its scorer.
        """
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
        """Return the state of the scorer of the run of variant ``name`` with ``seed``."""
        with safe_open(self.state_path(name, seed), "pt") as file:
            return {**{key: file.get_tensor(key) for key in file.keys()}, **json.loads(file.metadata()["plain"])}  # noqa: SIM118

    def state_path(self, name: str, seed: int) -> Path:
        """Return the file of the scorer state of the run of variant ``name`` with ``seed``."""
        key = hashlib.sha256(name.encode()).hexdigest()[:12]
        return self.folder / "answers" / f"{key}-{seed}.safetensors"
