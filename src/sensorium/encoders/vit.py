"""Vision transformer."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sensorium.core.batch import Encoded, zeroed
from sensorium.core.contracts import TokenEncoder
from sensorium.core.layout import Grid
from sensorium.core.pyramid_level import Level
from sensorium.core.registry import component
from sensorium.nn.attention import Trunk
from sensorium.nn.conv import CONV, LAST, channels_last, clear
from sensorium.nn.conv_blocks import Unit
from sensorium.nn.positional_encoding import resized

_SIZES: dict[str, tuple[int, int, int]] = {
    "tiny": (192, 12, 3),
    "small": (384, 12, 6),
    "base": (768, 12, 12),
    "large": (1024, 24, 16),
}
"""Width, blocks and heads: base and large from table 1 of the paper, tiny and small from DeiT, table 1."""


class Stem(nn.Module):
    """A convolutional stem: halves the grid as often as the patch size allows (at most three times), doubling the channels.

    Source: Early convolutions help transformers see better, https://arxiv.org/abs/2106.14881.
    """

    def __init__(self, axes: int, channels: int, dim: int, patch: tuple[int, ...]) -> None:
        super().__init__()
        halvings = next((n for n in (3, 2, 1) if all(p % 2**n == 0 for p in patch)), 0)
        widths = [max(8, dim // 2 ** (max(halvings, 1) - i - 1)) for i in range(max(halvings, 1))]
        # A patch that cannot be halved is looked at once, cell by cell.
        self.units = nn.ModuleList(
            Unit(axes, a, b, stride=2 if halvings else 1, kind="layer") for a, b in pairwise([channels, *widths])
        )
        self.channels, self.rest = widths[-1], tuple(p // 2**halvings for p in patch)
        if axes > 1:  # With channels innermost small convolutions take half the time on a CPU.
            self.units.to(memory_format=LAST[axes])  # type: ignore[call-overload]

    def forward(self, x: Tensor, mask: Tensor | None) -> Tensor:
        x = channels_last(x)
        for unit in self.units:
            x, mask = unit(x, mask)
        return x


@component
class Vit(TokenEncoder):
    """Vision transformer (ViT): patches, learned positions, and a class token that gives the vector.

    Use it rather than ``patch`` to start from published weights, or where absolute positions in an image matter; it needs
    more rows or strong augmentation. Saved weights also load at another image size: positions are interpolated.
    Source: ViT, https://arxiv.org/abs/2010.11929; DeiT, https://arxiv.org/abs/2012.12877.

    Args:
        dim: Width of the tokens and of the vector, and of the compact variant's blocks; there a multiple of ``heads``.
        variant: ``compact`` is sized by ``dim``, ``depth`` and ``heads``; the others are the papers'.
        patch: Cells of a patch along each axis; None: the papers' 16; in the compact variant a power of two, for 16 to 32
            patches of a series, 3 × 3 to 6 × 6 of an image, 3³ to 5³ of a video.
        stem: The patch embedding: ``linear`` as in the papers; ``convolutions`` learn from far fewer rows; None: linear
            in the papers' variants, convolutions in the compact one.
        depth: Transformer blocks of the compact variant.
        heads: Attention heads of the compact variant.
        dropout: Share of features and of attention dropped in training.
    """

    reads = (Grid,)

    def __init__(
        self,
        layout: Grid,
        *,
        dim: int = 128,
        variant: Literal["compact", "tiny", "small", "base", "large"] = "compact",
        patch: int | None = None,
        stem: Literal["linear", "convolutions"] | None = None,
        depth: int = 4,
        heads: int = 4,
        dropout: float = 0.1,
    ) -> None:
        super().__init__()
        self.dim = dim
        axes = len(layout.size)
        # Attention costs most of the time: few, large patches, which the stem reads cell by cell.
        many = {1: 32, 2: 6, 3: 5}[axes]
        wide = dim
        if variant == "compact":
            stem = stem or "convolutions"
        else:
            wide, depth, heads = _SIZES[variant]
            patch = patch or 16
        self.patch = tuple(min(patch, n) if patch else _power(n / many) for n in layout.size)
        self.stem = Stem(axes, layout.channels, wide, self.patch) if stem == "convolutions" else None
        channels, rest = (layout.channels, self.patch) if self.stem is None else (self.stem.channels, self.stem.rest)
        self.cut = CONV[axes](channels, wide, rest, stride=rest)
        self.summary = nn.Parameter(torch.empty(wide))
        # [D, *grid]: its shape tells for which grid it was learnt.
        self.place = nn.Parameter(
            torch.empty(wide, *(math.ceil(n / p) for n, p in zip(layout.size, self.patch, strict=True)))
        )
        nn.init.normal_(self.summary, std=0.02)
        nn.init.normal_(self.place, std=0.02)
        self.stack = Trunk(wide, depth, heads, dropout=dropout)
        self.token = nn.Identity() if wide == dim else nn.Linear(wide, dim)
        self.register_load_state_dict_pre_hook(_fit_places)  # type: ignore[no-untyped-call]

    def embed(self, data: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor]:
        missing = [-n % p for n, p in zip(data.shape[2:], self.patch, strict=True)]
        # F.pad counts axes from the last one.
        whole = F.pad(clear(data, mask), [n for extra in reversed(missing) for n in (0, extra)])
        if self.stem is not None:
            steps = torch.arange(whole.shape[2], device=data.device).expand(data.shape[0], -1)
            inside = steps < data.shape[2] if mask is None else F.pad(mask, [0, missing[0]])
            whole = self.stem(whole, inside if mask is not None or missing[0] else None)
        grid = self.cut(whole)
        # Along the padded axis the first places are taken; past the last one learnt, that one again.
        step = torch.arange(grid.shape[2], device=grid.device).clamp_(max=self.place.shape[1] - 1)
        tokens = (grid + self.place.index_select(1, step)).flatten(2).transpose(1, 2)
        if mask is None:
            return tokens, tokens.new_ones(tokens.shape[:2]).bool()
        # A patch is real where its first step is: what is padded stands at the end.
        first = mask[:, :: self.patch[0]]
        real = first.unsqueeze(-1).expand(*first.shape, math.prod(grid.shape[3:])).flatten(1)
        return zeroed(tokens, real), real

    def trunk(self, tokens: Tensor, mask: Tensor) -> Tensor:
        return self._seen(tokens, mask)[0]

    def _seen(self, tokens: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        rows = tokens.shape[0]
        with_summary = torch.cat([self.summary.expand(rows, 1, -1), tokens], dim=1)
        real = torch.cat([mask.new_ones(rows, 1), mask], dim=1)
        seen = self.token(self.stack(with_summary, real))
        return zeroed(seen[:, 1:], mask), seen[:, 0]

    @property
    def levels(self) -> tuple[Level, ...]:
        """One feature map: the tokens on their grid."""
        return (Level(self.dim, self.patch),)

    def forward(self, data: Tensor, mask: Tensor | None = None) -> Encoded:
        """``data`` ``[B, C, *size]``, ``mask`` ``[B, size[0]]``; a token for each patch, last axis fastest.

        The class token is not among them.
        """
        tokens, real = self.embed(data, mask)
        seen, summary = self._seen(tokens, real)
        grid = tuple(-(-n // p) for n, p in zip(data.shape[2:], self.patch, strict=True))
        pyramid = (seen.transpose(1, 2).reshape(-1, self.dim, *grid),) if self.gives_pyramid else ()
        return Encoded(seen, real, summary, real.new_ones(real.shape[0]), grid, pyramid)


def _fit_places(module: nn.Module, state: dict[str, Any], prefix: str, *_: Any) -> None:
    """Interpolate positions learned for another grid when they are loaded: section 3.2 of the paper."""
    name, own = f"{prefix}place", module.place
    saved = state.get(name)
    if isinstance(saved, Tensor) and isinstance(own, Tensor) and saved.dim() == own.dim() and saved.shape != own.shape:
        state[name] = resized(saved, own.shape[1:])


def _power(cells: float) -> int:
    """The next power of two, so that the stem can halve a patch."""
    return int(2 ** math.ceil(math.log2(max(cells, 1))))
