"""Every fusion against its equation, worked out row by row in float64 with numpy."""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import nn

from sensorium.core.batch import Encoded
from sensorium.core.contracts import Fusion
from sensorium.core.registry import build
from sensorium.fusions.weighted import Weighted
from sensorium.testing import samples
from sensorium.testing.general import perturbed

Array = NDArray[np.float64]
DIM = 8
SIZES = {"photo": 4, "note": 2, "sound": 3}
STREAMS = list(SIZES)
PRESENT = torch.tensor(list(product([True, False], repeat=3))[:-1])  # all but the row with nothing


@pytest.fixture
def parts() -> dict[str, Encoded]:
    return {
        s: p.map(lambda t: t.double() if t.is_floating_point() else t)
        for s, p in samples.streams(SIZES, DIM, PRESENT, seed=1).items()
    }


def make(spec: str | dict[str, Any], streams: list[str] = STREAMS) -> Fusion:
    torch.manual_seed(0)
    fusion: Fusion = build("fusions", spec, streams, DIM)
    return perturbed(fusion).double().eval()


def array(tensor: torch.Tensor) -> Array:
    return np.asarray(tensor.detach().numpy(), dtype=np.float64)


def linear(layer: nn.Module, x: Array) -> Array:
    weight, bias = layer.weight, layer.bias
    assert isinstance(weight, torch.Tensor)
    return array(weight) @ x + (array(bias) if isinstance(bias, torch.Tensor) else 0.0)


def perceptron(layers: nn.Sequential, x: Array) -> Array:
    for layer in layers:
        if isinstance(layer, nn.Linear):
            x = linear(layer, x)
        elif isinstance(layer, nn.GELU):
            x = np.array([0.5 * v * (1 + float(torch.erf(torch.tensor(v / np.sqrt(2.0))))) for v in x])
    return x


def normal(layer: nn.LayerNorm, x: Array) -> Array:
    return (x - x.mean()) / np.sqrt(x.var() + layer.eps) * array(layer.weight) + array(layer.bias)


def softmax(x: Array) -> Array:
    e = np.exp(x - x.max(axis=0))
    return np.asarray(e / e.sum(axis=0))


def rows(parts: dict[str, Encoded]) -> list[dict[str, Array]]:
    """For each row, the vectors of the streams it has."""
    count = PRESENT.shape[0]
    return [{s: array(p.pooled[i]) for s, p in parts.items() if bool(p.present[i])} for i in range(count)]


def agree(fusion: Fusion, parts: dict[str, Encoded], expected: list[Array]) -> None:
    np.testing.assert_allclose(array(fusion(parts).pooled), np.stack(expected), rtol=1e-6, atol=1e-7)


def test_single(parts: dict[str, Encoded]) -> None:
    agree(make("single"), parts, [np.mean(list(row.values()), axis=0) for row in rows(parts)])
    alone = make("single", ["note"])(parts)
    assert torch.equal(alone.pooled, parts["note"].pooled)
    assert torch.equal(alone.tokens, parts["note"].tokens)
    assert torch.equal(alone.mask, parts["note"].mask)


def test_concat(parts: dict[str, Encoded]) -> None:
    fusion = make("concat")
    expected = []
    for row in rows(parts):
        side = [row.get(s, array(fusion.missing[i])) for i, s in enumerate(STREAMS)]
        expected.append(perceptron(fusion.network.layers, np.concatenate([*side, [float(s in row) for s in STREAMS]])))
    agree(fusion, parts, expected)


def test_weighted(parts: dict[str, Encoded]) -> None:
    for weights in ("equal", "learned", "row"):
        fusion = make({"kind": "weighted", "weights": weights})
        assert isinstance(fusion, Weighted)
        logits = np.zeros(3) if fusion.logits is None else array(fusion.logits)
        evidence = np.zeros((3, DIM)) if fusion.evidence is None else array(fusion.evidence)
        expected = []
        for row in rows(parts):
            present = [i for i, s in enumerate(STREAMS) if s in row]
            share = softmax(np.array([logits[i] + evidence[i] @ row[STREAMS[i]] for i in present]))
            expected.append(sum(a * row[STREAMS[i]] for a, i in zip(share, present, strict=True)))
        agree(fusion, parts, expected)
        values = fusion.coefficients()
        assert list(values) == STREAMS
        np.testing.assert_allclose(list(values.values()), softmax(logits), rtol=1e-6)
        shares = fusion.shares(parts)
        np.testing.assert_allclose(array(shares.sum(dim=1)), np.ones(len(PRESENT)))
        assert not bool(shares[~PRESENT].any())


