"""Explainers against closed forms, captum and pictures whose answer is known to lie in one place."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from sensorium.core.attribution_units import Units
from sensorium.core.batch import Encoded
from sensorium.core.contracts import Encoder
from sensorium.core.explainer import Explainer, Probe
from sensorium.core.layout import Grid, Ids, Layout, Points, Row
from sensorium.core.registry import build
from sensorium.evaluation.faithfulness import by_chance, curves, sanity, scrambled
from sensorium.evaluation.stream_attribution import exact

Answer = Callable[[Tensor, Tensor | None], Tensor]


class Nothing(Encoder):
    reads = (Grid, Ids, Points, Row)
    dim = 1

    def forward(self, data: Tensor, mask: Tensor | None = None) -> Encoded:
        raise AssertionError("the answer is a formula here")


def formula(layout: Layout, data: Tensor, answer: Answer, mask: Tensor | None = None, **more: Any) -> Probe:
    return Probe(layout, Nothing(), data, mask, answer, **more)


def explainer(spec: str | Mapping[str, Any]) -> Explainer:
    made: Explainer = build("explainers", spec)
    return made


# ── closed forms ───────────────────────────────────────────────────────────────────────────────────────────────────────


def test_integrated_gradients_of_what_can_be_integrated_by_hand() -> None:
    x = torch.randn(1, 2, 5, generator=torch.Generator().manual_seed(0))
    w = torch.randn(2, 5, generator=torch.Generator().manual_seed(1))
    cases: list[tuple[Answer, Tensor]] = [
        (lambda d, m: (d * w).sum(dim=(1, 2)), w * x[0]),
        (lambda d, m: d.square().sum(dim=(1, 2)), x[0].square()),
        # Of a product each of two gets half; of x y² the first a third and the second two.
        (lambda d, m: d[:, 0, 0] * d[:, 1, 1].square(), torch.zeros(2, 5)),
    ]
    third = float(x[0, 0, 0] * x[0, 1, 1] ** 2)
    cases[2][1][0, 0], cases[2][1][1, 1] = third / 3, 2 * third / 3
    for answer, truth in cases:
        heat = explainer("integrated_gradients").explain(formula(Grid(2, (5,)), x, answer))
        torch.testing.assert_close(heat.values, truth, atol=1e-4, rtol=1e-3)
        assert heat.blank == pytest.approx(0.0)


def test_steps_are_added_until_the_sum_is_right() -> None:
    """A step at 0.9 of the way, which few points would miss."""
    layout, x = Grid(1, (4,)), torch.ones(1, 1, 4)

    def answer(data: Tensor, mask: Tensor | None) -> Tensor:
        return (60 * (data.mean(dim=(1, 2)) - 0.9)).sigmoid()

    heat = explainer({"kind": "integrated_gradients", "steps": 2}).explain(formula(layout, x, answer))
    assert heat.blank is not None
    assert float(heat.values.sum()) == pytest.approx(float(answer(x, None)) - heat.blank, abs=0.03)


def test_integrated_gradients_of_words_are_those_of_their_vectors() -> None:
    class Reads(Nothing):
        def __init__(self) -> None:
            super().__init__()
            self.table = nn.Embedding(9, 3)

    encoder, ids = Reads(), torch.tensor([[4, 2, 7]])
    w = torch.tensor([0.5, -1.0, 2.0])

    def answer(data: Tensor, mask: Tensor | None) -> Tensor:
        return (encoder.table(data) @ w).sum(dim=1)

    sample = Probe(Ids(9, 3), encoder, ids, None, answer, groups=torch.tensor([-1, 0, 1]))
    heat = explainer("integrated_gradients").explain(sample)
    truth = (encoder.table(ids)[0] @ w).detach()
    torch.testing.assert_close(heat.values[1:], truth[1:], atol=1e-4, rtol=1e-3)
    assert float(heat.values[0]) == 0.0, "a special token stays where it is"
    assert heat.blank == pytest.approx(float(truth[0]), abs=1e-5)


def test_occlusion_of_a_sum_gives_its_terms() -> None:
    x, w = torch.randn(1, 1, 16, 16), torch.randn(16, 16)
    sample = formula(Grid(1, (16, 16)), x, lambda d, m: (d[:, 0] * w).sum(dim=(1, 2)))
    heat = explainer({"kind": "occlusion", "parts": 4}).explain(sample)
    terms = (x[0, 0] * w).reshape(4, 4, 4, 4).sum(dim=(1, 3))
    torch.testing.assert_close(heat.values[0].reshape(4, 4, 4, 4).sum(dim=(1, 3)), terms, atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize("layout", [Row((0, 0, 3, 0, 0)), Ids(50, 5)])
def test_shapley_values_of_parts_are_exact_where_at_most_two_act_together(layout: Layout) -> None:
    """An order and its reverse average any pair to half and half, so even one pair of orders must be exact."""
    rng = np.random.default_rng(0)
    alone, pairs = rng.normal(size=5), np.triu(rng.normal(size=(5, 5)), 1)
    data = torch.tensor([[1, 2, 3, 4, 5]])

    def worth(present: np.ndarray[Any, Any]) -> float:
        return float(present @ alone + present @ pairs @ present)

    def answer(inputs: Tensor, mask: Tensor | None) -> Tensor:
        if isinstance(layout, Ids):
            seen = torch.stack([(inputs == i).any(dim=1) for i in range(1, 6)], dim=1)
        else:
            assert mask is not None
            seen = mask
        return torch.tensor([worth(row) for row in seen.double().numpy()])

    bits = [np.array([s >> i & 1 for i in range(5)], dtype=float) for s in range(32)]
    truth, _ = exact(lambda s: np.array([worth(bits[s])]), 5)
    heat = explainer({"kind": "shapley", "orders": 1}).explain(formula(layout, data, answer))
    np.testing.assert_allclose(heat.values.numpy(), truth[:, 0], atol=1e-5)
    assert heat.blank == pytest.approx(0.0)


def test_gradcam_is_captums() -> None:
    captum = pytest.importorskip("captum.attr")

    class Conv(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.cut = nn.Conv2d(2, 4, 3, stride=2, padding=1)
            self.last = nn.Linear(4, 1)

        def forward(self, data: Tensor) -> Tensor:
            result: Tensor = self.last(self.cut(data).tanh().mean(dim=(2, 3)))[:, 0]
            return result

    network, x = Conv(), torch.randn(1, 2, 8, 8)

    class Holds(Nothing):
        def __init__(self) -> None:
            super().__init__()
            self.cut = network.cut

    sample = Probe(Grid(2, (8, 8)), Holds(), x, None, lambda d, m: network(d))
    tool = captum.LayerGradCam(network, network.cut)
    for positive in (True, False):
        theirs = tool.attribute(x, relu_attributions=positive)
        theirs = torch.nn.functional.interpolate(theirs, size=(8, 8), mode="bilinear", align_corners=False)
        mine = explainer({"kind": "gradcam", "positive": positive}).explain(sample).values
        torch.testing.assert_close(mine, theirs[0].detach(), atol=1e-6, rtol=1e-5)


def test_rollout_follows_the_attention_that_is_there() -> None:
    torch.manual_seed(0)
    encoder = build("encoders", {"kind": "transformer", "dim": 8, "depth": 1, "heads": 2}, Ids(20, 6)).eval()
    ids = torch.randint(1, 20, (1, 6))
    last = torch.randn(8)
    sample = Probe(Ids(20, 6), encoder, ids, None, lambda d, m: encoder(d, m).pooled @ last)
    heat = explainer({"kind": "attention_rollout", "weighted": False}).explain(sample)
    with torch.no_grad():
        tokens, real = encoder.embed(ids, None)
        block = encoder.stack.blocks[0]
        seen = block.norm_attention(tokens)
        share = block.attention.weights(seen, seen, real)[0]
        out = encoder.trunk(tokens, real)[0]
    # The vector is the mean token: what the answer takes of each is its part of the sum.
    taken = (out @ last / 6).clamp(min=0)
    torch.testing.assert_close(heat.values, taken @ (share / 2 + torch.eye(6) / 2), atol=1e-5, rtol=1e-4)


def test_what_cannot_be_explained_is_refused_in_words() -> None:
    torch.manual_seed(0)
    bag = build("encoders", "bag_of_words", Ids(20, 6)).eval()
    sample = Probe(Ids(20, 6), bag, torch.tensor([[1, 2, 3]]), None, lambda d, m: bag(d, m).pooled.sum(dim=1))
    assert "looks each word up once" in explainer("integrated_gradients").refuses(sample)
    assert explainer("gradcam").refuses(sample) == "does not read ids"
    assert "one transformer" in explainer("attention_rollout").refuses(sample)
    row = formula(Grid(1, (4,)), torch.ones(1, 1, 4), lambda d, m: d.sum(dim=(1, 2)), smooth=False)
    assert "cannot differentiate" in explainer("integrated_gradients").refuses(row)
    assert explainer("occlusion").refuses(row) == ""


# ── parts ──────────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_words_are_cut_out_and_the_rest_moves_up() -> None:
    units = Units(Ids(20, 5), torch.tensor([[9, 4, 5, 6, 8]]), None, groups=torch.tensor([-1, 0, 0, 1, 2]))
    assert units.count == 3
    data, mask = units.left(torch.tensor([[True, False, True], [False, False, False]]))
    assert data.tolist() == [[9, 4, 5, 8, 0], [9, 0, 0, 0, 0]]
    assert mask is not None
    assert mask.sum(dim=1).tolist() == [4, 1]


def test_parts_of_what_is_not_real_are_none() -> None:
    mask = torch.tensor([[True] * 5 + [False] * 3])
    units = Units(Grid(2, (8,)), torch.ones(1, 2, 8), mask)
    assert units.count == 10
    assert (units.index[:, 5:] == -1).all()
    spread = units.spread(torch.ones(units.count))
    assert float(spread.sum()) == 10
    assert not spread[:, 5:].any()
    torch.testing.assert_close(units.gathered(spread), torch.ones(10))
    # A map without channels is divided among them.
    torch.testing.assert_close(units.gathered(torch.ones(1, 8)), torch.full((10,), 0.5))


def test_every_point_has_a_group_and_groups_lie_together() -> None:
    place = torch.cat([torch.randn(40, 3) * 0.01 + torch.tensor([10.0 * i, 0, 0]) for i in range(3)])
    units = Units(Points(3, 120), place[None], None)
    assert units.count == 32
    cluster = torch.arange(120) // 40
    for group in range(32):
        assert len(set(cluster[units.index == group].tolist())) == 1


# ── pictures whose answer lies in one place ────────────────────────────────────────────────────────────────────────────


@cache
def squares() -> tuple[Encoder, list[Probe], list[Probe], Tensor]:
    """A network that tells upright bars from lying ones, small among noise: real and scrambled, and where the bars are."""
    torch.manual_seed(0)
    layout = Grid(1, (16, 16))
    encoder: Encoder = build("encoders", {"kind": "convnet", "dim": 16, "width": 8, "depth": 2, "dropout": 0.0}, layout)
    last = nn.Linear(16, 2)

    def draw(count: int) -> tuple[Tensor, Tensor, Tensor]:
        pictures, kind = 0.3 * torch.randn(count, 1, 16, 16), torch.randint(2, (count,))
        place, inside = torch.randint(0, 11, (count, 2)), torch.zeros(count, 16, 16)
        for i, (top, left) in enumerate(place.tolist()):
            high, wide = (5, 2) if kind[i] else (2, 5)
            inside[i, top : top + high, left : left + wide] = 1
        return pictures + 2 * inside[:, None], kind, inside

    learner = torch.optim.Adam([*encoder.parameters(), *last.parameters()], lr=0.01)
    for _ in range(80):
        pictures, kind, _ = draw(48)
        loss = nn.functional.cross_entropy(last(encoder(pictures).pooled), kind)
        learner.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        learner.step()
    encoder.eval()
    other = scrambled(encoder)
    pictures, kind, inside = draw(24)
    right = [i for i in range(24) if int(last(encoder(pictures[i : i + 1]).pooled).argmax()) == int(kind[i])]
    assert len(right) > 20

    def probes(network: Any) -> list[Probe]:
        def answer(kind: int) -> Answer:
            return lambda d, m: (last(network(d, m).pooled) / 4).softmax(dim=1)[:, kind]  # not so sure as to saturate

        return [Probe(layout, network, pictures[i : i + 1], None, answer(int(kind[i]))) for i in right]

    return encoder, probes(encoder), probes(other), inside[right]


@pytest.mark.parametrize("kind", ["integrated_gradients", "occlusion", "shapley", "gradcam"])
def test_maps_beat_chance_and_lie_on_what_decides(kind: str) -> None:
    _, real, other, inside = squares()
    if kind == "integrated_gradients":
        pytest.importorskip("captum")
    made = explainer({"kind": kind, "orders": 2} if kind == "shapley" else kind)
    count = 6 if kind == "shapley" else 12
    heats = [made.explain(p).values for p in real[:count]]
    gaps = [curves(p, heat).gap - by_chance(p, draws=3).gap for p, heat in zip(real, heats, strict=False)]
    assert np.mean(gaps) > 2 * np.std(gaps) / len(gaps) ** 0.5 > 0, f"{kind} is not better than chance: {gaps}"
    shares = [
        float((h[0].clamp(min=0) * near).sum() / h[0].clamp(min=0).sum()) for h, near in zip(heats, inside, strict=False)
    ]
    assert np.mean(shares) > 3 * float(inside.mean()), "what is shown does not lie on the bar"
    assert sanity(made, list(zip(real[:4], other[:4], strict=True))) < 0.9, "the map is the same for a scrambled network"


def test_a_map_of_chance_is_no_better_than_chance_and_knows_no_weights() -> None:
    _, real, other, _ = squares()
    gaps = [by_chance(p, draws=4).gap for p in real[:12]]
    assert abs(np.mean(gaps)) < 3 * np.std(gaps) / len(gaps) ** 0.5 + 0.02
    assert sanity(explainer("random"), list(zip(real[:2], other[:2], strict=True))) == pytest.approx(1.0)


def test_curves_of_a_sum_are_its_partial_sums() -> None:
    x = torch.tensor([[[5.0, 1.0, 3.0, 1.0]]])
    sample = formula(Grid(1, (4,)), x, lambda d, m: d.sum(dim=(1, 2)) / 10)
    explanation = curves(sample, x[0], steps=4)
    assert explanation.shares == pytest.approx([0, 0.25, 0.5, 0.75, 1])
    assert explanation.deletion == pytest.approx([1.0, 0.5, 0.2, 0.1, 0.0])
    assert explanation.insertion == pytest.approx([0.0, 0.5, 0.8, 0.9, 1.0])
    assert explanation.deletion_area == pytest.approx(0.25 * (0.5 + 0.5 + 0.2 + 0.1))
    assert explanation.gap == pytest.approx(explanation.insertion_area - explanation.deletion_area)


@pytest.mark.parametrize("columns", [512, 513, 2048])
def test_thousands_of_columns_are_added_in_fewer_orders(columns: int) -> None:
    """Of a sum every order tells the truth; how many rows are answered grows with the columns, not with their square."""
    x = torch.randn(1, columns, generator=torch.Generator().manual_seed(0))
    requested: list[int] = []

    def answer(data: Tensor, mask: Tensor | None) -> Tensor:
        requested.append(len(data))
        return (data if mask is None else data * mask).sum(dim=1)

    sample = formula(Row((0,) * columns), x, answer)
    heat = explainer("shapley").explain(sample)
    torch.testing.assert_close(heat.values.float(), x[0], atol=1e-3, rtol=1e-3)
    assert sum(requested) <= 16 * 512 + 8
    assert max(requested) <= 64
    torch.testing.assert_close(explainer("occlusion").explain(sample).values.float(), x[0], atol=1e-3, rtol=1e-3)
    assert max(requested) <= 64
