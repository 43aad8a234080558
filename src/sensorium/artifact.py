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
import os
import platform
from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import torch
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors
from torch import Tensor

from sensorium import __version__
from sensorium.core.borrowed_weights import lending
from sensorium.core.decoding_options import Decoding, with_decoding
from sensorium.core.dry_run import try_out
from sensorium.core.errors import ArtifactError, ConfigError, SensoriumError
from sensorium.core.learned_buffers import LearnedBuffers
from sensorium.core.load_guard import loading_guard
from sensorium.core.objective import Objective
from sensorium.core.portable_recipe import portable, portable_document
from sensorium.core.recipe import Recipe, read_yaml
from sensorium.core.registry import build, resolve, split
from sensorium.core.safe_files import open_regular, read_regular
from sensorium.core.safe_json import read_json
from sensorium.core.schema import Schema
from sensorium.core.upgrade import upgrade_columns
from sensorium.data.files.atomic_write import write_together
from sensorium.model import Model, assemble, operate
from sensorium.nn.lora import merge
from sensorium.pretrained.build_budget import build_budget
from sensorium.pretrained.safetensors_header import Header, check_finite, check_fits, header_length, read_header

FORMAT = 2
MANIFEST = "manifest.json"
FILES = ("recipe.yaml", "schema.json", "model.safetensors", "report.json")
OBJECTIVES = "objectives.safetensors"
"""With those that every model has, the only files a manifest may name, so that it cannot lead anywhere else."""
WEIGHTS = "model.safetensors"
TEXT_LIMIT = 256 << 20
MANIFEST_LIMIT = 1 << 20
LONGEST = 1000
"""Characters of a refusal, which may quote what a stranger wrote."""


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
        with loading_guard():
            objectives: list[Objective] = [build("objectives", spec, self.model) for spec in self.recipe.objectives]
        for i, objective in enumerate(objectives):
            mine = {name.partition(".")[2]: t for name, t in self.learnt.items() if name.partition(".")[0] == str(i)}
            try:
                objective.load_state_dict(mine)
            except RuntimeError as error:
                raise ArtifactError(f"what its objectives learnt does not fit them: {_message(error)}") from None
        return objectives

    @property
    def digest(self) -> str:
        """SHA-256 of its columns and weights: what is computed with two models of one digest is comparable."""
        digest = hashlib.sha256(_json(_anywhere(self.schema.to_json())))
        for name, tensor in sorted(self.model.state_dict().items()):
            digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
            digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
        return digest.hexdigest()

    def merged(self, lm: Path | None = None) -> Artifact:
        """The same model with its low-rank updates added to the weights: nothing of them is left to carry or compute.

        ``lm``: the folder that a language model is written to with its own; None: that one keeps its updates.
        """
        model = deepcopy(self.model)
        merge(model)
        kept = [spec for spec in self.recipe.model.surgery if split(spec)[0] != "lora"]
        spec = self.recipe.model.model_copy(update={"surgery": kept})
        folded = {name: task.plain.save_merged(lm) for name, task in model.tasks.items()} if lm is not None else {}
        if lm is not None and any(folded.values()):
            tasks: dict[str, Any] = {
                name: {**(one if isinstance(one, dict) else {"kind": one}), **folded[name]}
                for name, one in spec.tasks.items()
            }
            spec = spec.model_copy(update={"tasks": tasks})
            with lending(lm, lm.parent):
                whole = operate(assemble(spec, self.schema), kept)
            known = model.state_dict()
            whole.load_state_dict({name: known[name] for name in whole.state_dict()})
            model = whole.eval()
        return Artifact(self.recipe.model_copy(update={"model": spec}), self.schema, model, self.report, self.learnt)

    def save(self, folder: str | Path) -> Path:
        """Write the model to ``folder``. Atomic: if killed at any moment, the folder holds a complete model or none.

        A full disk is detected while the previous model is intact.
        """
        folder = Path(folder)
        contents: dict[str, bytes] = {
            "recipe.yaml": portable(self.recipe).to_yaml().encode(),
            "schema.json": _json(_anywhere(self.schema.to_json())),
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
    def load(cls, folder: str | Path, *, lm: str | Path | None = None, decoding: Decoding = None) -> Self:
        """Load a model from ``folder``, verifying every byte first.

        ``lm``: the folder of the language model that it was trained on, which it does not hold, where it has one.
        ``decoding``: options of its tasks that only decide how answers are made: ``{"beam": 5}``.

        Only the folder's own files are read, and those of its language model if their SHA-256 is right. The cost is
        bounded by their size: the network is built only as large
        as the weights file declares, and the weights are read once they are known to fit. Every failure is an
        ``ArtifactError``.
        """
        folder = Path(folder)
        listed = _listed(folder)
        try:
            contents = {name: _read(folder, name, *listed[name]) for name in FILES if name != WEIGHTS}
            recipe = _decoded(_recipe(contents["recipe.yaml"]), decoding or {})
            schema = _schema(folder, contents["schema.json"])
            report = _document(folder / "report.json", contents["report.json"])
            header = _header(folder, WEIGHTS, listed[WEIGHTS][1])
            borrowing = lending(None if lm is None else Path(lm).expanduser(), folder)
            with borrowing, loading_guard(), build_budget(header.elements, len(header.tensors)):
                model = operate(assemble(recipe.model, schema), recipe.model.surgery)
            check_fits(header, model)
            model.load_state_dict(_weights(folder, WEIGHTS, listed))
            for module in model.modules():
                if isinstance(module, LearnedBuffers):
                    module.check()
            learnt = _weights(folder, OBJECTIVES, listed) if OBJECTIVES in listed else {}
            with loading_guard():
                for spec in recipe.objectives:
                    resolve("objectives", spec)
                try_out(schema, model.eval())
        except (ArtifactError, _WrongOptionError):
            raise
        except SensoriumError as error:
            problem = error.problem if len(error.problem) <= LONGEST else f"{error.problem[:LONGEST]}…"
            raise ArtifactError(problem, file=folder, column=error.column, fix=error.fix) from None
        except (Exception, MemoryError) as error:  # whatever a part raises that is built of a stranger's words
            raise ArtifactError(
                f"is inconsistent: {_message(error)}", file=folder, fix="save it again with this version"
            ) from error
        return cls(recipe, schema, model, report, learnt)


class _WrongOptionError(ConfigError):
    """A decoding option, which is of the caller and not of the folder, is wrong."""


def _decoded(recipe: Recipe, options: Mapping[str, Any]) -> Recipe:
    try:
        return with_decoding(recipe, options) if options else recipe
    except ConfigError as error:
        raise _WrongOptionError(error.problem, fix=error.fix) from None


def schema_in(folder: str | Path) -> Schema:
    """The columns of the model saved in ``folder``, without its weights. Their file is verified as when the model is
    loaded."""
    listed = _listed(Path(folder))
    data = _read(Path(folder), "schema.json", *listed["schema.json"])
    return _schema(Path(folder), data)


def _schema(folder: Path, data: bytes) -> Schema:
    """The fitted columns, whichever format they were saved in."""
    return Schema.from_json(upgrade_columns(_document(folder / "schema.json", data)))


def _recipe(data: bytes) -> Recipe:
    recipe = Recipe.parse(read_yaml(data), source="recipe.yaml")
    nested = _unread_checkpoint(recipe.model_dump(include={"model", "objectives"}))
    if nested is not None:
        raise ArtifactError(f"names a checkpoint ({nested[:100]!r}), and does not hold what was read of it")
    return recipe


def _unread_checkpoint(document: Any) -> str | None:
    """A checkpoint that would have to be looked for elsewhere, at any depth: fit writes what is needed beside its name."""
    below: list[Any] = [document]
    while below:
        item = below.pop()
        if isinstance(item, Mapping):
            if item.get("checkpoint") is not None and item.get("config") is None:
                return str(item["checkpoint"])
            below += item.values()
        elif isinstance(item, (list, tuple)):
            below += item
    return None


def _message(error: BaseException) -> str:
    """What an error says, in one line, with its type where that is all it says."""
    text = " ".join(str(error).split())[:300]
    return text if " " in text else f"{type(error).__name__} {text}".strip()


def _listed(folder: Path) -> dict[str, tuple[str, int]]:
    """SHA-256 and size of every file, as the manifest has them."""
    if not folder.is_dir():
        problem = "is a file, not the folder of a model" if folder.is_file() else "there is no such folder"
        raise ArtifactError(problem, file=folder, fix="give the folder that fit wrote (--out)")
    path = folder / MANIFEST
    if not path.is_file() and not path.is_symlink():
        if not any((folder / name).exists() for name in FILES):
            raise ArtifactError(
                "holds no finished model, nor a part of one", file=folder, fix="give the folder that fit wrote (--out)"
            )
        raise ArtifactError(
            f"holds no finished model: {MANIFEST} is absent", file=folder, fix="train again, or wait: it is written last"
        )
    try:
        manifest = read_json(read_regular(path, MANIFEST_LIMIT), most=MANIFEST_LIMIT)
        files: Mapping[str, Mapping[str, Any]] = manifest["files"]
        version = manifest["format"]
        listed = {name: (entry["sha256"], entry["bytes"]) for name, entry in files.items()}
        for name, (digest, size) in listed.items():
            if type(digest) is not str or type(size) is not int:
                raise ValueError(f"SHA-256 and size of {name[:60]!r} are of the wrong type")
        if type(version) is not int or version < 1:
            raise ValueError(f"format {str(version)[:60]!r} is none")
    except (OSError, ArithmeticError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ArtifactError(f"is not a manifest: {_message(error)}", file=path) from None
    if version > FORMAT:
        raise ArtifactError(f"format {version} is newer than this library", file=path, fix="pip install -U sensorium")
    if set(listed) - {OBJECTIVES} != set(FILES):
        raise ArtifactError(f"names {sorted(listed)[:20]}; it must name {sorted(FILES)}", file=path)
    return listed


def _read(folder: Path, name: str, digest: str, size: int, most: int | None = None) -> bytes:
    """A file that is what the manifest says."""
    file = folder / name
    try:
        with os.fdopen(_opened(file, size), "rb") as opened:
            if most is None and size > TEXT_LIMIT:
                raise ArtifactError(f"has {size:,} bytes, and {TEXT_LIMIT:,} are read at most", file=file)
            data = opened.read(size)
    except OSError as error:
        raise ArtifactError(f"cannot be read: {error.strerror}", file=file, fix="copy the whole folder") from None
    if hashlib.sha256(data).hexdigest() != digest:
        raise ArtifactError("is not the file that was saved: its SHA-256 differs", file=file, fix="copy it again")
    return data


def _opened(file: Path, size: int) -> int:
    """A descriptor of the file if it is a regular one of this size."""
    if file.is_symlink():
        raise ArtifactError("is not the file that was saved: it is a symbolic link", file=file, fix="copy it again")
    handle = open_regular(file)
    if os.fstat(handle).st_size != size:
        os.close(handle)
        raise ArtifactError("is not the file that was saved: its size differs", file=file, fix="copy it again")
    return handle


def _document(file: Path, data: bytes) -> dict[str, Any]:
    try:
        document = read_json(data, most=TEXT_LIMIT)
        if not isinstance(document, dict):
            raise ValueError("it is no mapping")
    except ValueError as error:
        raise ArtifactError(f"is inconsistent: {error}", file=file, fix="save it again with this version") from None
    return document


def _header(folder: Path, name: str, size: int) -> Header:
    """What a file of weights says it holds; of the numbers nothing is read yet."""
    file = folder / name
    try:
        with os.fdopen(_opened(file, size), "rb") as opened:
            return read_header(opened.read(header_length(opened.read(8))), size)
    except OSError as error:
        raise ArtifactError(f"cannot be read: {error.strerror}", file=file, fix="copy the whole folder") from None
    except ValueError as error:
        raise ArtifactError(f"is inconsistent: {error}", file=file, fix="copy it again") from None


def _weights(folder: Path, name: str, listed: Mapping[str, tuple[str, int]]) -> dict[str, Tensor]:
    """All numbers of a file, which are finite."""
    _header(folder, name, listed[name][1])
    tensors = load_tensors(_read(folder, name, *listed[name], most=listed[name][1]))
    try:
        check_finite(tensors)
    except ValueError as error:
        raise ArtifactError(f"is inconsistent: {error}", file=folder / name, fix="train again") from None
    return tensors


def _anywhere(schema: Mapping[str, Any]) -> dict[str, Any]:
    """The schema without paths in the options of its columns; what was learnt is left as it is."""
    columns = [{**column, "spec": portable_document(column["spec"])} for column in schema["columns"]]
    return {**schema, "columns": columns}


def _tensors(tensors: Mapping[str, Tensor]) -> bytes:
    return save_tensors({name: t.detach().cpu().contiguous() for name, t in tensors.items()})


def _json(data: Any) -> bytes:
    return json.dumps(data, ensure_ascii=False, indent=1, allow_nan=False).encode()


def _torch_version() -> str:
    return str(torch.__version__)
