"""Plain implementations of the equations of every fusion: without masks and missing streams, with loops for sums.

They are the reference for values (``tests/fusions``, in float64) and for time (``benchmarks.fusions``).
``PLAIN[kind](fusion, inputs)`` takes a fusion in evaluation mode, whose weights it uses, and the streams that are present:
``inputs[stream]`` is a vector ``[B, D]`` and tokens ``[B, N, D]`` without padding.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import combinations
from math import sqrt
from typing import Any

import torch
from torch import Tensor

Given = Mapping[str, tuple[Tensor, Tensor]]


def linear(layer: Any, x: Tensor) -> Tensor:
    y = x @ layer.weight.T
    return y if layer.bias is None else y + layer.bias


def normal(layer: Any, x: Tensor) -> Tensor:
    centred = x - x.mean(dim=-1, keepdim=True)
    return centred / (centred.square().mean(dim=-1, keepdim=True) + layer.eps).sqrt() * layer.weight + layer.bias


def gelu(x: Tensor) -> Tensor:
    return 0.5 * x * (1 + torch.erf(x / sqrt(2)))


def perceptron(mlp: Any, x: Tensor) -> Tensor:
    """Linear, GELU, …, linear."""
    layers = [layer for layer in mlp.layers if isinstance(layer, torch.nn.Linear)]
    for layer in layers[:-1]:
        x = gelu(linear(layer, x))
    return linear(layers[-1], x)


def attention(layer: Any, queries: Tensor, context: Tensor) -> Tensor:
    """Multi-head attention: softmax(QKᵀ/√d)V for each head, concatenated, then the output layer."""
    dim = queries.shape[-1]
    width = dim // layer.heads
    query, both = linear(layer.query, queries), linear(layer.key_value, context)
    heads = []
    for h in range(layer.heads):
        q, k = query[..., h * width : (h + 1) * width], both[..., h * width : (h + 1) * width]
        v = both[..., dim + h * width : dim + (h + 1) * width]
        heads.append(torch.softmax(q @ k.transpose(1, 2) / sqrt(width), dim=-1) @ v)
    return linear(layer.output, torch.cat(heads, dim=-1))


def block(part: Any, x: Tensor) -> Tensor:
    normed = normal(part.norm_attention, x)
    x = x + attention(part.attention, normed, normed)
    return x + perceptron(part.mlp, normal(part.norm_mlp, x))


def trunk(part: Any, x: Tensor) -> Tensor:
    for layer in part.blocks:
        x = block(layer, x)
    return normal(part.norm, x)


def look(part: Any, x: Tensor, context: Tensor) -> Tensor:
    return x + attention(part.attention, normal(part.norm, x), normal(part.norm_context, context))


def residual(fusion: Any, hidden: Tensor) -> Tensor:
    return hidden + perceptron(fusion.network, normal(fusion.norm, hidden))


def places(fusion: Any, inputs: Given) -> list[int]:
    """Return the positions of the present streams in the order of the fusion."""
    return [i for i, s in enumerate(fusion.streams) if s in inputs]


def chosen(fusion: Any, inputs: Given) -> list[tuple[int, Tensor, Tensor]]:
    return [(i, *inputs[fusion.streams[i]]) for i in places(fusion, inputs)]


def gathered(fusion: Any, inputs: Given, met: list[Tensor]) -> Tensor:
    """Return Σₛ αₛ (vₛ + mean of the tokens), where α is a softmax over the present streams."""
    alpha = torch.softmax(fusion.gathered.logits[places(fusion, inputs)], dim=0)
    streams = zip(chosen(fusion, inputs), met, strict=True)
    return sum((a * (v + x.mean(dim=1)) for a, ((_, v, _), x) in zip(alpha, streams, strict=True)), torch.zeros(()))


# ── vectors ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def single(fusion: Any, inputs: Given) -> Tensor:
    return torch.stack([v for _, v, _ in chosen(fusion, inputs)]).mean(dim=0)


def concat(fusion: Any, inputs: Given) -> Tensor:
    rows = next(iter(inputs.values()))[0].shape[0]
    vectors = [inputs[s][0] if s in inputs else fusion.missing[i].expand(rows, -1) for i, s in enumerate(fusion.streams)]
    given = torch.tensor([[float(s in inputs) for s in fusion.streams]]).to(vectors[0]).expand(rows, -1)
    return perceptron(fusion.network, torch.cat([*vectors, given], dim=1))


def weighted(fusion: Any, inputs: Given) -> Tensor:
    alpha = torch.softmax(fusion.logits[places(fusion, inputs)], dim=0)
    return sum((a * v for a, (_, v, _) in zip(alpha, chosen(fusion, inputs), strict=True)), torch.zeros(()))


def gated(fusion: Any, inputs: Given) -> Tensor:
    score = torch.stack([linear(fusion.gate[i], v) / fusion.temperature for i, v, _ in chosen(fusion, inputs)])
    value = torch.stack([torch.tanh(linear(fusion.value[i], v)) for i, v, _ in chosen(fusion, inputs)])
    return (torch.softmax(score, dim=0) * value).sum(dim=0)


def lowrank(fusion: Any, inputs: Given) -> Tensor:
    hidden = sum((linear(fusion.own[i], v) for i, v, _ in chosen(fusion, inputs)), torch.zeros(()))
    factors = [perceptron(fusion.factor[i], v) for i, v, _ in chosen(fusion, inputs)]
    for a, b in combinations(factors, 2):
        hidden = hidden + linear(fusion.product, a * b)
    return residual(fusion, hidden)


def bilinear(fusion: Any, inputs: Given) -> Tensor:
    hidden = sum((linear(fusion.own[i], v) for i, v, _ in chosen(fusion, inputs)), torch.zeros(()))
    width, count = fusion.width, len(fusion.streams)
    for number, (a, b) in enumerate(combinations(range(count), 2)):
        if not {fusion.streams[a], fusion.streams[b]} <= set(inputs):
            continue
        u, w = (perceptron(fusion.factor[i], inputs[fusion.streams[i]][0]) for i in (a, b))
        # xᵀ W_k y for every k: the weights of one pair as a tensor [D, R, R].
        weight = fusion.product.weight[:, number * width**2 : (number + 1) * width**2].reshape(-1, width, width)
        hidden = hidden + torch.einsum("bi,kij,bj->bk", u, weight, w)
    return residual(fusion, hidden)


def tensor(fusion: Any, inputs: Given) -> Tensor:
    rows = next(iter(inputs.values()))[0]
    ones, absent = rows.new_ones(rows.shape[0], 1), rows.new_zeros(rows.shape[0], fusion.width)
    product = None
    for i, s in enumerate(fusion.streams):
        z = torch.cat([ones, perceptron(fusion.factor[i], inputs[s][0]) if s in inputs else absent], dim=1)
        product = z if product is None else torch.einsum("bi,bj->bij", product, z).flatten(1)
    assert product is not None
    return residual(fusion, linear(fusion.product, product))


def lowrank_tensor(fusion: Any, inputs: Given) -> Tensor:
    total = torch.zeros(())
    for r in range(fusion.rank):
        part = slice(r * fusion.dim, (r + 1) * fusion.dim)
        product = fusion.mix[r]
        for i, v, _ in chosen(fusion, inputs):
            longer = torch.cat([v.new_ones(v.shape[0], 1), v], dim=1)
            weight = torch.cat([fusion.factor[i].bias[part, None], fusion.factor[i].weight[part]], dim=1)
            product = product * (longer @ weight.T)
        total = total + product
    return residual(fusion, total)


def film(fusion: Any, inputs: Given) -> Tensor:
    changed = []
    for i, v, _ in chosen(fusion, inputs):
        gamma = beta = torch.zeros_like(v)
        for t, other, _ in chosen(fusion, inputs):
            if t != i:
                result = linear(fusion.modulate[i], perceptron(fusion.factor[t], other))
                gamma, beta = gamma + result[:, : fusion.dim], beta + result[:, fusion.dim :]
        changed.append((1 + gamma) * linear(fusion.own[i], v) + beta)
    return residual(fusion, torch.stack(changed).mean(dim=0))


# ── tokens ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


def cross_attention(fusion: Any, inputs: Given) -> Tensor:
    streams = chosen(fusion, inputs)
    tokens = [x for _, _, x in streams]
    for norm, attend in zip(fusion.norms, fusion.rounds, strict=True):
        named = [normal(norm, x) + fusion.name[i] for x, (i, _, _) in zip(tokens, streams, strict=True)]
        if len(named) > 1:
            others = [torch.cat(named[:k] + named[k + 1 :], dim=1) for k in range(len(named))]
            tokens = [x + attention(attend, n, o) for x, n, o in zip(tokens, named, others, strict=True)]
    alpha = torch.softmax(fusion.logits[places(fusion, inputs)], dim=0)
    vectors = [v + x.mean(dim=1) for (_, v, _), x in zip(streams, tokens, strict=True)]
    return sum((a * v for a, v in zip(alpha, vectors, strict=True)), torch.zeros(()))


def cross_modal(fusion: Any, inputs: Given) -> Tensor:
    streams = chosen(fusion, inputs)
    tokens = [x + fusion.name[i] for i, _, x in streams]
    for shared, blocks in zip(fusion.looks, fusion.blocks, strict=True):
        if len(tokens) > 1:
            others = [torch.cat(tokens[:k] + tokens[k + 1 :], dim=1) for k in range(len(tokens))]
            tokens = [look(shared, x, o) for x, o in zip(tokens, others, strict=True)]
        tokens = [block(blocks[i], x) for (i, _, _), x in zip(streams, tokens, strict=True)]
    return gathered(fusion, inputs, tokens)


def pairwise(fusion: Any, inputs: Given) -> Tensor:
    placed = {}
    for i, _, x in chosen(fusion, inputs):
        half = (x.shape[2] + 1) // 2
        step = torch.arange(x.shape[1]).to(x)[:, None]
        angle = step * 10000.0 ** (-torch.arange(half).to(x) / max(half - 1, 1))
        placed[i] = x + torch.cat([angle.sin(), angle.cos()], dim=1)[:, : x.shape[2]]
    met = []
    for a, start in placed.items():
        read = []
        for b, source in placed.items():
            if a == b:
                continue
            x = start
            for layer in fusion.readers[f"{fusion.streams[a]} < {fusion.streams[b]}"]:
                x = look(layer.look, x, source)
                x = x + perceptron(layer.mlp, normal(layer.norm, x))
            read.append(x)
        met.append(trunk(fusion.trunks[a], torch.stack(read).mean(dim=0) if read else start))
    return gathered(fusion, inputs, met)


def bottleneck(fusion: Any, inputs: Given) -> Tensor:
    streams = chosen(fusion, inputs)
    tokens = [x for _, _, x in streams]
    shared = fusion.shared.expand(tokens[0].shape[0], -1, -1)
    for blocks in fusion.blocks:
        both = [block(blocks[i], torch.cat([x, shared], dim=1)) for (i, _, _), x in zip(streams, tokens, strict=True)]
        shared = torch.stack([b[:, x.shape[1] :] for b, x in zip(both, tokens, strict=True)]).mean(dim=0)
        tokens = [b[:, : x.shape[1]] for b, x in zip(both, tokens, strict=True)]
    return gathered(fusion, inputs, tokens)


def early(fusion: Any, inputs: Given) -> Tensor:
    streams = chosen(fusion, inputs)
    every = trunk(fusion.joint, torch.cat([x + fusion.name[i] for i, _, x in streams], dim=1))
    return gathered(fusion, inputs, list(torch.split(every, [x.shape[1] for _, _, x in streams], dim=1)))


def deep(fusion: Any, inputs: Given) -> Tensor:
    streams = chosen(fusion, inputs)
    tokens = [x for _, _, x in streams]
    state = torch.stack([linear(fusion.start[i], v) for i, v, _ in streams]).mean(dim=0)
    for layer in range(len(fusion.blocks)):
        gates = [2 * torch.sigmoid(linear(fusion.excite[layer][i], state)) for i, _, _ in streams]
        tokens = [
            block(fusion.blocks[layer][i], x * g[:, None]) for (i, _, _), x, g in zip(streams, tokens, gates, strict=True)
        ]
        squeezed = [linear(fusion.squeeze[layer][i], x.mean(dim=1)) for (i, _, _), x in zip(streams, tokens, strict=True)]
        normed = normal(fusion.norms[layer], state + torch.stack(squeezed).mean(dim=0))
        state = state + perceptron(fusion.joint[layer], normed)
    return state


PLAIN: dict[str, Callable[[Any, Given], Tensor]] = {
    f.__name__: f
    for f in (
        single,
        concat,
        weighted,
        gated,
        lowrank,
        bilinear,
        tensor,
        lowrank_tensor,
        film,
        cross_attention,
        cross_modal,
        pairwise,
        bottleneck,
        early,
        deep,
    )
}
