"""Joint search over streams against exhaustive search."""

from __future__ import annotations

from itertools import product

import pytest
import torch
from torch import Tensor

from sensorium.nn.ctc import log_likelihood, prefix_beam_search
from sensorium.nn.joint_prefix_search import joint_prefix_search


def streams(seed: int, steps: tuple[int, ...] = (4, 5), units: int = 4, rows: int = 3) -> tuple[list[Tensor], list[Tensor]]:
    draw = torch.Generator().manual_seed(seed)
    logs = [(2 * torch.randn(rows, n, units, generator=draw)).log_softmax(dim=2) for n in steps]
    lengths = [torch.randint(2, n + 1, (rows, 1), generator=draw) for n in steps]
    return logs, [torch.arange(n) < length for n, length in zip(steps, lengths, strict=True)]


def favour_second(ids: Tensor, length: Tensor) -> Tensor:
    added = torch.zeros(*length.shape, 4, dtype=torch.float64)
    added[:, :, 2] = 0.7
    added[:, :, 0] = -0.2
    return added


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("language", [None, favour_second], ids=["plain", "language"])
def test_a_wide_search_is_exhaustive(seed: int, language: object) -> None:
    logs, masks = streams(seed)
    result = joint_prefix_search(logs, masks, 60, language)  # type: ignore[arg-type]
    every = [list(ids) for n in range(6) for ids in product((1, 2, 3), repeat=n)]
    padded = torch.tensor([ids + [0] * (5 - len(ids)) for ids in every])
    for row in range(3):
        of_streams = [
            log_likelihood(log[row].expand(len(every), -1, -1), mask[row].expand(len(every), -1), padded)
            for log, mask in zip(logs, masks, strict=True)
        ]
        total = torch.stack(of_streams).double().sum(dim=0)
        if language is not None:
            total = total + 0.7 * (padded == 2).sum(dim=1) - 0.2
        best, order = total.sort(descending=True)
        torch.testing.assert_close(result.score[row, :5], best[:5], rtol=1e-4, atol=1e-4)
        assert result.ids[row, 0, : int(result.length[row, 0])].tolist() == every[int(order[0])]


def test_one_stream_equals_its_own_search() -> None:
    logs, masks = streams(7, steps=(6,))
    joint, alone = joint_prefix_search(logs, masks, 200), prefix_beam_search(logs[0], masks[0], 200)
    torch.testing.assert_close(joint.score[:, :5], alone.score[:, :5], rtol=1e-4, atol=1e-4)
    assert joint.length[:, 0].tolist() == alone.length[:, 0].tolist()


def test_an_absent_stream_does_not_count() -> None:
    logs, masks = streams(8)
    masks[1] = masks[1].clone()
    masks[1][0] = False
    both = joint_prefix_search(logs, masks, 20)
    alone = joint_prefix_search(logs[:1], masks[:1], 20)
    torch.testing.assert_close(both.score[0, :3], alone.score[0, :3])
    assert not torch.allclose(both.score[1, :3], alone.score[1, :3])


def test_sharp_and_long_streams_stay_finite() -> None:
    draw = torch.Generator().manual_seed(0)
    logs = [(60 * torch.randn(2, 300, 6, generator=draw)).log_softmax(dim=2) for _ in range(2)]
    result = joint_prefix_search(logs, [torch.ones(2, 300, dtype=torch.bool)] * 2, 4)
    total = sum(log_likelihood(log, torch.ones(2, 300, dtype=torch.bool), result.ids[:, 0]) for log in logs)
    assert isinstance(total, Tensor)
    assert result.score[:, 0].isfinite().all()
    torch.testing.assert_close(result.score[:, 0].float(), total, rtol=1e-3, atol=1e-2)
