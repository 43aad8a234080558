"""Every fusion against its paper's equation in float64, on random weights, random masks and random missing streams."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from sensorium.core.batch import Encoded
from sensorium.core.contracts import Fusion
from sensorium.core.registry import build, kinds
from sensorium.testing import samples
from sensorium.testing.general import perturbed

# The equations serve the benchmarks too, which are no part of the package: they are found from the repository's root.
sys.path.insert(0, str(Path(__file__).parents[2]))

from benchmarks.plain import PLAIN

DIM = 12
SIZES = {"photo": 4, "note": 2, "sound": 5}
ROWS = 10
OPTIONS: dict[str, dict[str, Any]] = {
    "cross_attention": {"heads": 2, "depth": 2},
    "cross_modal": {"heads": 2},
    "pairwise": {"heads": 3},
    "bottleneck": {"heads": 2, "tokens": 3, "depth": 3},
    "early": {"heads": 2, "depth": 2},
    "deep": {"heads": 2},
    "tensor": {"features": 4},
    "bilinear": {"features": 3},
    "lowrank_tensor": {"rank": 3},
    "gated": {"temperature": 0.7},
}
EXACT = [kind for kind in kinds("fusions") if kind in PLAIN]


def made(kind: str, seed: int) -> tuple[Fusion, dict[str, Encoded]]:
    """A fusion with random weights, and rows of which each lacks random streams and tokens, but never all."""
    torch.manual_seed(seed)
    fusion: Fusion = build("fusions", {"kind": kind, **OPTIONS.get(kind, {})}, list(SIZES), DIM)
    present = torch.rand(ROWS, len(SIZES)) < 0.6
    present[0], present[1] = True, torch.tensor([False, True, False])
    present[~present.any(dim=1), 2] = True
    parts = samples.streams(SIZES, DIM, present, seed=seed)
    if kind == "pairwise":
        # Its tokens have places: what is masked stands at the end, or the row without it would have others.
        for part in parts.values():
            part.mask.copy_(part.mask.sort(dim=1, descending=True).values)
    double = {s: part.map(lambda t: t.double() if t.is_floating_point() else t) for s, part in parts.items()}
    return perturbed(fusion, seed).double().eval(), double


def row(parts: dict[str, Encoded], i: int) -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
    """The streams that row ``i`` has, and of each its real tokens alone."""
    return {s: (p.pooled[i : i + 1], p.tokens[i : i + 1, p.mask[i]]) for s, p in parts.items() if bool(p.present[i])}


def test_only_these_have_no_equation_of_their_own() -> None:
    assert set(kinds("fusions")) - set(EXACT) == {"late", "compose", "stream_imputation", "lxmert"}


@pytest.mark.parametrize("seed", [1, 2])
@pytest.mark.parametrize("kind", EXACT)
def test_is_its_equation(kind: str, seed: int) -> None:
    fusion, parts = made(kind, seed)
    with torch.no_grad():
        computed = fusion(parts).pooled
        for i in range(ROWS):
            torch.testing.assert_close(computed[i : i + 1], PLAIN[kind](fusion, row(parts, i)), rtol=1e-8, atol=1e-9)


@pytest.mark.parametrize("kind", EXACT)
def test_the_gradients_are_those_of_the_equation(kind: str) -> None:
    fusion, parts = made(kind, 3)
    names, weights = zip(*fusion.named_parameters(), strict=True) if list(fusion.parameters()) else ((), ())
    if not weights:
        return
    each = torch.cat([PLAIN[kind](fusion, row(parts, i)) for i in range(ROWS)])
    want = torch.autograd.grad(each.square().sum(), weights, allow_unused=True, materialize_grads=True)
    got = torch.autograd.grad(fusion(parts).pooled.square().sum(), weights, allow_unused=True, materialize_grads=True)
    for name, a, b in zip(names, got, want, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-7, atol=1e-8, msg=lambda text, name=name: f"{name}: {text}")


OTHERS_LEAVE_NO_TRACE = [kind for kind in EXACT if kind not in ("concat", "tensor", "single")]


@pytest.mark.parametrize("kind", OTHERS_LEAVE_NO_TRACE)
def test_a_row_with_one_stream_is_that_streams_own_path(kind: str) -> None:
    """A model whose weights for all other streams are anything else says the same of such a row."""
    fusion, parts = made(kind, 4)
    only = {s: part.hide(torch.full_like(part.present, s == "note")) for s, part in parts.items()}
    alone = fusion(only).pooled.sum()
    for name, parameter in fusion.named_parameters():
        (gradient,) = torch.autograd.grad(alone, parameter, retain_graph=True, materialize_grads=True, allow_unused=True)
        words = name.split(".")
        own = [w for w in words if w in ("own", "factor", "value", "gate", "trunks", "modulate", "start")]
        of_other = bool(own) and words[words.index(own[0]) + 1] in ("0", "2")
        of_other |= words[0] in ("blocks", "squeeze", "excite") and len(words) > 3 and words[2] in ("0", "2")
        of_other |= words[0] in ("readers", "looks", "rounds", "logits", "product") or words[-1] == "logits"
        if of_other:
            assert float(gradient.abs().max()) < 1e-9, f"{name} matters to a row without its stream"
