"""Canonical correlation analysis: against singular values in closed form, with sides that are absent, and by codes."""

from __future__ import annotations

import torch
from torch import Tensor

from sensorium.nn.canonical_correlation import canonical_directions


def views(rows: int, seed: int = 0) -> list[Tensor]:
    """Three views of three hidden numbers, centred."""
    draw = torch.Generator().manual_seed(seed)
    hidden = torch.randn(rows, 3, generator=draw, dtype=torch.float64)
    ways = torch.Generator().manual_seed(9)
    each = [hidden @ torch.randn(3, 5, generator=ways, dtype=torch.float64) for _ in range(3)]
    noisy = [view + 0.1 * torch.randn(view.shape, generator=draw, dtype=torch.float64) for view in each]
    return [view - view.mean(dim=0) for view in noisy]


def test_of_two_sides_the_correlations_are_those_of_the_closed_form() -> None:
    a, b, _ = views(200)
    code, present = torch.arange(200), torch.ones(200, 2, dtype=torch.bool)
    maps = canonical_directions([a, b], present, code, ridge=0.0, rank=3)
    left, right = torch.linalg.qr(a)[0], torch.linalg.qr(b)[0]
    wanted = torch.linalg.svdvals(left.T @ right)[:3]
    x, y = a @ maps[0], b @ maps[1]
    correlation = (x * y).sum(dim=0) / (x.norm(dim=0) * y.norm(dim=0))
    assert torch.allclose(correlation, wanted, atol=1e-6)
    assert torch.allclose(x.norm(dim=0) / x.norm(dim=0)[0], wanted / wanted[0], atol=1e-6), "weighted by correlation"


def found(first: Tensor, second: Tensor) -> float:
    """How often the nearest row of ``second`` is the row itself."""
    cosine = torch.nn.functional.normalize(first, dim=1) @ torch.nn.functional.normalize(second, dim=1).T
    return float((cosine.argmax(dim=1) == torch.arange(len(first))).double().mean())


def test_sides_that_never_share_a_row_meet_through_a_third() -> None:
    train, test = views(400), views(100, seed=1)
    present = torch.ones(400, 3, dtype=torch.bool)
    present[::2, 0], present[1::2, 2] = False, False
    maps = canonical_directions(train, present, torch.arange(400), ridge=0.01, rank=3)
    assert found(test[0] @ maps[0], test[2] @ maps[2]) > 0.5, "chance is 0.01"
    nothing = present.clone()
    nothing[:, 1] = False
    assert canonical_directions(train, nothing, torch.arange(400), ridge=0.01, rank=3)[0].shape == (5, 0)


def test_rows_of_one_code_belong_together_though_no_row_has_both_sides() -> None:
    draw = torch.Generator().manual_seed(2)
    code = torch.arange(300) % 6
    sides = [torch.randn(6, 8, generator=draw).double()[code] for _ in range(2)]
    sides = [side + 0.1 * torch.randn(300, 8, generator=draw).double() for side in sides]
    sides = [side - side.mean(dim=0) for side in sides]
    present = torch.stack([torch.arange(300) < 150, torch.arange(300) >= 150], dim=1)
    maps = canonical_directions(sides, present, code, ridge=0.01, rank=4)
    x, y = (torch.nn.functional.normalize(side @ part, dim=1) for side, part in zip(sides, maps, strict=True))
    nearest = (x[:150] @ y[150:].T).argmax(dim=1)
    assert (code[150:][nearest] == code[:150]).double().mean() > 0.95