def test_gated(parts: dict[str, Encoded]) -> None:
    fusion = make({"kind": "gated", "temperature": 0.7})
    expected = []
    for row in rows(parts):
        present = [i for i, s in enumerate(STREAMS) if s in row]
        gate = softmax(np.stack([linear(fusion.gate[i], row[STREAMS[i]]) / 0.7 for i in present]))
        value = np.stack([np.tanh(linear(fusion.value[i], row[STREAMS[i]])) for i in present])
        expected.append((gate * value).sum(axis=0))
    agree(fusion, parts, expected)


def test_lowrank_is_the_sum_over_pairs(parts: dict[str, Encoded]) -> None:
    fusion = make({"kind": "lowrank", "rank": 5})
    expected = []
    for row in rows(parts):
        present = [i for i, s in enumerate(STREAMS) if s in row]
        hidden = sum(linear(fusion.own[i], row[STREAMS[i]]) for i in present)
        for a in present:
            for b in present:
                if a < b:
                    factors = [perceptron(fusion.factor[i].layers, row[STREAMS[i]]) for i in (a, b)]
                    hidden = hidden + linear(fusion.product, factors[0] * factors[1])
        expected.append(hidden + perceptron(fusion.network.layers, normal(fusion.norm, hidden)))
    agree(fusion, parts, expected)


def test_alignment_is_attention_to_the_other_streams(parts: dict[str, Encoded]) -> None:
    fusion = make({"kind": "cross_attention", "heads": 2, "depth": 2})
    expected = []
    for i in range(PRESENT.shape[0]):
        real = {s: array(p.tokens[i][p.mask[i]]) for s, p in parts.items() if bool(p.present[i])}
        for norm, look in zip(fusion.norms, fusion.rounds, strict=True):
            named = {
                s: np.array([normal(norm, t) for t in tokens]) + array(fusion.name[STREAMS.index(s)])
                for s, tokens in real.items()
            }
            after = {}
            for s, tokens in real.items():
                others = [named[o] for o in real if o != s]
                if others:
                    seen = np.concatenate(others)
                    tokens = tokens + np.array([attend(look, query, seen) for query in named[s]])
                after[s] = tokens
            real = after
        present = [STREAMS.index(s) for s in real]
        share = softmax(array(fusion.logits)[present])
        vectors = [array(parts[s].pooled[i]) + tokens.mean(axis=0) for s, tokens in real.items()]
        expected.append(sum(a * v for a, v in zip(share, vectors, strict=True)))
    agree(fusion, parts, expected)


def attend(look: Any, query: Array, seen: Array) -> Array:
    """softmax(QKᵀ/√d)V for one query, head by head."""
    q = linear(look.query, query)
    both = np.array([linear(look.key_value, x) for x in seen])
    keys, values = both[:, :DIM], both[:, DIM:]
    size = DIM // look.heads
    heads = []
    for h in range(look.heads):
        part = slice(h * size, (h + 1) * size)
        heads.append(softmax(keys[:, part] @ q[part] / np.sqrt(size)) @ values[:, part])
    return linear(look.output, np.concatenate(heads))


@pytest.mark.parametrize("kind", ["gated", "lowrank", "cross_attention", "weighted", "single"])
def test_a_row_with_one_stream_is_that_stream_alone(kind: str, parts: dict[str, Encoded]) -> None:
    """What other streams there might have been leaves no trace: their weights get no gradient from such a row."""
    fusion = make(kind)
    only = {s: p.hide(torch.full_like(p.present, s == "note") & PRESENT[:, 1]) for s, p in parts.items()}
    fused = fusion(only).pooled
    for name, parameter in fusion.named_parameters():
        (gradient,) = torch.autograd.grad(fused.sum(), parameter, retain_graph=True, allow_unused=True)
        part, _, rest = name.partition(".")
        if part in ("own", "factor", "value", "gate") and rest.startswith(("0.", "2.")):  # the photo's and the sound's
            assert gradient is None or not bool(gradient.any()), f"{name} matters to a row without its stream"
    if kind in ("single", "weighted"):
        assert torch.allclose(fused, only["note"].pooled)


def test_learned_weights_follow_the_useful_stream() -> None:
    torch.manual_seed(0)
    fusion, head = Weighted(["signal", "noise"], 4), nn.Linear(4, 2)
    step = torch.optim.Adam([*fusion.parameters(), *head.parameters()], lr=0.05)
    present = torch.ones(64, dtype=torch.bool)
    for _ in range(80):
        label = torch.randint(0, 2, (64,))
        useful = torch.randn(64, 4) + 2.0 * label[:, None]
        both = {"signal": useful, "noise": torch.randn(64, 4)}
        fused = fusion({s: Encoded(x[:, None], present[:, None], x, present) for s, x in both.items()})
        loss = nn.functional.cross_entropy(head(fused.pooled), label)
        step.zero_grad()
        loss.backward()
        step.step()
    assert fusion.coefficients()["signal"] > 0.8
