"""Rows put one after the other: data, masks and targets."""

from __future__ import annotations

import torch

from sensorium.core.batch import Batch, Field
from sensorium.nn.joined_rows import joined_rows


def batch() -> Batch:
    lengths = torch.tensor([3, 1, 4, 2])
    mask = torch.arange(4) < lengths[:, None]
    data = (torch.arange(1, 5)[:, None] * 10 + torch.arange(4))[:, None, :, None].float() * mask[:, None, :, None]
    ids = torch.tensor([[1, 2], [3, 0], [4, 5], [6, 0]])
    present = torch.tensor([True, True, True, False])
    sound = Field(data, torch.ones(4, dtype=torch.bool), mask)
    return Batch({"sound": sound}, {"text": Field(ids, present, ids != 0)}, torch.ones(4))


def test_rows_follow_each_other_in_input_and_target() -> None:
    plain = batch()
    seen = set()
    for seed in range(20):
        other = joined_rows(plain, ["sound"], [6], "text", 1.0, torch.Generator().manual_seed(seed))
        sound, text = other.inputs["sound"], other.targets["text"]
        assert sound.mask is not None
        assert text.mask is not None
        for i in range(4):
            steps = [int(x) for x in sound.data[i, 0, :, 0][sound.mask[i]]]
            parts = list(dict.fromkeys(step // 10 for step in steps))
            length = {1: 3, 2: 1, 3: 4, 4: 2}
            assert steps == [10 * part + t for part in parts for t in range(length[part])]
            ids = {1: [1, 2], 2: [3], 3: [4, 5], 4: [6]}
            assert text.data[i][text.mask[i]].tolist() == [unit for part in parts for unit in ids[part]]
            assert parts[0] == i + 1
            assert len(steps) <= 6
            assert 4 not in parts or parts == [4], "a row without a target is left alone"
            seen.add(tuple(parts))
    assert {(1, 2), (2, 3), (3, 2)} <= seen
    assert (1, 3) not in seen, "seven steps are too many"


def test_streams_are_joined_only_where_both_rows_have_them() -> None:
    plain = batch()
    absent = plain.inputs["sound"].hide(torch.tensor([True, False, True, True]))
    mixed = Batch({"sound": plain.inputs["sound"], "line": absent}, plain.targets, plain.weight)
    for seed in range(10):
        other = joined_rows(mixed, ["sound", "line"], [9, 9], "text", 1.0, torch.Generator().manual_seed(seed))
        mask = other.inputs["sound"].mask
        assert mask is not None
        assert int(mask[1].sum()) == 1


def test_nothing_is_joined_with_a_share_of_none() -> None:
    plain = batch()
    assert joined_rows(plain, ["sound"], [9], "text", 0.0, torch.Generator()) is plain
