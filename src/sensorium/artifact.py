"""A trained model on disk: JSON, YAML and safetensors in a folder. Loading it cannot run code.

run/
  manifest.json            format, versions, SHA-256 and size of each file below; written last
  recipe.yaml              resolved: everything that was chosen
  schema.json              columns with their fitted state
  model.safetensors        weights
  report.json              scores on the validation rows, and the course of training
  objectives.safetensors   weights that only training needed (projections, decoders), where objectives learnt some
"""

from __future__ import annotations

import hashlib
import json
import platform
from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import yaml
from safetensors import SafetensorError
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors
from torch import Tensor

from sensorium import __version__
from sensorium.core.contracts import Objective
from sensorium.core.errors import ArtifactError, SensoriumError
from sensorium.core.recipe import Recipe, read_yaml
from sensorium.core.registry import build, split
from sensorium.core.schema import Schema
from sensorium.data.whole import write_together
from sensorium.model import Model, assemble, operate
from sensorium.nn.lora import merge

FORMAT = 1
MANIFEST = "manifest.json"
FILES = ("recipe.yaml", "schema.json", "model.safetensors", "report.json")
OBJECTIVES = "objectives.safetensors"
"""With those that every model has, the only files a manifest may name, so that it cannot lead anywhere else."""
TEXT_LIMIT = 256 << 20


@dataclass
class Artifact:
    """What training leaves behind: the resolved recipe, the fitted schema, the model, and how it scored.

    ``learnt``: what the objectives learnt, by the objective's place in the recipe and the tensor's name in it.
    """

    recipe: Recipe
    schema: Schema
    model: Model
    report: dict[str, Any] = field(default_factory=dict)
    learnt: dict[str, Tensor] = field(default_factory=dict)

    def objectives(self) -> list[Objective]:
        """The objectives as training left them, on this model: a further training may go on from them."""
        found: list[Objective] = [build("objectives", spec, self.model) for spec in self.recipe.objectives]
        for i, objective in enumerate(found):
            mine = {name.partition(".")[2]: t for name, t in self.learnt.items() if name.partition(".")[0] == str(i)}
            objective.load_state_dict(mine)
        return found

    def merged(self) -> Artifact:
        """The same model with its low-rank updates added to the weights: nothing of them is left to carry or compute."""
        model = deepcopy(self.model)
        merge(model)
        kept = [spec for spec in self.recipe.model.surgery if split(spec)[0] != "lora"]
        spec = self.recipe.model.model_copy(update={"surgery": kept})
        return Artifact(self.recipe.model_copy(update={"model": spec}), self.schema, model, self.report, self.learnt)

    def save(self, folder: str | Path) -> Path:
        """Write the folder. Killed at any moment, it holds a whole model or none that loads: never a mixture.

        A full disk is met while the model that was there before is still whole.
        """
        folder = Path(folder)
        contents: dict[str, bytes] = {
            "recipe.yaml": self.recipe.to_yaml().encode(),
            "schema.json": _json(self.schema.to_json()),
            "model.safetensors": _tensors(self.model.state_dict()),
            "report.json": _json(self.report),
            **({OBJECTIVES: _tensors(self.learnt)} if self.learnt else {}),
        }
        manifest = {
            "format": FORMAT,
            "sensorium": __version__,
            "torch": _torch_version(),
            "python": platform.python_version(),
            "files": {
                name: {"sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data)} for name, data in contents.items()
            },
        }
        write_together(folder, {**contents, MANIFEST: _json(manifest)}, last=MANIFEST)
        return folder

    @classmethod
    def load(cls, folder: str | Path) -> Self:
        """Read a folder that ``save`` wrote, checking every byte first."""
        contents = _checked(Path(folder))
        try:
            recipe = Recipe.parse(read_yaml(contents["recipe.yaml"]), source="recipe.yaml")
            schema = Schema.from_json(json.loads(contents["schema.json"]))
            report = json.loads(contents["report.json"])
            _alone(recipe)
            model = operate(assemble(recipe.model, schema), recipe.model.surgery)
            model.load_state_dict(load_tensors(contents["model.safetensors"]))
            learnt = load_tensors(contents[OBJECTIVES]) if OBJECTIVES in contents else {}
        except SensoriumError as error:
            raise ArtifactError(error.problem, file=folder, column=error.column, fix=error.fix) from None
        except (LookupError, TypeError, ValueError, AttributeError, RuntimeError, SafetensorError, yaml.YAMLError) as error:
            raise ArtifactError(
                f"does not hold together: {error}", file=folder, fix="save it again with this version"
            ) from error
        model.eval()
        return cls(recipe, schema, model, report, learnt)


def schema_in(folder: str | Path) -> Schema:
    """The columns of a saved model, without the model. Every byte is checked, as when it is loaded."""
    return Schema.from_json(json.loads(_checked(Path(folder))["schema.json"]))


def _alone(recipe: Recipe) -> None:
    """Refuse a model that would have to look for a checkpoint elsewhere: fit writes what is needed into the recipe."""
    parts = [*recipe.model.encoders.values(), *([recipe.model.fusion] if recipe.model.fusion is not None else [])]
    for kind, options in map(split, parts):
        if options.get("checkpoint") is not None and options.get("config") is None:
            raise ArtifactError(f"{kind} names a checkpoint, and does not hold what was read of it")


def _checked(folder: Path) -> dict[str, bytes]:
    if not folder.is_dir():
        raise ArtifactError("there is no such folder", file=folder, fix="give the folder that fit wrote (--out)")
    path = folder / MANIFEST
    if not path.is_file():
        raise ArtifactError(
            f"holds no finished model: {MANIFEST} is absent", file=folder, fix="train again, or wait: it is written last"
        )
    try:
        if path.stat().st_size > TEXT_LIMIT:
            raise ValueError("too large")
        manifest = json.loads(path.read_bytes())
        files: Mapping[str, Mapping[str, Any]] = manifest["files"]
        version = int(manifest["format"])
        listed = {name: (str(entry["sha256"]), int(entry["bytes"])) for name, entry in files.items()}
    except (OSError, ArithmeticError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ArtifactError(f"is not a manifest: {error}", file=path) from None
    if version > FORMAT:
        raise ArtifactError(f"format {version} is newer than this library", file=path, fix="pip install -U sensorium")
    if set(listed) - {OBJECTIVES} != set(FILES):
        raise ArtifactError(f"names {sorted(listed)}; it must name {sorted(FILES)}", file=path)
    contents = {}
    for name, (digest, size) in listed.items():
        file = folder / name
        try:
            if file.is_symlink() or file.stat().st_size != size:
                raise ArtifactError("is not the file that was saved: its size differs", file=file, fix="copy it again")
            contents[name] = file.read_bytes()
        except OSError as error:
            raise ArtifactError(f"cannot be read: {error.strerror}", file=file, fix="copy the whole folder") from None
        if hashlib.sha256(contents[name]).hexdigest() != digest:
            raise ArtifactError("is not the file that was saved: its SHA-256 differs", file=file, fix="copy it again")
    return contents


def _tensors(tensors: Mapping[str, Tensor]) -> bytes:
    return save_tensors({name: t.detach().cpu().contiguous() for name, t in tensors.items()})


def _json(data: Any) -> bytes:
    return json.dumps(data, ensure_ascii=False, indent=1, allow_nan=False).encode()


def _torch_version() -> str:
    import torch

    return str(torch.__version__)
