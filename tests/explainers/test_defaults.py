"""Which explainer is taken unasked: one that was measured to beat chance, at a cost that can be waited for."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pytest
import torch
from torch import Tensor

from sensorium.core.explainer import Explainer, Probe
from sensorium.core.layout import Grid, Ids
from sensorium.core.registry import build, find, kinds
from sensorium.evaluation.attribution import chosen, preferred

GUIDE = Path(__file__).parents[2] / "docs" / "explain.md"
LARGE = 4_000_000


def requested(encoder: str | dict[str, object], layout: Grid | Ids) -> tuple[str, int, int, int]:
    """What is taken for an encoder that learnt nothing: its name, the rows it had answered, the parts, the weights."""
    torch.manual_seed(0)
    network = build("encoders", encoder, layout).eval()
    rows = 0

    def answer(data: Tensor, mask: Tensor | None) -> Tensor:
        nonlocal rows
        rows += len(data)
        return data.flatten(1).double().mean(dim=1)

    data = torch.ones(1, 10, dtype=torch.long) if isinstance(layout, Ids) else torch.ones(1, layout.channels, *layout.size)
    sample = Probe(layout, network, data, None, answer, smooth=False)
    name, made, result = chosen(sample, None)
    assert made is not None, result
    made.explain(sample)
    return name, rows, sample.units().count, sum(weight.numel() for weight in network.parameters())


def test_of_a_large_encoder_few_answers_are_asked() -> None:
    picture = Grid(1, (32, 32))
    name, rows, parts, weights = requested({"kind": "vit", "dim": 256, "depth": 6, "patch": 8}, picture)
    assert weights > LARGE
    assert (name, rows) == ("shapley", 2 + 2 * (parts - 1))
    name, rows, parts, weights = requested("convnet", picture)
    assert weights < LARGE
    assert (name, rows) == ("shapley", 2 + 16 * (parts - 1))
    # Many words make a large table, of which an answer reads a few lines.
    name, rows, parts, weights = requested({"kind": "transformer", "dim": 64, "depth": 1}, Ids(80_000, 16))
    assert weights > LARGE
    assert (name, rows) == ("shapley", 2 + 16 * (parts - 1))


def test_chance_is_never_a_default_and_each_explainer_says_whether_it_is() -> None:
    assert preferred() == ["shapley"]
    for kind in kinds("explainers"):
        result: type[Explainer] = find("explainers", kind)
        assert (result.preferred > 0) == (kind in preferred())


def test_every_default_was_measured_to_beat_chance() -> None:
    """The table that the benchmark wrote: a line for each sense and encoder."""
    text = GUIDE.read_text(encoding="utf-8").partition("<!-- explainers -->")[2].partition("<!-- /explainers -->")[0]
    head, _, *lines = [[cell.strip() for cell in line.strip("| ").split(" | ")] for line in text.strip().splitlines()]
    rows = [dict(zip(head, line, strict=True)) for line in lines]
    encoders = {(row["sense"], row["encoder"]) for row in rows}
    assert len(encoders) >= 20
    for name in ("shapley", "shapley, 1 order"):
        beats = {(row["sense"], row["encoder"]): row["beats chance"] for row in rows if row["explainer"] == name}
        assert beats.keys() == encoders
        if name in preferred():
            assert set(beats.values()) == {"yes"}, [key for key, options in beats.items() if options != "yes"]
    large = [row for row in rows if row["sense"] == "image, large" and row["explainer"] == "shapley, 1 order"]
    assert len(large) == 2
    assert all(row["beats chance"] == "yes" for row in large)
    chance = [row for row in rows if row["explainer"] == "random"]
    # By chance, one of forty is ahead by two errors.
    assert sum(row["beats chance"] == "yes" for row in chance) <= max(1, len(chance) // 8)


@pytest.mark.parametrize("scale", [1e-2, 1e-4])
def test_integrated_gradients_gather_points_where_the_answer_turns(scale: float) -> None:
    """The way from zero through what is normalised turns at once, within ``scale``: as layer norms make it."""
    pytest.importorskip("captum")
    from scipy.integrate import quad

    x = torch.tensor([[[0.5, -1.0, 2.0, 0.25]]])
    w = torch.tensor([1.0, 0.5, 1.0, -2.0])

    def answer(data: Tensor, mask: Tensor | None) -> Tensor:
        length = (data.square().sum(dim=(1, 2)) + scale**2).sqrt()
        return ((data[:, 0] @ w.to(data.dtype)) / length).sigmoid()

    def slope(share: float, i: int) -> float:
        at = (x.double() * share).requires_grad_()
        (computed,) = torch.autograd.grad(answer(at, None).sum(), at)
        return float(computed[0, 0, i] * x[0, 0, i])

    places = [0.0, *(scale * 10.0**k for k in (-1, 0, 1, 2) if scale * 10.0**k < 1), 1.0]
    truth = [sum(quad(slope, a, b, args=(i,), limit=30)[0] for a, b in pairwise(places)) for i in range(4)]
    heat = build("explainers", "integrated_gradients").explain(Probe(Grid(1, (4,)), torch.nn.Identity(), x, None, answer))
    assert heat.blank == pytest.approx(0.5)
    torch.testing.assert_close(heat.values[0].double(), torch.tensor(truth).double(), atol=0.01, rtol=0.02)


def test_an_answer_that_jumps_is_said_to_rank_only() -> None:
    pytest.importorskip("captum")
    x = torch.tensor([[[0.5, -1.0, 2.0]]])

    def answer(data: Tensor, mask: Tensor | None) -> Tensor:
        return 0.1 * data[:, 0, 0] + 0.8 * (data[:, 0, 2] > 0.3)

    heat = build("explainers", "integrated_gradients").explain(Probe(Grid(1, (3,)), torch.nn.Identity(), x, None, answer))
    assert heat.blank is None
    torch.testing.assert_close(heat.values, torch.tensor([[0.05, 0.0, 0.0]]), atol=1e-4, rtol=1e-3)
