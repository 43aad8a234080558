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

_CLOSE = 0.01  # of the answer's change, at most, may be lost to the steps
_FAR = 0.03
_MOST = 16  # times as many steps, where a few do not come that close
_AT_ONCE = 32


@component
class Integrated(Explainer):
    """Gradients along the straight way from a blank row to this one, added up: for pictures, spectrograms, series, words.

    The blank is the training mean of a grid, and words without meaning (embeddings of zero). The values add up to what
    the row did to the answer as against the blank. Works for every encoder that takes gradients, cell by cell.
    Source: Sundararajan et al. 2017, https://arxiv.org/abs/1703.01365. Library: captum, https://arxiv.org/abs/2009.07896.

    Where even many steps do not add up, the encoder is no smooth function of its input, and the values only rank.

    Args:
        steps: Points on the way. Taken 2, 4, 8 or 16 times as many where the sum would be more than 1 % off.
    """

    reads = (Grid, Ids, Points)
    gradients = True

    def __init__(self, *, steps: int = 32) -> None:
        self.steps = steps

    def refuses(self, probe: Probe) -> str:
        told = super().refuses(probe)
        if not told and find_spec("captum") is None:
            return "needs an optional library: pip install 'sensorium[explain]'"
        if not told and isinstance(probe.layout, Ids) and _table(probe) is None:
            return "needs an encoder that looks each word up once, in one table"
        return told

    def explain(self, probe: Probe) -> Heat:
        try:
            from captum.attr import IntegratedGradients
        except ImportError:
            raise MissingExtraError("the explainer integrated", "explain") from None
        table = _table(probe) if isinstance(probe.layout, Ids) else None
        answer, start, end, more = _path(probe, table)
        tool = IntegratedGradients(answer)
        with torch.no_grad():
            blank = float(answer(start, *more)[0])
        change, steps = probe.value - blank, self.steps
        # cuDNN differentiates recurrent networks in training mode alone.
        with torch.enable_grad(), torch.backends.cudnn.flags(enabled=False):
            while True:
                found: Tensor = tool.attribute(
                    end, baselines=start, additional_forward_args=more, n_steps=steps, internal_batch_size=_AT_ONCE
                ).detach()
                off = abs(float(found.sum()) - change)
                close = off <= max(_CLOSE * abs(change), 1e-6)
                if close or steps >= _MOST * self.steps:
                    break
                steps *= 2
        # An answer with steps in it (orders, counts) has gradients that do not add up: then the values only rank.
        told = blank if close or off <= _FAR * abs(change) + 1e-4 else None
        return Heat(found[0].sum(dim=-1) if isinstance(probe.layout, (Ids, Points)) else found[0], told)


def _path(probe: Probe, table: nn.Embedding | None) -> tuple[Callable[..., Tensor], Tensor, Tensor, tuple[Any, ...]]:
    """The answer as a function of what is walked through, where the walk starts and ends, and what else it is told."""
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
    # What is no word of the text (a pretrained network's special tokens) stays as it is.
    word = torch.ones_like(probe.data[0], dtype=torch.bool) if probe.groups is None else probe.groups >= 0
    start = torch.where(word.to(vectors.device)[None, :, None], 0.0, vectors)
    mask = torch.ones_like(probe.data, dtype=torch.bool) if probe.mask is None else probe.mask
    return answer, start, vectors, (mask, probe.data)


def _along(probe: Probe) -> Tensor:
    """The mask in a shape that spreads over the data."""
    assert probe.mask is not None
    if isinstance(probe.layout, Points):
        return probe.mask[..., None]
    return probe.mask.reshape(1, 1, -1, *[1] * (probe.data.dim() - 3))


def _table(probe: Probe) -> nn.Embedding | None:
    """The one table in which an encoder looks up its words, if it is one."""
    assert isinstance(probe.layout, Ids)
    large = [
        m for m in probe.encoder.modules() if isinstance(m, nn.Embedding) and m.num_embeddings >= probe.layout.vocabulary
    ]
    seen: list[nn.Embedding] = []

    def note(module: nn.Module, given: tuple[Any, ...]) -> None:
        seen.append(module)  # type: ignore[arg-type]

    hooks = [module.register_forward_pre_hook(note) for module in large]
    try:
        _ = probe.value
    finally:
        for hook in hooks:
            hook.remove()
    return seen[0] if len(seen) == 1 and len(large) == 1 else None
