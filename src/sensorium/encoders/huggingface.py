"""Pretrained networks."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import nullcontext
from itertools import accumulate
from operator import mul
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from sensorium.core.batch import Encoded, zeroed
from sensorium.core.contracts import Encoder
from sensorium.core.errors import ConfigError
from sensorium.core.layout import Grid, Ids, Layout
from sensorium.core.pyramid_level import Level
from sensorium.core.registry import component
from sensorium.nn.drawn_boxes import drawn_boxes
from sensorium.nn.pool import masked_mean
from sensorium.pretrained import architectures
from sensorium.pretrained.activation_checkpointing import enable_checkpointing
from sensorium.pretrained.build_budget import build_budget
from sensorium.pretrained.checkpoint import Checkpoint
from sensorium.pretrained.spectrograms import HOP, RATE, kaldi_fbank, kaldi_frames, whisper_mel

_WORDS, _SMALL = 256, {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 256}
FINE = 4
"""Pixels to a cell of the map on which the boxes of an adopted detector are drawn."""
_PROCESSOR = ("do_normalize", "mean", "std")


@component
class Huggingface(Encoder):
    """A pretrained network for images, text or sound, from a folder or the Hugging Face hub.

    The settings of its processor (size and colours of images, tokeniser, sampling rate) are applied to the column
    automatically. Only safetensors are read, never code; a saved model does not need the checkpoint. Use it where rows
    are few and a network trained on similar data exists. A segmenter (SegFormer) or a detector (YOLOS) is adopted with its
    head: tasks on places of the image read its predictions in its own classes, and its features.
    Source: one paper for each family, listed in docs/transfer.md. Library: https://arxiv.org/abs/1910.03771.

    Args:
        checkpoint: A folder, or ``owner/name`` on the hub; None: a small network with random weights.
        config: Its architecture and its processor's settings; filled in from the checkpoint and saved with the model.
            Given by hand, as ``{model_type: vit, ...}``: a network of that kind with random weights.
        pool: The vector: the ``first`` token, the ``mean`` of the tokens, or what this kind of network was trained with.
    """

    reads = (Grid, Ids)

    def __init__(
        self,
        layout: Grid | Ids,
        *,
        checkpoint: str | None = None,
        config: dict[str, Any] | None = None,
        pool: Literal["auto", "first", "mean"] = "auto",
    ) -> None:
        super().__init__()
        self.checkpoint = checkpoint
        source = config or (_described(Checkpoint(checkpoint)) if checkpoint is not None else _small(layout))
        self.config = {**architectures.plain(source), "processor": dict(source.get("processor") or {})}
        self.family = architectures.family(self.config)
        # No larger than the checkpoint, if there is one: what its config.json says may be anything.
        bound = build_budget(*Checkpoint(checkpoint).held) if config is None and checkpoint is not None else nullcontext()
        with bound:
            self.network = architectures.build(self.config)
        self.dim = architectures.width(self.config, self.network)
        its: Any = self.network.config
        self.its = its
        self.pool = self.family.pool if pool == "auto" else pool
        if self.pool == "first" and self.family.special == 0 and self.family.sense != "text":
            raise ConfigError(f"encoder huggingface: {self.config['model_type']} has no first token", fix="pool: mean")
        self._fits(layout)
        if config is None and checkpoint is not None:
            self.adopt()

    @classmethod
    def required_column(cls, options: Mapping[str, Any]) -> dict[str, Any]:
        if options.get("checkpoint") is None:
            return {}
        checkpoint = Checkpoint(str(options["checkpoint"]))
        config = architectures.plain(checkpoint.config)
        sense = architectures.family(config).sense
        try:
            if sense == "image":
                return {"kind": "image", **_picture(checkpoint.processor, config)}
            if sense == "text":
                most = int(config.get("max_position_embeddings", _WORDS)) - _offset(config)
                return {"kind": "text", "checkpoint": checkpoint.name, "length": min(_WORDS, most)}
            rate = int(checkpoint.processor.get("sampling_rate", RATE))
        except (LookupError, TypeError, ValueError, ArithmeticError) as error:
            raise ConfigError(
                f"checkpoint {checkpoint.name!r}: the settings of its processor are not readable: {error!r}"
            ) from None
        if rate != RATE:
            raise ConfigError(f"checkpoint {checkpoint.name!r} hears {rate} samples a second; only {RATE} is read")
        return {"kind": "audio", "rate": RATE, "features": "waveform", "standardise": False}

    @classmethod
    def completed(cls, options: Mapping[str, Any]) -> dict[str, Any]:
        full = dict(options)
        if full.get("checkpoint") is not None and full.get("config") is None:
            checkpoint = Checkpoint(str(full["checkpoint"]))
            full["config"] = _described(checkpoint)
            with build_budget(*checkpoint.held):  # no larger than its weights, whatever its config.json says
                architectures.build(full["config"])
        return full

    def adopt(self) -> None:
        if self.checkpoint is not None:
            weights = architectures.load(Checkpoint(self.checkpoint), self.config).state_dict()
            try:
                self.network.load_state_dict(weights)
            except RuntimeError as error:
                reason = " ".join(str(error).split())[:200]
                raise ConfigError(f"checkpoint {self.checkpoint!r}: its weights do not fit its config: {reason}") from None

    def recompute(self) -> bool:
        return enable_checkpointing(self.network)

    def forward(self, data: Tensor, mask: Tensor | None = None) -> Encoded:
        """Images ``[B, 3, H, W]``, ids ``[B, N]`` or samples ``[B, 1, T]``; tokens are patches, words or frames."""
        if self.family.adopted:
            return self._see_adopted(data)
        if self.family.sense == "image":
            tokens, real, first = self._see(data)
        elif self.family.sense == "text":
            tokens, real, first = self._read(data, data != 0 if mask is None else mask)
        else:
            real = torch.ones_like(data[:, 0], dtype=torch.bool) if mask is None else mask
            tokens, real, first = self._hear(data[:, 0] * real, real.sum(dim=1))
        tokens = zeroed(tokens, real)
        pooled = masked_mean(tokens, real) if self.pool == "mean" or first is None else first
        pooled = pooled.masked_fill(~real.any(dim=1, keepdim=True), 0.0)
        return Encoded(tokens, real, pooled, real.new_ones(real.shape[0]), self._grid(data, tokens.shape[1]))

    def _see(self, pixels: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
        arguments = (
            {"interpolate_pos_encoding": True} if self.family.stretches and self._other_size(pixels.shape[-2:]) else {}
        )
        out = self.network(pixel_values=pixels, **arguments)
        seen: Tensor = out.last_hidden_state
        seen = seen.flatten(2).transpose(1, 2) if seen.dim() == 4 else seen
        first = out.pooler_output.flatten(1) if self.pool == "own" else seen[:, 0]
        tokens = seen[:, self.family.special :]
        return tokens, tokens.new_ones(tokens.shape[:2], dtype=torch.bool), first

    @property
    def levels(self) -> tuple[Level, ...]:
        its, adopted = self.its, self.family.adopted
        if adopted == "boxes":
            return Level(its.num_labels + 2, (FINE, FINE)), Level(self.dim, (its.patch_size, its.patch_size))
        if adopted != "mask":
            return ()
        strides = list(accumulate(its.strides, mul))
        widths = [its.hidden_sizes[0] + its.num_labels, *its.hidden_sizes[1:]]
        return tuple(Level(width, (stride, stride)) for width, stride in zip(widths, strides, strict=True))

    def _see_adopted(self, pixels: Tensor) -> Encoded:
        """A network with its head: the pyramid holds its predictions, in its own classes, and its features."""
        out = self.network(pixel_values=pixels, output_hidden_states=True)
        if self.family.adopted == "mask":
            first, *coarse = out.hidden_states
            maps = (torch.cat([first, out.logits], dim=1), *coarse)
            tokens = maps[-1].flatten(2).transpose(1, 2)
            grid: tuple[int, ...] = tuple(maps[-1].shape[2:])
        else:
            grid = tuple(n // self.its.patch_size for n in pixels.shape[2:])
            tokens = out.last_hidden_state[:, self.family.special : self.family.special + grid[0] * grid[1]]
            fine, coarse_level = (level.size(pixels.shape[2:]) for level in self.levels)
            patches = tokens.transpose(1, 2).reshape(len(pixels), -1, *grid)
            patches = patches if grid == coarse_level else F.interpolate(patches, coarse_level, mode="bilinear")
            maps = (drawn_boxes(out.logits, out.pred_boxes, (fine[0], fine[1])).to(patches), patches)
        real = tokens.new_ones(tokens.shape[:2], dtype=torch.bool)
        pooled = out.last_hidden_state[:, 0] if self.pool == "first" else tokens.mean(dim=1)
        return Encoded(tokens, real, pooled, real[:, 0], grid, maps if self.gives_pyramid else ())

    def _read(self, ids: Tensor, real: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
        at = torch.arange(1, real.shape[1] + 1, device=ids.device)
        most = max(1, int((real * at).max()))  # to the end of the longest row: padding beyond it may have no position
        pad = int(self.config.get("pad_token_id") or 0)
        beyond, ids, real = real.shape[1] - most, ids[:, :most], real[:, :most]
        # Here 0 pads. The modality exchanged the tokeniser's padding with whatever was 0; this is the way back.
        ids = torch.where(ids == 0, pad, torch.where(ids == pad, 0, ids)).masked_fill(~real, pad)
        # A row of padding alone looks at its first place, for a softmax over nothing is NaN; it is blanked afterwards.
        seen = real | (~real.any(dim=1, keepdim=True) & (at[:most] == 1))
        tokens: Tensor = self.network(input_ids=ids, attention_mask=seen.long()).last_hidden_state
        first = tokens[:, 0]
        return F.pad(tokens, (0, 0, 0, beyond)), F.pad(real, (0, beyond)), first

    def _hear(self, signal: Tensor, length: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
        kind = self.config["model_type"]
        if kind == "whisper":
            return self._encode_full(signal, length)
        if kind == "audio-spectrogram-transformer":
            return self._hear_patches(signal, length)
        if self.config["processor"].get("do_normalize", True):
            real = torch.arange(signal.shape[1], device=signal.device) < length[:, None]
            count = length.clamp(min=1)[:, None]
            centred = (signal - signal.sum(dim=1, keepdim=True) / count) * real
            signal = centred / (centred.square().sum(dim=1, keepdim=True) / count + 1e-7).sqrt()
        least = 1
        for kernel, stride in zip(reversed(self.its.conv_kernel), reversed(self.its.conv_stride), strict=True):
            least = (least - 1) * stride + kernel
        signal = F.pad(signal, (0, max(0, least - signal.shape[1])))
        frames: Any = self.network._get_feat_extract_output_lengths
        most, count = int(frames(torch.tensor(signal.shape[1]))), frames(length.clamp(min=least)) * (length > 0)
        tokens = self._frames(signal, length.clamp(min=least))
        tokens = F.pad(tokens, (0, 0, 0, most - tokens.shape[1]))
        return tokens, torch.arange(most, device=signal.device) < count[:, None], None

    def _frames(self, signal: Tensor, length: Tensor) -> Tensor:
        """Encode samples ``[B, T]`` to frames, each row as if it were alone."""
        if signal.device.type == "cpu" and torch.is_autocast_enabled("cpu"):
            # On processors with AMX some convolutions of oneDNN are wrong in bfloat16 (as in pytorch/pytorch#169688), and
            # vectors were off by half their size. No other network read here has such convolutions as these.
            with torch.autocast("cpu", enabled=False):
                return self._frames(signal.float(), length)
        network = self.network
        if self.its.feat_extract_norm != "group":
            signal = signal[:, : int(length.max())]
            mask = torch.arange(signal.shape[1], device=signal.device) < length[:, None]
            masked: Tensor = network(signal, attention_mask=mask.long()).last_hidden_state
            return masked
        # The first layer is normalised over time, padding and all: rows go through with those of the same length only.
        parts: list[tuple[Tensor, Tensor]] = []
        for steps in sorted(set(length.tolist())):
            rows = (length == steps).nonzero().squeeze(1)
            parts.append((rows, network(signal[rows, :steps]).last_hidden_state))
        longest = max(part.shape[1] for _, part in parts)
        out = parts[0][1].new_zeros(signal.shape[0], longest, self.dim)
        for rows, part in parts:
            out = out.index_copy(0, rows, F.pad(part, (0, 0, 0, longest - part.shape[1])))
        return out

    def _encode_full(self, signal: Tensor, length: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
        """Whisper: every row is padded with silence to the same length, to which the network attends too."""
        features = whisper_mel(signal, self.its.num_mel_bins, 2 * self.its.max_source_positions * HOP)
        tokens: Tensor = self.network(features).last_hidden_state
        count = torch.div(length + 2 * HOP - 1, 2 * HOP, rounding_mode="floor")
        most = min(tokens.shape[1], -(-signal.shape[1] // (2 * HOP)))  # what is silence in every row is no token
        return tokens[:, :most], torch.arange(most, device=signal.device) < count[:, None], None

    def _hear_patches(self, signal: Tensor, length: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
        """AST: patches of a spectrogram of fixed length; those that start within the recording are real."""
        its, processor = self.its, self.config["processor"]
        features, count = kaldi_fbank(signal, its.num_mel_bins)[:, : its.max_length], kaldi_frames(length)
        recorded = torch.arange(features.shape[1], device=signal.device) < count[:, None]
        features = zeroed(features, recorded)
        features = F.pad(features, (0, 0, 0, its.max_length - features.shape[1]))
        if processor.get("do_normalize", True):
            features = (features - processor.get("mean", -4.2677393)) / (2 * processor.get("std", 4.5689974))
        out = self.network(features)
        bands = (its.num_mel_bins - its.patch_size) // its.frequency_stride + 1
        times = (its.max_length - its.patch_size) // its.time_stride + 1
        begins = torch.arange(times, device=signal.device).repeat(bands) * its.time_stride
        real = (begins < count[:, None]) & (length > 0)[:, None]
        return out.last_hidden_state[:, self.family.special :], real, out.pooler_output

    def _grid(self, data: Tensor, count: int) -> tuple[int, ...]:
        """The grid from which the ``count`` tokens were flattened."""
        kind, its = self.config["model_type"], self.its
        if self.family.sense != "image":
            # Patches of AST lie in a row frequency by frequency, and a grid begins with time: they have none.
            return () if kind == "audio-spectrogram-transformer" else (count,)
        high, wide = data.shape[2:]
        if kind == "resnet":  # rounded up by each of its halvings
            halvings = 1 + len(its.depths) + its.downsample_in_first_stage
            rows, columns = -(-high // 2**halvings), -(-wide // 2**halvings)
        elif kind == "convnext":  # rounded down
            patch = its.patch_size * 2 ** (len(its.depths) - 1)
            rows, columns = high // patch, wide // patch
        elif kind == "swin":
            patch = its.patch_size * 2 ** (len(its.depths) - 1)
            rows, columns = -(-high // patch), -(-wide // patch)
        else:
            rows, columns = high // its.patch_size, wide // its.patch_size
        return (rows, columns) if rows * columns == count else ()

    def _other_size(self, size: Iterable[int]) -> bool:
        own = self.its.image_size
        return tuple(size) != (tuple(own) if isinstance(own, (list, tuple)) else (own, own))

    def _fits(self, layout: Layout) -> None:
        """Raise ``ConfigError`` for a stream that the network does not read."""
        sense, kind = self.family.sense, self.config["model_type"]
        if sense == "text":
            if not isinstance(layout, Ids):
                raise ConfigError(f"encoder huggingface: {kind} reads words, not {layout}")
            if layout.vocabulary > self.its.vocab_size:
                raise ConfigError(
                    f"encoder huggingface: {kind} knows {self.its.vocab_size} tokens, the column has {layout.vocabulary}",
                    fix="use the checkpoint's own tokeniser: {kind: text, checkpoint: ...}",
                )
            most = self.its.max_position_embeddings - _offset(self.config)
            if layout.length > most:
                raise ConfigError(f"encoder huggingface: {kind} reads {most} tokens", fix=f"{{kind: text, length: {most}}}")
            return
        axes = len(layout.size) if isinstance(layout, Grid) else 0
        channels = layout.channels if isinstance(layout, Grid) else 0
        if sense == "audio" and (axes, channels) != (1, 1):
            raise ConfigError(
                f"encoder huggingface: {kind} reads sound, not {layout}", fix="{kind: audio, features: waveform}"
            )
        if sense == "image" and (axes, channels) != (2, self.its.num_channels):
            raise ConfigError(f"encoder huggingface: {kind} reads coloured pictures, not {layout}", fix="{channels: rgb}")
        if sense == "image" and self.family.attention and not self.family.stretches and not self.family.adopted:
            assert isinstance(layout, Grid)
            if self._other_size(layout.size) and kind != "dinov2":
                raise ConfigError(f"encoder huggingface: {kind} reads {self.its.image_size} pixels", fix="{size: ...}")


def _described(checkpoint: Checkpoint) -> dict[str, Any]:
    """The configuration of a checkpoint that is kept beside its weights."""
    config = architectures.plain(checkpoint.config)
    sense = architectures.family(config).sense
    if sense == "text":
        config["pad_token_id"] = checkpoint.pad
    processor = checkpoint.processor if sense == "audio" else {}
    for name in ("mean", "std"):
        value = processor.get(name, 1.0)
        if isinstance(value, bool) or not isinstance(value, (int, float)) or (name == "std" and value <= 0):
            raise ConfigError(f"checkpoint {checkpoint.name!r}: {name} of its processor is {str(value)[:40]}")
    return {**config, "processor": {name: processor[name] for name in _PROCESSOR if name in processor}}


def _small(layout: Layout) -> dict[str, Any]:
    """The configuration of a small network for this layout."""
    if isinstance(layout, Ids):
        return {"model_type": "bert", **_SMALL, "vocab_size": layout.vocabulary, "max_position_embeddings": layout.length}
    if isinstance(layout, Grid) and len(layout.size) == 2 and layout.channels == 3 and layout.size[0] == layout.size[1]:
        side = layout.size[0]
        return {"model_type": "vit", **_SMALL, "image_size": side, "patch_size": max(1, side // 8)}
    if isinstance(layout, Grid) and len(layout.size) == 1 and layout.channels == 1:
        return {"model_type": "wav2vec2", **_SMALL, "conv_dim": [64] * 7, "feat_extract_norm": "layer"}
    raise ConfigError(f"encoder huggingface reads coloured square pictures, words and sound, not {layout}")


def _offset(config: Mapping[str, Any]) -> int:
    """The number of unused positions: these networks count from the one after the padding id."""
    return int(config.get("pad_token_id") or 0) + 1 if config["model_type"] in ("roberta", "xlm-roberta") else 0


def _picture(processor: Mapping[str, Any], config: Mapping[str, Any]) -> dict[str, Any]:
    """An image processor's settings as options of the column."""
    size, crop = processor.get("size", config.get("image_size", 224)), processor.get("crop_size")
    shorter = size.get("shortest_edge", size.get("height")) if isinstance(size, Mapping) else size
    shorter = shorter[0] if isinstance(shorter, (list, tuple)) else shorter
    side = int(crop["height"] if isinstance(crop, Mapping) else crop or shorter)
    options: dict[str, Any] = {"size": side, "channels": "rgb"}
    if (
        processor.get("crop_pct") is not None and not crop
    ):  # as ConvNeXt has it: small pictures are cut out, large ones stretched
        options |= {"share": float(processor["crop_pct"])} if side < 384 else {"stretch": True}
    elif processor.get("do_center_crop", crop is not None) and isinstance(size, Mapping) and "shortest_edge" in size:
        options["share"] = min(1.0, side / int(shorter))
    else:
        options["stretch"] = True
    normal = processor.get("do_normalize", True)
    options["mean"] = list(processor.get("image_mean") or [0.5] * 3) if normal else [0.0] * 3
    options["deviation"] = list(processor.get("image_std") or [0.5] * 3) if normal else [1.0] * 3
    return {**options, "smooth": "bicubic" if processor.get("resample") == 3 else "bilinear"}
