"""Gradient caching: the gradients of a batch encoded in chunks are those of the batch encoded at once."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import nn

import sensorium as sm
from sensorium.core.batch import Encoded, Field
from sensorium.nn.contrastive_loss import softmax_loss
from sensorium.nn.gradient_cache import encode_in_chunks

ROWS, SIZE = 23, 5


def network(*layers: nn.Module) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 16), *layers, nn.GELU(), nn.Linear(16, 8)).double()


def encoder(module: nn.Module) -> Callable[[Field], Encoded]:
    def encode(field: Field) -> Encoded:
        rows = field.rows
        if len(rows) == 0:  # as Model does for a stream that no row has
            blank = torch.zeros(len(field.present), 1, 8, dtype=torch.double)
            return Encoded(blank, torch.zeros(len(field.present), 1, dtype=torch.bool), blank[:, 0], field.present)
        tokens = module(field.data[rows])
        part = Encoded(
            tokens, torch.ones(tokens.shape[:2], dtype=torch.bool), tokens.mean(dim=1), field.present[rows], (3,)
        )
        return part.spread(rows, len(field.present))

    return encode


def field() -> Field:
    draw = torch.Generator().manual_seed(1)
    present = torch.rand(ROWS, generator=draw) < 0.8
    present[SIZE : 2 * SIZE] = False  # a chunk in which no row has the stream
    return Field(torch.randn(ROWS, 3, 6, generator=draw, dtype=torch.double), present)


def gradients(module: nn.Module, encoded: Encoded) -> list[torch.Tensor]:
    """Gradients of a loss that compares every row with every other, so that none can be computed chunk by chunk."""
    module.zero_grad()
    vectors = nn.functional.normalize(encoded.pooled + 1e-3, dim=1)
    every = encoded.present[:, None] & encoded.present[None, :]
    softmax_loss(vectors @ vectors.roll(1, dims=1).T * 10, torch.eye(ROWS, dtype=torch.bool), every).sum().backward()
    return [torch.zeros(1) if p.grad is None else p.grad.clone() for p in module.parameters()]


def test_gradients_are_those_of_the_whole_batch() -> None:
    module, rows = network(), field()
    whole = encoder(module)(rows)
    wanted = gradients(module, whole)
    cached = encode_in_chunks(encoder(module), rows, SIZE, module)
    assert torch.allclose(cached.tokens, whole.tokens)
    assert torch.equal(cached.mask, whole.mask)
    assert cached.grid == (3,)
    assert all(g.abs().sum() > 0 for g in wanted)
    torch.testing.assert_close(gradients(module, cached), wanted, rtol=1e-9, atol=1e-12)


def test_dropout_is_the_same_in_both_passes() -> None:
    module, rows = network(nn.Dropout(0.5)), field()
    torch.manual_seed(7)
    parts = [encoder(module)(rows.map(lambda t, at=at: t[at : at + SIZE])) for at in range(0, ROWS, SIZE)]
    blank = torch.zeros(SIZE, 2, 8, dtype=torch.double)
    tokens = torch.cat([part.tokens if part.tokens.shape[1] == 3 else torch.cat([part.tokens, blank], 1) for part in parts])
    pooled, present = torch.cat([part.pooled for part in parts]), torch.cat([part.present for part in parts])
    wanted = gradients(module, Encoded(tokens, present[:, None].expand(-1, 3), pooled, present))
    torch.manual_seed(7)
    cached = encode_in_chunks(encoder(module), rows, SIZE, module)
    assert torch.equal(cached.pooled, pooled)
    torch.rand(99)  # whatever else draws in between
    torch.testing.assert_close(gradients(module, cached), wanted, rtol=1e-9, atol=1e-12)


def test_activations_of_one_chunk_are_kept_at_a_time() -> None:
    module, rows = network(), field()
    kept: list[int] = []

    def note(tensor: torch.Tensor) -> torch.Tensor:
        kept.append(len(tensor))
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        encoder(module)(rows)
        at_once = sum(size > SIZE for size in kept)
        kept.clear()
        encode_in_chunks(encoder(module), rows, SIZE, module)
    assert at_once > 0
    assert not any(size == len(rows.rows) for size in kept)


def test_running_statistics_count_each_chunk_once() -> None:
    results = []
    for backward in (False, True):
        module = network(nn.Flatten(1, 2), nn.BatchNorm1d(48), nn.Unflatten(1, (3, 16)))
        encoded = encode_in_chunks(encoder(module), field(), SIZE, module)
        if backward:
            gradients(module, encoded)
        results.append({name: tensor.clone() for name, tensor in module.named_buffers()})
    assert results[0].keys() == results[1].keys()
    assert all(torch.equal(results[0][name], results[1][name]) for name in results[0])
    assert int(results[0]["2.num_batches_tracked"]) == 4


def test_a_fit_encodes_in_chunks_of_the_chosen_size(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [{"left": [i % 5, i % 3, 1.0], "right": [i % 3, i % 5]} for i in range(40)]
    sizes: list[int] = []

    def noted(encode: Callable[[Field], Encoded], part: Field, size: int, module: nn.Module) -> Encoded:
        sizes.append(size)
        return encode_in_chunks(encode, part, size, module)

    monkeypatch.setattr("sensorium.model.encode_in_chunks", noted)
    scores = []
    for size in ("null", "7"):
        model = sm.fit(
            rows,
            task="retrieval",
            columns={"left": "vector", "right": "vector"},
            overrides=["model.size=tiny", "training.epochs=2", "training.batch_size=32", f"training.chunk_size={size}"],
            quiet=True,
        )
        scores.append([record["train_retrieval"] for record in model.artifact.report["history"]])
    assert scores[1] == pytest.approx(scores[0], rel=0.2), "dropout draws other numbers"
    assert set(sizes) == {7}
