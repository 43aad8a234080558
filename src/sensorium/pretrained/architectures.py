"""Supported pretrained architectures: how each is built, and the form of its inputs and outputs."""

from __future__ import annotations

import importlib
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from torch import nn

from sensorium.core.errors import ConfigError, MissingExtraError, SensoriumError, nearest
from sensorium.pretrained.checkpoint import Checkpoint
from sensorium.pretrained.safetensors_header import check_finite

Sense = Literal["image", "text", "audio"]


@dataclass(frozen=True)
class Family:
    """One supported architecture.

    Args:
        sense: The modality it reads.
        model: Its class in transformers.
        module: The module of that class.
        special: Special tokens before those of patches, frames or words.
        pool: Default pooling: the network's own, its first token, or the mean of its tokens.
        pooler: Whether the class takes ``add_pooling_layer``, used to skip a head that checkpoints lack.
        attention: Whether torch's fused attention is supported.
        stretches: Whether it accepts images of a size other than its own.
        adopted: Predictions of a network that is adopted with its head: ``mask`` for each pixel, or ``boxes``.
    """

    sense: Sense
    model: str
    module: str
    special: int = 0
    pool: Literal["own", "first", "mean"] = "mean"
    pooler: bool = False
    attention: bool = True
    stretches: bool = False
    adopted: Literal["", "mask", "boxes"] = ""


KNOWN: dict[str, Family] = {
    "vit": Family("image", "ViTModel", "vit", 1, "first", pooler=True, stretches=True),
    "deit": Family("image", "DeiTModel", "deit", 2, "first", pooler=True, stretches=True),
    "dinov2": Family("image", "Dinov2Model", "dinov2", 1, "first"),
    "clip_vision_model": Family("image", "CLIPVisionModel", "clip", 1, "own", stretches=True),
    "siglip_vision_model": Family("image", "SiglipVisionModel", "siglip", 0, "own", stretches=True),
    "swin": Family("image", "SwinModel", "swin", 0, "mean", pooler=True),
    "convnext": Family("image", "ConvNextModel", "convnext", 0, "own", attention=False),
    "resnet": Family("image", "ResNetModel", "resnet", 0, "own", attention=False),
    "segformer": Family("image", "SegformerForSemanticSegmentation", "segformer", attention=False, adopted="mask"),
    "yolos": Family("image", "YolosForObjectDetection", "yolos", 1, "first", adopted="boxes"),
    "bert": Family("text", "BertModel", "bert", 0, "first", pooler=True),
    "roberta": Family("text", "RobertaModel", "roberta", 0, "first", pooler=True),
    "xlm-roberta": Family("text", "XLMRobertaModel", "xlm_roberta", 0, "first", pooler=True),
    "distilbert": Family("text", "DistilBertModel", "distilbert", 0, "first"),
    "modernbert": Family("text", "ModernBertModel", "modernbert", 0, "first"),
    "wav2vec2": Family("audio", "Wav2Vec2Model", "wav2vec2"),
    "hubert": Family("audio", "HubertModel", "hubert"),
    "whisper": Family("audio", "WhisperModel", "whisper"),
    "audio-spectrogram-transformer": Family("audio", "ASTModel", "audio_spectrogram_transformer", 2, "own"),
}
"""Architectures by ``model_type``."""

TOWERS = {"clip": "clip_vision_model", "siglip": "siglip_vision_model"}
"""Image-text models of which only the image tower is used, with its ``model_type``."""

_LEFT_OUT = ("architectures", "auto_map", "id2label", "label2id", "dtype", "torch_dtype", "quantization_config",
             "attn_implementation", "experts_implementation", "transformers_version", "text_config")  # fmt: skip
_BY_STAGE = ("resnet", "convnext", "segformer")
_MOST_LAYERS, _MOST = 4096, 1 << 31
# Entries that can name kernels or remote code are dropped: a configuration must not fetch or run anything.


def family(config: Mapping[str, Any]) -> Family:
    """Return the architecture of a ``config``; raise ``ConfigError`` if it is not supported."""
    kind = str(config.get("model_type"))
    if kind not in KNOWN:
        raise ConfigError(
            f"encoder huggingface: a network of type {kind!r} is not supported{nearest(kind, [*KNOWN, *TOWERS])}"
        )
    return KNOWN[kind]


