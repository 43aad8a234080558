"""Integrated gradients."""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor, nn

from sensorium.core.errors import MissingExtraError
from sensorium.core.explainer import Explainer, Heat, Probe
from sensorium.core.layout import Grid, Ids, Points
from sensorium.core.registry import component

_CLOSE = 0.01  # of the answer's change, at most, may be lost to the points
_FAR = 0.03
_NODES = 8  # points of Gauss and Legendre on each piece of the way
_MOST = 16  # times as many points, where a few do not come that close
_AT_ONCE = 32


@component
class IntegratedGradients(Explainer):
    """Integrated gradients along the straight path from a blank row to this one: for images, spectrograms, series, words.

    The blank is the training mean of a grid, zeros for points, and zero embeddings for words. The values add up to the
    difference between the answers for the row and for the blank. Works element by element for differentiable encoders;
    one of words must look them up in a single embedding table.
    Source: Sundararajan et al. 2017, https://arxiv.org/abs/1703.01365. Library: captum, https://arxiv.org/abs/2009.07896.

    The path is divided into pieces. The correct sum of each is known from the answers at its ends: a piece whose sum is
    off is halved, so that points concentrate where the answer changes. Where even many points do not suffice, the answer
    is discontinuous (orders, counts, flat series), and the values only rank.

    Args:
        steps: Initial number of points on the path. Up to 16 times as many are used where the sum would be more than 1 %
            off.
    """

    reads = (Grid, Ids, Points)
    measures = True
    gradients = True

    def __init__(self, *, steps: int = 32) -> None:
        self.steps = steps

    def refuses(self, probe: Probe) -> str:
        reason = super().refuses(probe)
        if not reason and find_spec("captum") is None:
            return "needs an optional library: pip install 'sensorium[explain]'"
        if not reason and isinstance(probe.layout, Ids) and _table(probe) is None:
            return "needs an encoder that looks each word up once, in one table"
        return reason

    def explain(self, probe: Probe) -> Heat:
        try:
            from captum.attr import IntegratedGradients
        except ImportError:
            raise MissingExtraError("the explainer integrated_gradients", "explain") from None
        table = _table(probe) if isinstance(probe.layout, Ids) else None
        answer, start, end, more = _path(probe, table)
        tool = IntegratedGradients(answer)

        def at(share: Tensor) -> Tensor:
            return start + share.to(end.dtype).reshape(-1, *[1] * (end.dim() - 1)) * (end - start)

        def spread(rows: int) -> tuple[Any, ...]:
            return tuple(x.expand(rows, *x.shape[1:]) if isinstance(x, Tensor) else x for x in more)

        def along_path(share: Tensor) -> Tensor:
            with torch.no_grad():
                parts = torch.split(share, _AT_ONCE)
                return torch.cat([answer(at(part), *spread(len(part))).double() for part in parts])

        def walked(ends: Tensor) -> Tensor:
            """Return the contribution of each element between the two positions ``ends`` ``[pieces, 2]`` on the path."""
            parts = []
            for chunk in torch.split(ends, _AT_ONCE // _NODES):
                positions, arguments = (at(chunk[:, 0]), at(chunk[:, 1])), spread(len(chunk))
                pieces = tool.attribute(
                    positions[1], baselines=positions[0], additional_forward_args=arguments, n_steps=_NODES
                )
                parts.append(pieces.detach().double())
            return torch.cat(parts)

        blank, value = along_path(torch.tensor([0.0, 1.0], device=end.device)).tolist()
        # cuDNN differentiates recurrent networks in training mode alone.
        with torch.enable_grad(), torch.backends.cudnn.flags(enabled=False):
            values, off = _added(along_path, walked, max(1, self.steps // _NODES), value - blank, end.device)
        # The gradients of a discontinuous answer (orders, counts) do not add up; then the values only rank.
        close = off <= _FAR * abs(value - blank) + 1e-4
        values = values.sum(dim=-1) if isinstance(probe.layout, (Ids, Points)) else values
        return Heat(values.float(), blank if close else None)


def _added(
    along_path: Callable[[Tensor], Tensor],
    walked: Callable[[Tensor], Tensor],
    count: int,
    change: float,
    device: torch.device,
) -> tuple[Tensor, float]:
    """Return the values over the whole path, from ``count`` initial pieces, and the error of their sum."""
    marks = torch.linspace(0, 1, count + 1, dtype=torch.float64, device=device)
    ends = torch.stack([marks[:-1], marks[1:]], dim=1)
    values, room = walked(ends), (_MOST - 1) * count
    while True:
        # The error of each piece; negative where it should be larger.
        off = values.flatten(1).sum(dim=1) - along_path(ends.flatten()).reshape(-1, 2).diff(dim=1)[:, 0]
        lost = abs(float(off.sum()))
        wrong = off.abs() > _CLOSE * abs(change) / len(off)
        # Positions closer than this are equal in float32.
        wrong &= ends[:, 1] - ends[:, 0] > 1e-6
        if lost <= max(_CLOSE * abs(change), 1e-6) or not bool(wrong.any()) or room < 2:
            return values.sum(dim=0), lost
        worst = off.abs().masked_fill(~wrong, -1.0).argsort(descending=True)[: min(int(wrong.sum()), room // 2)]
        rest = torch.ones_like(wrong)
        rest[worst] = False
        middle = ends[worst].mean(dim=1)
        halves = torch.cat([torch.stack([ends[worst, 0], middle], dim=1), torch.stack([middle, ends[worst, 1]], dim=1)])
        values, ends, room = torch.cat([values[rest], walked(halves)]), torch.cat([ends[rest], halves]), room - len(halves)


def _path(probe: Probe, table: nn.Embedding | None) -> tuple[Callable[..., Tensor], Tensor, Tensor, tuple[Any, ...]]:
    """Return the answer as a function of the interpolated input, start and end of the path, and further arguments."""
    if table is None:
        data = probe.data if probe.mask is None else probe.data * _along(probe)
        return probe.answer, torch.zeros_like(data), data, (probe.mask,)

    def answer(vectors: Tensor, mask: Tensor | None, ids: Tensor) -> Tensor:
        hook = table.register_forward_hook(lambda _module, _given, _out: vectors)
        try:
            return probe.answer(ids, mask)
        finally:
            hook.remove()

    with torch.no_grad():
        vectors = table(probe.data)
    # Tokens that are not words of the text (special tokens of a pretrained network) stay as they are.
    word = torch.ones_like(probe.data[0], dtype=torch.bool) if probe.groups is None else probe.groups >= 0
    start = torch.where(word.to(vectors.device)[None, :, None], 0.0, vectors)
    mask = torch.ones_like(probe.data, dtype=torch.bool) if probe.mask is None else probe.mask
    return answer, start, vectors, (mask, probe.data)


def _along(probe: Probe) -> Tensor:
    """Return the mask, reshaped to broadcast over the data."""
    assert probe.mask is not None
    if isinstance(probe.layout, Points):
        return probe.mask[..., None]
    return probe.mask.reshape(1, 1, -1, *[1] * (probe.data.dim() - 3))


def _table(probe: Probe) -> nn.Embedding | None:
    """Return the embedding table of an encoder of words, if there is exactly one."""
    assert isinstance(probe.layout, Ids)
    large = [
        m for m in probe.encoder.modules() if isinstance(m, nn.Embedding) and m.num_embeddings >= probe.layout.vocabulary
    ]
    called: list[nn.Embedding] = []

    def note(module: nn.Module, inputs: tuple[Any, ...]) -> None:
        called.append(module)  # type: ignore[arg-type]

    hooks = [module.register_forward_pre_hook(note) for module in large]
    try:
        _ = probe.value
    finally:
        for hook in hooks:
            hook.remove()
    return called[0] if len(called) == 1 and len(large) == 1 else None
