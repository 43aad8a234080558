"""Projectors of tokens to a language model's vectors."""

from __future__ import annotations

import pytest
import torch

from sensorium.core.batch import Encoded
from sensorium.nn.projector import Projector, shuffled


def encoded(grid: tuple[int, ...], dim: int = 3) -> Encoded:
    torch.manual_seed(0)
    count = int(torch.tensor(grid).prod())
    tokens = torch.randn(2, count, dim)
    return Encoded(
        tokens, torch.ones(2, count, dtype=torch.bool), tokens.mean(dim=1), torch.ones(2, dtype=torch.bool), grid
    )


@pytest.mark.parametrize("grid", [(4, 6), (3, 5), (2, 3, 4)])
def test_squares_of_a_grid_are_merged(grid: tuple[int, ...]) -> None:
    part = encoded(grid)
    merged, mask = shuffled(part.tokens, part.mask, grid)
    maps = torch.nn.functional.pad(part.tokens.reshape(2, *grid, 3), (0, 0, 0, grid[-1] % 2, 0, grid[-2] % 2))
    maps = maps.reshape(-1, *maps.shape[-3:])
    wanted = [
        maps[:, y : y + 2, x : x + 2].reshape(len(maps), -1)
        for y in range(0, maps.shape[1], 2)
        for x in range(0, maps.shape[2], 2)
    ]
    assert torch.equal(merged, torch.stack(wanted, dim=1).reshape(2, -1, 12))
    assert bool(mask.all())


def test_tokens_in_a_row_are_merged_by_four() -> None:
    part = encoded((10,))
    mask = part.mask.clone()
    mask[1, 3:] = False
    merged, real = shuffled(part.tokens * mask[..., None], mask, part.grid)
    assert torch.equal(merged[0, 1], part.tokens[0, 4:8].flatten())
    assert torch.equal(merged[0, 2], torch.cat([part.tokens[0, 8:].flatten(), torch.zeros(6)]))
    assert real.tolist() == [[True, True, True], [True, False, False]]


def test_a_shuffling_projector_makes_a_quarter_of_the_tokens() -> None:
    project = Projector(3, 7, "shuffle", 1, 0.5)
    vectors, mask = project(encoded((4, 6)))
    assert vectors.shape == (2, 6, 7)
    assert mask.shape == (2, 6)
    torch.testing.assert_close(vectors.square().mean(dim=2).sqrt(), torch.full((2, 6), 0.5), atol=1e-2, rtol=0)
