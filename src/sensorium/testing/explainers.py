"""Checks of explainers."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from sensorium.core.contracts import Encoder
from sensorium.core.explainer import Explainer, Heat, Probe
from sensorium.core.layout import Grid, Layout
from sensorium.core.registry import build, find, options
from sensorium.testing import samples
from sensorium.testing.encoders import accepts
from sensorium.testing.general import check_description, perturbed

CLOSE = 0.03
ENCODERS = ("convnet", "patch", "transformer", "bag_of_words", "mlp", "cells", "pointnet", "graph")
SHOWN: tuple[Layout, ...] = tuple(layout for layout in samples.LAYOUTS if layout != Grid(6, (1,)))


def check_explainer(kind: str) -> None:
    """Check the explainer ``kind``: finite values of the row's shape, zero on padding, reproducible, adding up where
    claimed, without side effects."""
    check_description("explainers", kind)
    component_class = find("explainers", kind)
    quick = {
        name: few for name, few in {"orders": 1, "parts": 2}.items() if name in options("explainers", kind).model_fields
    }
    explained = 0
    for encoder in ENCODERS:
        for layout in SHOWN:
            if not isinstance(layout, component_class.reads):
                continue
            if not (isinstance(layout, find("encoders", encoder).reads) and accepts(encoder, layout)):
                continue
            explainer: Explainer = build("explainers", {"kind": kind, **quick})
            for masked in (False, True):
                sample = probe(encoder, layout, masked=masked)
                if not explainer.refuses(sample):
                    check_heat(explainer, sample, f"explainers/{kind} of {encoder} on {layout}")
                    explained += 1
    assert explained, f"explainers/{kind} explains none of the encoders it was shown"


def check_heat(explainer: Explainer, sample: Probe, where: str) -> None:
    """Run all checks of ``explainer`` on the probe ``sample``. ``where`` names the case in messages."""
    state = {name: value.clone() for name, value in sample.encoder.state_dict().items()}
    before = sample.answer(sample.data, sample.mask).detach()
    heat = explainer.explain(sample)
    with torch.no_grad():
        again = explainer.explain(sample)
    values = heat.values
    assert bool(values.isfinite().all()), f"{where}: values are not finite"
    assert not values.requires_grad, f"{where}: values drag a graph along"
    assert torch.allclose(values, again.values, atol=1e-6), f"{where}: asked twice it answers twice"
    shape = shaped(sample)
    assert values.shape in shape, f"{where}: values are {tuple(values.shape)}, not {' or '.join(map(str, shape))}"
    if sample.mask is not None:
        beyond = ~sample.mask[0]
        off = values[:, beyond] if isinstance(sample.layout, Grid) else values[beyond]
        assert not bool(off.any()), f"{where}: values where nothing is real"
    if heat.blank is not None:
        change = sample.value - heat.blank
        off_by = abs(float(values.sum()) - change)
        assert off_by <= CLOSE * abs(change) + 1e-3, f"{where}: values add up to {float(values.sum())}, not {change}"
    assert torch.equal(sample.answer(sample.data, sample.mask).detach(), before), (
        f"{where}: the encoder answers otherwise now"
    )
    assert all(torch.equal(state[n], v) for n, v in sample.encoder.state_dict().items()), f"{where}: weights have changed"
    assert all(p.grad is None for p in sample.encoder.parameters()), f"{where}: gradients are left in the encoder"
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in sample.encoder.modules()), f"{where}: hooks are left"
    assert not any("forward" in vars(m) for m in sample.encoder.modules()), f"{where}: a module stays changed"


def shaped(sample: Probe) -> list[tuple[int, ...]]:
    """The shapes that values for the probe ``sample`` may have."""
    if isinstance(sample.layout, Grid):
        channels, *size = sample.data.shape[1:]
        return [(channels, *size), (1, *size)]
    return [(sample.data.shape[1],)]


def probe(kind: str, layout: Layout, *, masked: bool = False, seed: int = 0) -> Probe:
    """A random row of ``layout``, drawn by ``seed``, with an encoder ``kind`` and a linear answer; ``masked``: its last
    third is padding."""
    torch.manual_seed(seed)
    encoder: Encoder = perturbed(build("encoders", kind, layout), seed)
    last = nn.Linear(encoder.dim, 1)
    for i in (3, 4):
        encoder(samples.data(layout, 6, seed=i))
    encoder.eval()
    data = samples.data(layout, 1, seed=seed)
    n = samples.length(layout)
    mask = torch.arange(n)[None] < max(1, n - n // 3) if masked else None

    def answer(data: Tensor, mask: Tensor | None) -> Tensor:
        part = encoder(data, mask)
        part = part if mask is None else part.hide(mask.any(dim=1))
        score: Tensor = last(part.pooled)[:, 0].sigmoid()
        return score

    return Probe(layout, encoder, data, mask, answer)


def signature(spec: dict[str, Any]) -> Any:
    """The values that the explainer ``spec`` gives one row, for each encoder it is tried on."""
    explainer: Explainer = build("explainers", spec)
    return [heat.values for heat in _heats(explainer)]


def _heats(explainer: Explainer) -> Iterator[Heat]:
    for kind, layout in (
        ("convnet", samples.LAYOUTS[1]),
        ("patch", samples.LAYOUTS[0]),
        ("bag_of_words", samples.LAYOUTS[4]),
    ):
        sample = probe(kind, layout)
        if not explainer.refuses(sample):
            yield explainer.explain(sample)