def plain(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the part of a ``config.json`` (``config``) that describes the supported network."""
    kind = str(config.get("model_type"))
    if kind in TOWERS:
        tower = config.get("vision_config", {})
        if not isinstance(tower, Mapping):
            raise ConfigError("encoder huggingface: config: vision_config is not a mapping")
        config = {**tower, "model_type": TOWERS[kind]}
    kept = {k: v for k, v in config.items() if k not in _LEFT_OUT and not k.startswith("_") and v is not None}
    if family(kept).adopted and isinstance(config.get("id2label"), Mapping):
        kept["num_labels"] = len(config["id2label"])
    for name, value in kept.items():
        check_size(name, value)
    return kept


def check_size(name: str, value: Any) -> None:
    """Refuse an unrealistic ``value`` of the setting ``name``: some configuration classes allocate lists of that length."""
    most = _MOST_LAYERS if "layers" in name or "depths" in name else _MOST
    many = value if isinstance(value, list) else [value]
    if len(many) > _MOST_LAYERS or any(isinstance(n, (int, float)) and not abs(n) <= most for n in many):
        shown = f"{len(many):,} values" if len(many) > 1 else str(value)[:40]
        raise ConfigError(f"encoder huggingface: config: {name[:60]} is {shown}, which is too large")


def build(config: Mapping[str, Any]) -> nn.Module:
    """Build the network of a ``config`` with random weights."""
    chosen = family(config)
    try:
        if chosen.module == "whisper":  # without its decoder, which no saved model holds
            made: nn.Module = _module(chosen, "modeling").WhisperEncoder(_config(chosen, config))
            return made
        return _trained_part(_class(chosen)(_config(chosen, config), **_arguments(chosen)), chosen)
    except SensoriumError:
        raise
    except Exception as error:  # transformers validates little of an untrusted configuration
        raise ConfigError(f"encoder huggingface: config: no {config['model_type']} can be built of it: {error!r}") from None


def load(checkpoint: Checkpoint, config: Mapping[str, Any]) -> nn.Module:
    """Build the network of a ``config`` with the weights of a ``checkpoint``."""
    chosen = family(config)
    checkpoint.check_weights()
    assert checkpoint.held  # validates the file headers
    with quiet():
        try:
            model, info = _class(chosen).from_pretrained(
                str(Path(checkpoint.name).expanduser()),
                config=_config(chosen, config),
                use_safetensors=True,
                local_files_only=Path(checkpoint.name).expanduser().is_dir(),  # a local folder must not trigger downloads
                output_loading_info=True,
                **_arguments(chosen),
            )
        except SensoriumError:
            raise
        except Exception as error:  # untrusted files
            problem = " ".join(str(error).split())[:300] or type(error).__name__
            if "ignore_mismatched_sizes" in problem:  # advice of the library that does not apply here
                problem = "its weights have other shapes than its config.json says"
            raise ConfigError(f"checkpoint {checkpoint.name!r} cannot be loaded: {problem}") from None
    made = _trained_part(model, chosen)
    names = {name for name, _ in made.named_parameters()}
    lacking = sorted(n for n in info["missing_keys"] if n.removeprefix("encoder.") in names or n in names)
    if lacking:
        shown = ", ".join(lacking[:3])
        raise ConfigError(f"checkpoint {checkpoint.name!r} lacks {len(lacking)} of the network's weights: {shown}")
    try:
        check_finite(made.state_dict())
    except ValueError as error:
        raise ConfigError(f"checkpoint {checkpoint.name!r} cannot be used: {error}") from None
    return made.float()


def width(config: Mapping[str, Any], model: nn.Module) -> int:
    """Return the output width of ``model``, built from ``config``."""
    its: Any = model.config
    try:
        return int(its.hidden_sizes[-1] if config["model_type"] in _BY_STAGE else its.hidden_size)
    except (LookupError, TypeError, ValueError, AttributeError):
        raise ConfigError(f"encoder huggingface: config: no {config['model_type']} has such a hidden_size") from None


def _trained_part(model: nn.Module, chosen: Family) -> nn.Module:
    """Return the encoder of an encoder-decoder model; freeze parts that only pretraining uses."""
    part = model.get_submodule("encoder") if chosen.module == "whisper" else model
    for name, parameter in part.named_parameters():
        if name.endswith(("mask_token", "masked_spec_embed")):
            parameter.requires_grad_(False)
    return part


def _config(chosen: Family, config: Mapping[str, Any]) -> Any:
    kept = {k: v for k, v in plain(config).items() if k not in ("model_type", "processor")}
    module, name = _module(chosen, "configuration"), re.sub(r"(Model|For[A-Za-z]+)$", "Config", chosen.model)
    try:
        made = getattr(module, name)(**kept)
    except Exception as error:  # untrusted file
        raise ConfigError(f"encoder huggingface: config: {' '.join(str(error).split())[:300]}") from None
    # Its own layer drop and time masking use unseeded random numbers: augmentation is left to the modality.
    for key, value in {"layerdrop": 0.0, "encoder_layerdrop": 0.0, "apply_spec_augment": False}.items():
        if hasattr(made, key):
            setattr(made, key, value)
    made._attn_implementation = "sdpa" if chosen.attention else "eager"
    return made


def _class(chosen: Family) -> Any:
    return getattr(_module(chosen, "modeling"), chosen.model)


def _module(chosen: Family, part: str) -> Any:
    try:
        return importlib.import_module(f"transformers.models.{chosen.module}.{part}_{chosen.module}")
    except ImportError:
        raise MissingExtraError("encoder huggingface", "hf") from None


def _arguments(chosen: Family) -> dict[str, Any]:
    return {"add_pooling_layer": False} if chosen.pooler else {}


@contextmanager
def quiet() -> Iterator[None]:
    """Silence the library's reports and progress bars; loading is checked separately."""
    from transformers.utils import logging

    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()
