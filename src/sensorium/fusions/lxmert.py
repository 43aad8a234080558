"""Cross-modality layers of LXMERT."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from sensorium.core.batch import Encoded, zeroed
from sensorium.core.contracts import Fusion
from sensorium.core.errors import ConfigError, nearest
from sensorium.core.layout import Ids, Layout
from sensorium.core.registry import component
from sensorium.nn.lxmert_layers import EPS, Boxes, CrossLayer, grid_boxes
from sensorium.nn.pool import masked_mean
from sensorium.nn.streams import shares, tokens, vectors
from sensorium.pretrained.checkpoint import Checkpoint

_KEPT = ("hidden_size", "num_attention_heads", "intermediate_size", "x_layers")


@component
class Lxmert(Fusion):
    """LXMERT: a text and the regions of all other streams attend to each other and to themselves, layer by layer.

    Use it for questions about images; its layers may come from an LXMERT checkpoint. The tokens of an image are its
    regions, placed on a square grid. A row with one side passes that side's layers only.
    Source: https://arxiv.org/abs/1908.07490.

    Args:
        words: The stream read as language; None: the first stream of words, else the last stream.
        depth: Cross-modality layers.
        heads: Attention heads; they share the model's width.
        dropout: Share of features and of attention dropped in training.
        checkpoint: A folder or a hub name of an LXMERT network whose cross-modality layers are loaded.
        config: Its width, heads and layers, in place of ``depth`` and ``heads``; filled in from the checkpoint.
    """

    adopted = ("layers.", "boxes.")

    def __init__(
        self,
        streams: Sequence[str],
        dim: int,
        *,
        words: str | None = None,
        depth: int = 2,
        heads: int = 4,
        dropout: float = 0.1,
        checkpoint: str | None = None,
        config: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(streams, dim)
        if words is not None and words not in self.streams:
            raise ConfigError(f"lxmert: words: no stream named {words!r}{nearest(words, self.streams)}")
        self.words = words or self.streams[-1]
        self.rest = tuple(stream for stream in self.streams if stream != self.words)
        self.checkpoint = checkpoint
        settings = config or (_described(checkpoint) if checkpoint is not None else None)
        if settings is not None and not set(_KEPT) <= set(settings):
            raise ConfigError(f"lxmert: config needs {', '.join(_KEPT)}")
        width, heads, hidden, depth = [int(settings[k]) for k in _KEPT] if settings else [dim, heads, 4 * dim, depth]
        self.enter_words = nn.Sequential(nn.Linear(dim, width), nn.LayerNorm(width, eps=EPS))
        self.enter_regions = nn.Sequential(nn.Linear(dim, width), nn.LayerNorm(width, eps=EPS))
        self.boxes = Boxes(width)
        self.name = nn.Parameter(torch.zeros(max(1, len(self.rest)), width))
        self.drop = nn.Dropout(dropout)
        self.layers = nn.ModuleList(CrossLayer(width, heads, hidden, dropout) for _ in range(depth))
        self.leave_words, self.leave_regions = nn.Linear(width, dim), nn.Linear(width, dim)
        self.logits = nn.Parameter(torch.zeros(2))
        if config is None and checkpoint is not None:
            self.adopt()

    @classmethod
    def completed(cls, options: Mapping[str, Any], layouts: Mapping[str, Layout]) -> dict[str, Any]:
        full = dict(options)
        if full.get("words") is None:
            full["words"] = next((stream for stream, layout in layouts.items() if isinstance(layout, Ids)), None)
        if full.get("checkpoint") is not None and full.get("config") is None:
            full["config"] = _described(str(full["checkpoint"]))
        return full

    def adopt(self) -> None:
        if self.checkpoint is None:
            return
        tensors = {name.removeprefix("lxmert."): t for name, t in Checkpoint(self.checkpoint).tensors().items()}
        try:
            self.boxes.load(tensors, "encoder.visn_fc")
            for i, layer in enumerate(self.layers):
                assert isinstance(layer, CrossLayer)
                layer.load(tensors, f"encoder.x_layers.{i}")
        except KeyError as error:
            raise ConfigError(f"lxmert: checkpoint {self.checkpoint!r} lacks {error}") from None
        except RuntimeError as error:
            raise ConfigError(f"lxmert: the weights of {self.checkpoint!r} do not fit its config: {error}") from None

    def forward(self, parts: Mapping[str, Encoded]) -> Encoded:
        text = parts[self.words]
        text_mask = text.mask & text.present.unsqueeze(1)
        words = self.drop(self.enter_words(zeroed(text.tokens, text_mask)))
        regions, region_mask = self._regions(parts, text)
        for layer in self.layers:
            words, regions = layer(words, text_mask, regions, region_mask)
        words = zeroed(self.leave_words(words), text_mask)
        regions = zeroed(self.leave_regions(regions), region_mask)
        pooled, presence = vectors(parts, self.streams)
        is_text = torch.tensor([stream == self.words for stream in self.streams], device=pooled.device)
        sides = [masked_mean(words, text_mask), masked_mean(regions, region_mask)]
        sides = [s + masked_mean(pooled, presence & at) for s, at in zip(sides, (is_text, ~is_text), strict=True)]
        present = torch.stack([(presence & is_text).any(dim=1), (presence & ~is_text).any(dim=1)], dim=1)
        weight = shares(self.logits.expand(present.shape), present)
        fused = (weight.unsqueeze(-1) * torch.stack(sides, dim=1)).sum(dim=1)
        return Encoded(
            torch.cat([words, regions], dim=1), torch.cat([text_mask, region_mask], dim=1), fused, presence.any(dim=1)
        )

    def _regions(self, parts: Mapping[str, Encoded], text: Encoded) -> tuple[Tensor, Tensor]:
        """Return the tokens of all streams except the text, with position and stream embeddings, and which are real."""
        if not self.rest:
            width = self.name.shape[1]
            return text.tokens.new_zeros(text.tokens.shape[0], 1, width), torch.zeros_like(text.mask[:, :1])
        every, region_mask = tokens(parts, self.rest)
        masks = torch.split(region_mask, [parts[stream].mask.shape[1] for stream in self.rest], dim=1)
        places = torch.cat([grid_boxes(real) for real in masks], dim=1).to(every.dtype)
        names = torch.cat([name.expand(real.shape[1], -1) for name, real in zip(self.name, masks, strict=True)])
        return self.drop((self.enter_regions(every) + self.boxes(places)) / 2 + names), region_mask


def _described(name: str) -> dict[str, Any]:
    """Return the part of the configuration of an LXMERT checkpoint that is kept in the recipe."""
    checkpoint = Checkpoint(name)
    config = checkpoint.config
    if config["model_type"] != "lxmert":
        raise ConfigError(f"lxmert: checkpoint {name!r} is a {config['model_type']}, not an LXMERT")
    plain = {"hidden_size": 768, "num_attention_heads": 12, "intermediate_size": 3072, "x_layers": 5}
    try:
        settings = {key: int(config.get(key, plain[key])) for key in _KEPT}
    except (TypeError, ValueError, ArithmeticError):
        raise ConfigError(f"lxmert: checkpoint {name!r}: {', '.join(_KEPT)} of its config are not numbers") from None
    width, heads, hidden, depth = settings.values()
    if min(settings.values()) < 1 or width % heads or depth * width * (12 * width + 4 * hidden) > checkpoint.held[0]:
        raise ConfigError(f"lxmert: checkpoint {name!r}: its config does not match its weights: {settings}")
    return settings
