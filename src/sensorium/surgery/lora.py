"""Low-rank adaptation."""

from __future__ import annotations

from sensorium.core.contracts import Operable, Surgery, chosen_streams
from sensorium.core.errors import ConfigError
from sensorium.core.registry import component
from sensorium.nn.lora import attach, takes


@component
class Lora(Surgery):
    """Trains a small update beside the weights of an encoder, which stand still: few numbers to learn from few rows.

    Every linear layer and convolution gets one, or those named. The update starts at zero; ``artifact.merged()`` adds it to
    the weights for good.
    Source: https://arxiv.org/abs/2106.09685.

    Args:
        streams: Whose encoders; none: all of them.
        rank: Width of the update.
        alpha: The update counts ``alpha / rank``.
        dropout: Share of the update's inputs dropped in training.
        targets: Only layers whose dotted name contains one of these words, as in ``[query, value]``; none: all.
    """

    def __init__(
        self,
        *,
        streams: list[str] | None = None,
        rank: int = 8,
        alpha: float = 16.0,
        dropout: float = 0.0,
        targets: list[str] | None = None,
    ) -> None:
        if rank < 1 or alpha <= 0 or not 0 <= dropout < 1:
            raise ConfigError("lora: rank is 1 or more, alpha above 0, dropout from 0 to below 1")
        self.streams, self.rank, self.alpha, self.dropout, self.targets = streams, rank, alpha, dropout, targets

    def apply(self, model: Operable) -> None:
        for stream in chosen_streams(model, self.streams, "lora"):
            encoder = model.encoders[stream]
            layers = {name: layer for name, layer in encoder.named_modules() if takes(layer)}
            chosen = [
                layer for name, layer in layers.items() if self.targets is None or any(t in name for t in self.targets)
            ]
            if not chosen:
                available = sorted({name.rpartition(".")[2] for name in layers})
                raise ConfigError(
                    f"lora: the encoder of {stream!r} has no such layer",
                    fix=f"targets among: {', '.join(available)}"
                    if available
                    else "leave the stream out: it has none at all",
                )
            for parameter in encoder.parameters():
                parameter.requires_grad_(False)
            for layer in chosen:
                attach(layer, self.rank, self.alpha, self.dropout)
