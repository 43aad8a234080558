"""Pretrained checkpoints: location, metadata and weights, read without executing code."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from sensorium.core.errors import ConfigError, MissingExtraError
from sensorium.core.load_guard import check_open
from sensorium.core.safe_files import open_regular, read_regular
from sensorium.core.safe_json import read_json
from sensorium.pretrained.safetensors_header import check_finite, header_length, read_header

SAFE = ("model.safetensors", "model.safetensors.index.json")
PICKLED = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.msgpack", "*.h5")
_TEXT_LIMIT = 256 << 20
_MOST_TOKENS = 1 << 24


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint: a folder written by ``save_pretrained``, or a model name on the Hugging Face hub (``owner/name``).

    Only JSON and safetensors are read; code in a repository is ignored.
    """

    name: str

    def file(self, name: str) -> Path | None:
        """Return the path of the file ``name``; None if there is none. Downloads from the hub unless ``HF_HUB_OFFLINE``
        is set.
        """
        check_open(self.name)
        folder = Path(self.name).expanduser()
        if folder.is_dir():
            path = folder / name
            # Anything that exists: special files such as pipes are refused when read.
            return path if path.exists() or path.is_symlink() else None
        if not re.fullmatch(r"[\w.-]+(/[\w.-]+)?", self.name) or self.name.startswith("."):
            raise ConfigError(
                f"checkpoint: there is no folder {self.name!r}", fix="give a folder, or owner/name of the hub"
            )
        try:
            from transformers.utils import cached_file
        except ImportError:
            raise MissingExtraError("a pretrained checkpoint", "hf") from None
        why = "it is not there, or this machine is offline"
        try:
            cached = cached_file(self.name, name, _raise_exceptions_for_missing_entries=False)
        except OSError as error:
            cached, why = None, str(error).strip().splitlines()[0]
        if cached is None and name == "config.json":
            raise ConfigError(
                f"checkpoint {self.name!r} is not a local folder, and cannot be downloaded from the hub: {why}",
                fix="check the name and the connection, or fetch it elsewhere and give its folder",
            )
        return None if cached is None else Path(cached)

    def json(self, name: str) -> dict[str, Any]:
        """Return the JSON object in the file ``name``; empty if there is no file."""
        path = self.file(name)
        if path is None:
            return {}
        try:
            # The hub's cache consists of symbolic links.
            data = read_json(read_regular(path, _TEXT_LIMIT, links=True), most=_TEXT_LIMIT)
        except (OSError, ValueError) as error:
            problem = getattr(error, "strerror", None) or error
            raise ConfigError(f"checkpoint: is not readable JSON: {problem}", file=path) from None
        if not isinstance(data, dict):
            raise ConfigError("checkpoint: is not a JSON object", file=path)
        return data

    def text(self, name: str) -> str | None:
        """Return the text of the file ``name``; None if there is no file."""
        path = self.file(name)
        try:
            return None if path is None else read_regular(path, _TEXT_LIMIT, links=True).decode("utf-8")
        except (OSError, ValueError) as error:
            problem = getattr(error, "strerror", None) or error
            raise ConfigError(f"checkpoint: is not readable text: {problem}", file=path) from None

    @cached_property
    def config(self) -> dict[str, Any]:
        """The contents of ``config.json``."""
        settings = self.json("config.json")
        if not isinstance(settings.get("model_type"), str):
            raise ConfigError(
                f"checkpoint {self.name!r} has no config.json with a model_type",
                fix="give a folder as save_pretrained of transformers writes it",
            )
        return settings

    @cached_property
    def processor(self) -> dict[str, Any]:
        """The preprocessing settings for images or audio."""
        settings = self.json("preprocessor_config.json")
        if not settings:
            parts = self.json("processor_config.json")
            settings = parts.get("image_processor") or parts.get("feature_extractor") or {}
        if not isinstance(settings, dict):
            raise ConfigError(f"checkpoint {self.name!r}: the settings of its processor are not a mapping")
        return settings

    @cached_property
    def pad(self) -> int:
        """The token id of padding."""
        named = self.json("tokenizer_config.json").get("pad_token")
        named = named.get("content") if isinstance(named, dict) else named
        try:
            token_id = int(self.config.get("pad_token_id") or 0)
            for token in self.json("tokenizer.json").get("added_tokens") or []:
                if named is not None and token.get("content") == named:
                    token_id = int(token["id"])
                    break
        except (AttributeError, KeyError, TypeError, ValueError):
            raise ConfigError(f"checkpoint {self.name!r}: its padding settings are invalid") from None
        if not 0 <= token_id < _MOST_TOKENS:
            raise ConfigError(f"checkpoint {self.name!r}: its padding id {token_id} is not a token id")
        return token_id

    def check_weights(self) -> None:
        """Raise ``ConfigError`` if weights are missing or pickled: unpickling can run arbitrary code."""
        if any(self.file(name) is not None for name in SAFE):
            return
        folder = Path(self.name).expanduser()
        pickled = sorted(path.name for pattern in PICKLED for path in folder.glob(pattern)) if folder.is_dir() else []
        raise ConfigError(
            f"checkpoint {self.name!r} has no weights as safetensors"
            + (f", only {', '.join(pickled)}, which could run code when loaded" if pickled else ""),
            fix="where you trust it: transformers' from_pretrained(...).save_pretrained(folder) writes model.safetensors",
        )

    def parts(self) -> list[Path]:
        """Return the paths of the weight files, which must lie in the same folder."""
        self.check_weights()
        index = self.json("model.safetensors.index.json").get("weight_map")
        try:
            names = sorted(set(index.values())) if index else ["model.safetensors"]
            named = {name: Path(name).name == name for name in names}
        except (AttributeError, TypeError):
            raise ConfigError(f"checkpoint {self.name!r}: its index of weights is not readable") from None
        paths = []
        for name in names:
            path = self.file(name) if named[name] else None
            if path is None:
                raise ConfigError(f"checkpoint {self.name!r} lacks {name[:100]!r}", fix="copy the whole folder")
            paths.append(path)
        return paths

    @cached_property
    def held(self) -> tuple[int, int]:
        """The total number of elements and of tensors of the weights, from the file headers."""
        elements = tensors = 0
        for path in self.parts():
            try:
                with os.fdopen(open_regular(path, links=True), "rb") as file:
                    size = os.fstat(file.fileno()).st_size
                    header = read_header(file.read(header_length(file.read(8))), size)
            except (OSError, ValueError) as error:
                problem = getattr(error, "strerror", None) or error
                raise ConfigError(f"checkpoint: its weights cannot be read: {problem}", file=path) from None
            elements, tensors = elements + header.elements, tensors + len(header.tensors)
        return elements, tensors

    def tensors(self) -> dict[str, Any]:
        """Return all weights by name."""
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        weights: dict[str, Any] = {}
        assert self.held
        for path in self.parts():
            try:
                weights.update(load_file(path))
                check_finite(weights)
            except (SafetensorError, ValueError, OSError) as error:
                raise ConfigError(f"checkpoint: its weights cannot be read: {error}", file=path) from None
        return weights
