"""The language model that a task borrows: found by name and digest, and updated at low rank or trained in full."""

from __future__ import annotations

from typing import Literal

from torch import nn

from sensorium.core.borrowed_weights import borrowed_folder, parted, remember
from sensorium.core.errors import ConfigError
from sensorium.nn.lora import Lora, attach, takes
from sensorium.pretrained.build_budget import outside_budget
from sensorium.pretrained.language_model import Dtype, LanguageModel, load, stand_in

Tuning = Literal["lora", "full"]
SCALE = 2.0
"""What a low-rank update counts."""


def borrowed(lm: str | None, dtype: Dtype) -> LanguageModel:
    """Return the language model in the folder ``lm``, with weights of ``dtype``; refuse one that has not the digest after
    ``@``, if there is one."""
    name, digest = parted(lm)
    if not name:
        made = outside_budget(stand_in)
    else:
        folder = borrowed_folder(name, digest, "--lm")
        made = outside_budget(lambda: load(folder, dtype))
        remember(made.digest, folder)
    if digest is not None and made.digest != digest:
        raise ConfigError(
            f"was trained on another language model than {made.name!r}: its SHA-256 begins with {made.digest[:12]}, not "
            f"with {digest[:12]}",
            fix="name the folder of the same model, unchanged: --lm FOLDER",
        )
    return made


def updated(model: LanguageModel, rank: int, targets: list[str] | None) -> list[Lora]:
    """Attach low-rank updates of ``rank`` to linear layers of ``model``, and return them in the order of the layers.

    ``targets``: only layers whose name contains one of these words; None: all but the output layer.
    """
    head = model.network.get_output_embeddings()  # type: ignore[operator]
    layers = {name: layer for name, layer in model.network.named_modules() if takes(layer) and layer is not head}
    chosen = [layer for name, layer in layers.items() if targets is None or any(t in name for t in targets)]
    if not chosen:
        available = sorted({name.rpartition(".")[2] for name in layers})
        raise ConfigError(
            f"stage instruct: {model.name!r} has no such linear layer",
            fix=f"targets among: {', '.join(available)}" if available else "stage: align",
        )
    for layer in chosen:
        attach(layer, rank, SCALE * rank, 0.0)
    return [lora for layer in chosen if isinstance(lora := layer._modules["lora"], Lora)]


def trained_dtype(dtype: Dtype) -> Dtype:
    """Return the type of weights that are trained in full: single precision, since small steps are lost in less.

    ``dtype``: the type that the user asks for; another one than that is refused.
    """
    if dtype not in ("auto", "float32"):
        raise ConfigError(
            f"tuning full: weights of {dtype} cannot be trained in full",
            fix="leave out --dtype; training.precision=bf16-mixed computes with bfloat16, or --tuning lora",
        )
    return "float32"


def unfrozen(model: LanguageModel, targets: list[str] | None) -> list[nn.Parameter]:
    """Let the weights of ``model`` be trained, and return them, tied ones once.

    ``targets``: only weights whose name contains one of these words; None: all.
    """
    names = [name for name, _ in model.network.named_parameters()]
    chosen = [p for name, p in model.network.named_parameters() if targets is None or any(t in name for t in targets)]
    if not chosen:
        available = sorted({part for name in names for part in name.split(".")[-2:-1]})
        raise ConfigError(
            f"stage instruct: {model.name!r} has no such weights", fix=f"targets among: {', '.join(available)}"
        )
    for parameter in chosen:
        parameter.requires_grad_(True)
    return chosen


def original(model: LanguageModel) -> LanguageModel:
    """Return ``model`` as it was before training, read again from its folder."""
    folder = model.folder
    return outside_budget(stand_in if folder is None else lambda: load(folder, "float32"))
