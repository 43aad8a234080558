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
    """Attention rollout: follows attention back through the blocks of a transformer, to patches, words or cells.

    For encoders built on this library's transformer blocks (``patch``, ``vit``, ``transformer``, ``cells``). The values
    only rank and are never negative: they do not separate evidence for the answer from evidence against it.
    Source: Chefer et al. 2021, https://arxiv.org/abs/2103.15679, equations 5 and 6; without gradients Abnar and Zuidema,
    https://arxiv.org/abs/2005.00928.

    Args:
        weighted: Whether attention is weighted by its gradient, that is by its effect on the answer; False: attention
            alone, averaged with the identity.
    """

    reads = (Grid, Ids, Row)
    gradients = True

    def __init__(self, *, weighted: bool = True) -> None:
        self.weighted = weighted

    def refuses(self, probe: Probe) -> str:
        reason = super().refuses(probe)
        if reason:
            return reason
        trunks = [m for m in probe.encoder.modules() if isinstance(m, Trunk)]
        if len(trunks) != 1 or not len(trunks[0].blocks):
            return "needs an encoder that is one transformer"
        with torch.no_grad(), _watched(trunks[0]) as record:
            probe.answer(probe.data, probe.mask)
        if _cells(probe, record.tokens) is None:
            return "cannot tell which token belongs to which part"
        return ""

    def explain(self, probe: Probe) -> Heat:
        (trunk,) = (m for m in probe.encoder.modules() if isinstance(m, Trunk))
        with torch.enable_grad(), _watched(trunk) as record:
            value = probe.answer(probe.data, probe.mask)[0]
            assert record.out is not None
            slopes = torch.autograd.grad(value, [record.out, *record.maps], allow_unused=True)
        # Relevance of each output token to the answer: gradient times value.
        rest = slopes[0] * record.out if slopes[0] is not None else record.out * 0.0
        relevance = F.relu(rest.sum(dim=-1)[0]).detach()
        if not bool(relevance.any()):
            relevance = torch.ones_like(relevance)
        rollout = torch.eye(len(relevance), device=relevance.device, dtype=relevance.dtype)
        for share, slope in zip(record.maps, slopes[1:], strict=True):
            if self.weighted:
                counted = torch.zeros_like(share) if slope is None else F.relu(slope * share)
                rollout = rollout + counted.mean(dim=1)[0].detach() @ rollout
            else:
                rollout = (
                    share.mean(dim=1)[0].detach() / 2 + torch.eye(len(relevance), device=relevance.device) / 2
                ) @ rollout
        cells = _cells(probe, record.tokens)
        assert cells is not None
        return Heat(_over(probe, (relevance @ rollout)[-prod(cells) :].reshape(cells)))


class _Record:
    """A recorded pass through a trunk: the attention ``[1, H, N, N]`` of each block, and the output tokens."""

    def __init__(self) -> None:
        self.maps: list[Tensor] = []
        self.out: Tensor | None = None

    @property
    def tokens(self) -> int:
        return 0 if self.out is None else self.out.shape[1]


@contextmanager
def _watched(trunk: Trunk) -> Iterator[_Record]:
    """Context in which the trunk computes attention explicitly, so that its weights can be recorded and differentiated."""
    record = _Record()
    parts = [m for m in trunk.modules() if isinstance(m, Attention)]

    def opened(part: Attention) -> Any:
        def forward(queries: Tensor, context: Tensor, mask: Tensor) -> Tensor:
            key, value = part.key_value(context).chunk(2, dim=-1)
            query, key, value = (part._split(x) for x in (part.query(queries), key, value))
            score = query @ key.transpose(-1, -2) / query.shape[-1] ** 0.5
            hidden = ~(mask.unsqueeze(1) if mask.dim() == 2 else mask).unsqueeze(1)
            share = score.masked_fill(hidden, torch.finfo(score.dtype).min).softmax(dim=-1).masked_fill(hidden, 0.0)
            record.maps.append(share)
            mixed: Tensor = part.output((share @ value).transpose(1, 2).flatten(2))
            return mixed

        return forward

    def note(_module: Any, _given: Any, out: Tensor) -> None:
        record.out = out

    hook = trunk.register_forward_hook(note)
    for part in parts:
        part.forward = opened(part)  # type: ignore[method-assign]
    try:
        yield record
    finally:
        hook.remove()
        for part in parts:
            del part.forward


def _cells(probe: Probe, tokens: int) -> tuple[int, ...] | None:
    """Return the grid of the output tokens (a class token may precede them), or None if it is unknown."""
    size = tuple(probe.data.shape[2:]) if isinstance(probe.layout, Grid) else (probe.data.shape[1],)
    patch = getattr(probe.encoder, "patch", None)
    grids = [size[:1]]
    if isinstance(patch, tuple) and len(patch) == len(size):
        grids.insert(0, tuple(ceil(n / p) for n, p in zip(size, patch, strict=True)))
    return next((grid for grid in grids if prod(grid) in (tokens, tokens - 1)), None)


def _over(probe: Probe, values: Tensor) -> Tensor:
    """Spread the values of the tokens evenly over the elements of the row."""
    if isinstance(probe.layout, Grid):
        for axis, length in enumerate(probe.data.shape[2:]):
            if axis < values.dim():
                patch = getattr(probe.encoder, "patch", None)
                step = patch[axis] if isinstance(patch, tuple) and values.shape[axis] != length else 1
                values = values.repeat_interleave(step, dim=axis).narrow(axis, 0, length)
            else:
                values = values.unsqueeze(-1).expand(*values.shape, length)
        values = values.unsqueeze(0)
    if probe.mask is not None:
        real = probe.mask[0]
        values = values * (real.reshape(1, -1, *[1] * (values.dim() - 2)) if isinstance(probe.layout, Grid) else real)
    return values
