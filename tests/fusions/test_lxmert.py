"""The LXMERT fusion, against transformers' own layers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from sensorium.core.errors import ConfigError
from sensorium.core.layout import Grid, Ids
from sensorium.core.registry import build, find
from sensorium.nn.lxmert_layers import grid_boxes
from sensorium.testing import checkpoints, samples

transformers: Any = pytest.importorskip("transformers")


def test_its_layers_are_those_of_the_checkpoint() -> None:
    folder = checkpoints.tiny("lxmert")
    fusion: Any = build("fusions", {"kind": "lxmert", "checkpoint": str(folder)}, ["photo", "question"], 12).eval()
    theirs = transformers.LxmertModel.from_pretrained(folder).eval().encoder
    words, regions = torch.randn(3, 6, 16), torch.randn(3, 5, 16)
    some, region_mask = torch.arange(6) < torch.tensor([[6], [3], [1]]), torch.arange(5) < torch.tensor([[2], [5], [4]])

    def added(mask: torch.Tensor) -> torch.Tensor:
        return torch.zeros(mask.shape).masked_fill(~mask, torch.finfo(torch.float32).min)[:, None, None]

    ours, expected = (words, regions), (words, regions)
    with torch.no_grad():
        for mine, its in zip(fusion.layers, theirs.x_layers, strict=True):
            ours = mine(ours[0], some, ours[1], region_mask)
            expected = its(expected[0], added(some), expected[1], added(region_mask))
        torch.testing.assert_close(ours[0][some], expected[0][some], rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(ours[1][region_mask], expected[1][region_mask], rtol=1e-4, atol=1e-4)
        box = torch.rand(2, 3, 4)
        torch.testing.assert_close(fusion.boxes(box), theirs.visn_fc.box_layer_norm(theirs.visn_fc.box_fc(box)))
    assert len(fusion.layers) == 2


def test_regions_lie_in_a_square() -> None:
    real = torch.tensor([[True, True, True, True, False], [True, False, True, False, False]])
    half = [[0, 0, 0.5, 0.5], [0.5, 0, 1, 0.5], [0, 0.5, 0.5, 1], [0.5, 0.5, 1, 1]]
    assert grid_boxes(real)[0, :4].tolist() == half
    assert grid_boxes(real)[1, [0, 2]].tolist() == half[:2]


def test_words_and_regions_reach_each_other() -> None:
    fusion: Any = build("fusions", {"kind": "lxmert", "words": "question"}, ["question", "photo"], 16).eval()
    parts = samples.streams({"photo": 4, "question": 3}, 16, torch.ones(2, 2, dtype=torch.bool))
    alone = fusion({**parts, "photo": parts["photo"].hide(torch.zeros(2, dtype=torch.bool))})
    both = fusion(parts)
    assert not torch.allclose(alone.tokens[:, :3], both.tokens[:, :3])


def test_options_are_filled_in_and_refused(tmp_path: Path) -> None:
    folder = str(checkpoints.tiny("lxmert"))
    layouts = {"note": Ids(50, 8), "photo": Grid(3, (16, 16))}
    full = find("fusions", "lxmert").completed({"checkpoint": folder, "words": None, "config": None}, layouts)
    assert full["words"] == "note"
    assert full["config"] == {"hidden_size": 16, "num_attention_heads": 4, "intermediate_size": 32, "x_layers": 2}
    with pytest.raises(ConfigError, match="did you mean photo"):
        build("fusions", {"kind": "lxmert", "words": "photos"}, ["photo", "note"], 16)
    with pytest.raises(ConfigError, match="is a bert, not an LXMERT"):
        build("fusions", {"kind": "lxmert", "checkpoint": str(checkpoints.tiny("bert"))}, ["photo", "note"], 16)
