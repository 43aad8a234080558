"""Checks of fusions."""

from __future__ import annotations

from dataclasses import replace
from itertools import product

import torch
from torch import Tensor

from sensorium.core.batch import Encoded
from sensorium.core.contracts import Fusion
from sensorium.core.registry import build
from sensorium.testing import samples
from sensorium.testing.general import assert_same, check_description, check_gradients, check_module, perturbed

DIM = 16
SIZES = {"photo": 5, "items": 1, "a.b": 3}  # names that nn.ModuleDict would refuse
PRESENT = torch.tensor(list(product([True, False], repeat=len(SIZES))))  # the last row has nothing


def check_fusion(kind: str) -> None:
    """Check the fusion ``kind``: independent of stream order, of absent rows' contents and of padding; zero for an empty
    row; one stream suffices."""
    check_description("fusions", kind)
    where = f"fusions/{kind}"
    parts = samples.streams(SIZES, DIM, PRESENT)

    def make() -> Fusion:
        return built(kind, list(SIZES))

    check_module(make, lambda module: module(parts))
    fusion = perturbed(make()).eval()
    with torch.no_grad():
        out = fusion(parts)
        check_shape(out, PRESENT.any(dim=1), where)
        assert_same(out, fusion(dict(reversed(parts.items()))), f"{where}: the order of the mapping matters")
        assert_same(out, fusion(littered(parts)), f"{where}: what stands in absent rows matters")
        longer = {s: padded(part) for s, part in parts.items()}
        assert_same(out.pooled, fusion(longer).pooled, f"{where}: longer padding changes the vector")
        for i in range(len(PRESENT)):
            alone = fusion({s: part.map(lambda t, i=i: t[i : i + 1]) for s, part in parts.items()})  # type: ignore[misc]
            assert_same(alone.pooled, out.pooled[i : i + 1], f"{where}: row {i} depends on its batch")
        only = samples.streams({"one": 4}, DIM, torch.tensor([[True], [False], [True]]))
        check_shape(perturbed(built(kind, ["one"])).eval()(only), torch.tensor([True, False, True]), f"{where}, one stream")
    fusion.train()
    # Attention among the tokens of a stream that has one has nothing to learn: here each has several.
    several = samples.streams({s: n + 2 for s, n in SIZES.items()}, DIM, PRESENT)
    watched = {s: part.map(lambda t: t.requires_grad_() if t.is_floating_point() else t) for s, part in several.items()}
    check_gradients(fusion, fusion(watched))
    for name, part in watched.items():
        for tensor in (part.tokens, part.pooled):
            finite = tensor.grad is None or bool(tensor.grad.isfinite().all())
            assert finite, f"{where}: the gradient that reaches stream {name!r} is not finite"


def built(kind: str, streams: list[str]) -> Fusion:
    """The fusion ``kind`` for ``streams``, in evaluation mode with perturbed weights."""
    torch.manual_seed(0)
    fusion: Fusion = build("fusions", kind, streams, DIM)
    return fusion


def check_shape(out: Encoded, present: Tensor, where: str) -> None:
    """Check the fused structure ``out``: shapes, a row is ``present`` where any stream is, zero where absent, finite.
    ``where`` names the case in messages."""
    rows, n = out.mask.shape
    assert out.tokens.shape == (rows, n, DIM), f"{where}: tokens are {tuple(out.tokens.shape)}"
    assert out.pooled.shape == (rows, DIM), f"{where}: pooled is {tuple(out.pooled.shape)}"
    assert torch.equal(out.present, present), f"{where}: a row is present where any stream is"
    assert bool(out.tokens.isfinite().all() and out.pooled.isfinite().all()), f"{where}: not finite"
    assert not bool(out.tokens[~out.mask].any()), f"{where}: tokens are not zero where masked"
    assert not bool(out.pooled[~present].any()), f"{where}: a row with nothing is not zero"
    assert not bool(out.mask[~present].any()), f"{where}: a row with nothing has real tokens"
    assert bool(out.pooled[present].any(dim=1).all()), f"{where}: a row with something is zero"


def littered(parts: dict[str, Encoded]) -> dict[str, Encoded]:
    """``parts`` with large values in all absent rows."""

    def litter(tensor: Tensor, present: Tensor) -> Tensor:
        return torch.where(present.reshape(-1, *[1] * (tensor.dim() - 1)), tensor, torch.full_like(tensor, 1e3))

    return {s: replace(p, tokens=litter(p.tokens, p.present), pooled=litter(p.pooled, p.present)) for s, p in parts.items()}


def padded(part: Encoded) -> Encoded:
    """``part`` with three additional tokens that are masked and nonzero."""
    rows = part.mask.shape[0]
    return replace(
        part,
        tokens=torch.cat([part.tokens, torch.ones(rows, 3, part.tokens.shape[2])], dim=1),
        mask=torch.cat([part.mask, torch.zeros(rows, 3, dtype=torch.bool)], dim=1),
    )
