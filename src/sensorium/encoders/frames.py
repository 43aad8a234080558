"""Frame by frame."""

from __future__ import annotations

from typing import Any, Literal

from torch import Tensor, nn

from sensorium.core.batch import Encoded, zeroed
from sensorium.core.contracts import Encoder
from sensorium.core.errors import ConfigError
from sensorium.core.layout import Grid
from sensorium.core.registry import build, component, find, split
from sensorium.nn.attention import Trunk
from sensorium.nn.conv import clear
from sensorium.nn.pool import MeanMax, masked_mean
from sensorium.nn.positional_encoding import sinusoids
from sensorium.nn.recurrent import Layer


@component
class Frames(Encoder):
    """An image encoder for each frame, then a model over time: for video and sets of images.

    Use it rather than ``convnet`` where frames are far apart in time, or to use an image encoder.
    Source: frame features and a recurrent network, https://arxiv.org/abs/1411.4389; factorised attention over space, then
    time, https://arxiv.org/abs/2103.15691, § 3.3, model 2.

    Args:
        dim: Width of the tokens and of the vector.
        frame: The encoder of one frame: a name, or a mapping of kind and options.
        temporal: The model over the frames; ``mean`` ignores their order, as for a set of images.
        depth: Layers of the model over time.
        heads: Attention heads of the transformer.
        dropout: Share of features dropped by the model over time in training.
    """

    reads = (Grid,)

    def __init__(
        self,
        layout: Grid,
        *,
        dim: int = 128,
        frame: str | dict[str, Any] = "convnet",
        temporal: Literal["transformer", "gru", "mean"] = "transformer",
        depth: int = 1,
        heads: int = 4,
        dropout: float = 0.1,
    ) -> None:
        super().__init__()
        if len(layout.size) != 3:
            raise ConfigError("frames reads grids of three axes: frames, height, width")
        kind, options = split(frame)
        inner = Grid(layout.channels, layout.size[1:])
        if not isinstance(inner, find("encoders", kind).reads):
            raise ConfigError(f"frames: encoder {kind!r} does not read pictures", fix="name one that does, as convnet")
        self.dim = dim
        self.frame: Encoder = build("encoders", {"kind": kind, "dim": dim, **options}, inner)
        self.token = nn.Identity() if self.frame.dim == dim else nn.Linear(self.frame.dim, dim)
        self.trunk = Trunk(dim, depth, heads, dropout=dropout) if temporal == "transformer" else None
        self.layers: nn.ModuleList | None = None
        if temporal == "gru":
            if dim % 2:
                raise ConfigError(f"two directions cannot share a width of {dim}", fix="choose an even dim")
            self.layers = nn.ModuleList(Layer("gru", dim, dim, bidirectional=True) for _ in range(depth))
            self.drop = nn.Dropout(dropout)
        self.pool = None if self.trunk is not None else MeanMax(dim)

    def forward(self, data: Tensor, mask: Tensor | None = None) -> Encoded:
        """``data`` ``[B, C, T, H, W]``, ``mask`` ``[B, T]``; tokens ``[B, T, D]``."""
        rows, _, steps = data.shape[:3]
        real = data.new_ones(rows, steps).bool() if mask is None else mask
        pictures = clear(data, real).transpose(1, 2).flatten(0, 1)  # [B·T, C, H, W]
        tokens = self.token(self.frame(pictures).pooled).reshape(rows, steps, self.dim)
        tokens = zeroed(tokens, real)
        if self.trunk is not None:
            tokens = self.trunk(tokens + sinusoids(steps, self.dim, tokens), real)
        for layer in self.layers or ():
            tokens = self.drop(layer(tokens, real))
        pooled = masked_mean(tokens, real) if self.pool is None else self.pool(tokens, real)
        return Encoded(tokens, real, pooled, real.new_ones(rows), (steps,))
