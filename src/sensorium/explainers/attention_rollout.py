"""Attention rollout."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from math import ceil, prod
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from sensorium.core.explainer import Explainer, Heat, Probe
from sensorium.core.layout import Grid, Ids, Row
from sensorium.core.registry import component
from sensorium.nn.attention import Attention, Trunk


@component
class AttentionRollout(Explainer):
    """Follows the attention of a transformer back through its blocks, from the answer to the patches, words or cells.

    For encoders built on this house's transformer blocks (``patch``, ``vit``, ``transformer``, ``cells``). The values only
    rank, and are never below 0: they do not tell what spoke for the answer from what spoke against it.
    Source: Chefer et al. 2021, https://arxiv.org/abs/2103.15679, equations 5 and 6; without gradients Abnar and Zuidema,
    https://arxiv.org/abs/2005.00928.

    Args:
        weighted: Whether attention counts by its gradient, that is by what it did to the answer; False: attention alone,
            half of it kept for each token itself.
    """

    reads = (Grid, Ids, Row)
    gradients = True

    def __init__(self, *, weighted: bool = True) -> None:
        self.weighted = weighted

    def refuses(self, probe: Probe) -> str:
        told = super().refuses(probe)
        if told:
            return told
        trunks = [m for m in probe.encoder.modules() if isinstance(m, Trunk)]
        if len(trunks) != 1 or not len(trunks[0].blocks):
            return "needs an encoder that is one transformer"
        with torch.no_grad(), _watched(trunks[0]) as seen:
            probe.answer(probe.data, probe.mask)
        if _cells(probe, seen.tokens) is None:
            return "cannot tell which token saw which part"
        return ""

    def explain(self, probe: Probe) -> Heat:
        (trunk,) = (m for m in probe.encoder.modules() if isinstance(m, Trunk))
        with torch.enable_grad(), _watched(trunk) as seen:
            value = probe.answer(probe.data, probe.mask)[0]
            assert seen.out is not None
            slopes = torch.autograd.grad(value, [seen.out, *seen.maps], allow_unused=True)
        # What the answer took from each token at the end: gradient times value.
        rest = slopes[0] * seen.out if slopes[0] is not None else seen.out * 0.0
        taken = F.relu(rest.sum(dim=-1)[0]).detach()
        if not bool(taken.any()):
            taken = torch.ones_like(taken)
        whole = torch.eye(len(taken), device=taken.device, dtype=taken.dtype)
        for share, slope in zip(seen.maps, slopes[1:], strict=True):
            if self.weighted:
                counted = torch.zeros_like(share) if slope is None else F.relu(slope * share)
                whole = whole + counted.mean(dim=1)[0].detach() @ whole
            else:
                whole = (share.mean(dim=1)[0].detach() / 2 + torch.eye(len(taken), device=taken.device) / 2) @ whole
        cells = _cells(probe, seen.tokens)
        assert cells is not None
        return Heat(_over(probe, (taken @ whole)[-prod(cells) :].reshape(cells)))


class _Seen:
    """What went through a trunk: attention ``[1, H, N, N]`` of each block, and the tokens that came out."""

    def __init__(self) -> None:
        self.maps: list[Tensor] = []
        self.out: Tensor | None = None

    @property
    def tokens(self) -> int:
        return 0 if self.out is None else self.out.shape[1]


@contextmanager
def _watched(trunk: Trunk) -> Iterator[_Seen]:
    """Within it the trunk's attention is worked out in the open, so that its weights can be seen and differentiated."""
    seen = _Seen()
    parts = [m for m in trunk.modules() if isinstance(m, Attention)]

    def opened(part: Attention) -> Any:
        def forward(queries: Tensor, context: Tensor, mask: Tensor) -> Tensor:
            key, value = part.key_value(context).chunk(2, dim=-1)
            query, key, value = (part._split(x) for x in (part.query(queries), key, value))
            score = query @ key.transpose(-1, -2) / query.shape[-1] ** 0.5
            hidden = ~(mask.unsqueeze(1) if mask.dim() == 2 else mask).unsqueeze(1)
            share = score.masked_fill(hidden, torch.finfo(score.dtype).min).softmax(dim=-1).masked_fill(hidden, 0.0)
            seen.maps.append(share)
            mixed: Tensor = part.output((share @ value).transpose(1, 2).flatten(2))
            return mixed

        return forward

    def note(_module: Any, _given: Any, out: Tensor) -> None:
        seen.out = out

    hook = trunk.register_forward_hook(note)
    for part in parts:
        part.forward = opened(part)  # type: ignore[method-assign]
    try:
        yield seen
    finally:
        hook.remove()
        for part in parts:
            del part.forward


def _cells(probe: Probe, tokens: int) -> tuple[int, ...] | None:
    """The grid of the last tokens (before them may stand one that gathers); None where it cannot be told."""
    size = tuple(probe.data.shape[2:]) if isinstance(probe.layout, Grid) else (probe.data.shape[1],)
    patch = getattr(probe.encoder, "patch", None)
    grids = [size[:1]]
    if isinstance(patch, tuple) and len(patch) == len(size):
        grids.insert(0, tuple(ceil(n / p) for n, p in zip(size, patch, strict=True)))
    return next((grid for grid in grids if prod(grid) in (tokens, tokens - 1)), None)


def _over(probe: Probe, found: Tensor) -> Tensor:
    """The tokens' values over the elements of the row, evenly."""
    if isinstance(probe.layout, Grid):
        for axis, length in enumerate(probe.data.shape[2:]):
            if axis < found.dim():
                patch = getattr(probe.encoder, "patch", None)
                step = patch[axis] if isinstance(patch, tuple) and found.shape[axis] != length else 1
                found = found.repeat_interleave(step, dim=axis).narrow(axis, 0, length)
            else:
                found = found.unsqueeze(-1).expand(*found.shape, length)
        found = found.unsqueeze(0)
    if probe.mask is not None:
        real = probe.mask[0]
        found = found * (real.reshape(1, -1, *[1] * (found.dim() - 2)) if isinstance(probe.layout, Grid) else real)
    return found
