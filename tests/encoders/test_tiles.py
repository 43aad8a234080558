"""Tiles of large pictures: blended without seams, equal to the untiled maps of an encoder of limited reach."""

from __future__ import annotations

import pytest
import torch

from sensorium.core.errors import ConfigError
from sensorium.core.layout import Grid
from sensorium.encoders.tiles import Tiles
from sensorium.testing.encoders import check_layout

torch.set_num_threads(1)
SHALLOW = {"kind": "convnet", "depth": 1, "width": 4, "stride": 1}
"""Reaches two pixels."""


def tiled(size: tuple[int, int], **options: object) -> Tiles:
    torch.manual_seed(0)
    encoder = Tiles(Grid(1, size), dim=8, **{"encoder": SHALLOW, "side": 16, "overlap": 8, **options})  # type: ignore[arg-type]
    encoder.gives_pyramid = True
    return encoder.eval()


@pytest.mark.parametrize("size", [(40, 56), (37, 16), (16, 16), (51, 30)])
def test_maps_are_those_of_the_whole_picture_away_from_its_borders(size: tuple[int, int]) -> None:
    encoder = tiled(size)
    data = torch.randn(2, 1, *size, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        (maps,) = encoder(data).pyramid
        encoder.inner.gives_pyramid = True
        (whole,) = encoder.inner(data).pyramid
    assert maps.shape == whole.shape
    inner = (slice(None), slice(None), slice(2, -2), slice(2, -2))
    assert torch.allclose(maps[inner], whole[inner], atol=2e-5)
    assert float((maps - whole).abs().max()) < 2, "at the borders tiles see padding too"


def test_the_blend_of_constant_maps_is_constant() -> None:
    encoder = tiled((45, 70))
    for parameter in encoder.inner.stages.parameters():  # type: ignore[union-attr]
        torch.nn.init.zeros_(parameter)
    torch.nn.init.constant_(encoder.inner.stages[0].norm.norm.bias, 0.7)  # type: ignore[union-attr, index]
    with torch.no_grad():
        (maps,) = encoder(torch.randn(1, 1, 45, 70)).pyramid
    assert torch.allclose(maps, maps.flatten()[0].expand_as(maps), atol=1e-5)
    assert float(maps.max()) > 0.1


def test_only_some_tiles_are_encoded_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    encoder, other = tiled((64, 64)), tiled((64, 64))
    most: list[int] = []
    encoder.inner.register_forward_pre_hook(lambda _, inputs: most.append(len(inputs[0])))
    data = torch.randn(1, 1, 64, 64)
    with torch.no_grad():
        monkeypatch.setattr("sensorium.encoders.tiles.AT_ONCE", 2)
        one = encoder(data)
        monkeypatch.setattr("sensorium.encoders.tiles.AT_ONCE", 1000)
        all_at_once = other(data)
    assert max(most) == 2
    assert len(most) == len(one.tokens[0]) / 2
    assert torch.allclose(one.pyramid[0], all_at_once.pyramid[0], atol=1e-6)
    assert torch.allclose(one.tokens, all_at_once.tokens, atol=1e-6)
    assert one.grid == (8, 8)


def test_several_tiles_satisfy_the_encoder_contract() -> None:
    check_layout({"kind": "tiles", "side": 8, "overlap": 4, "encoder": SHALLOW}, Grid(2, (20, 17)))


def test_unsuitable_tile_settings_are_refused() -> None:
    with pytest.raises(ConfigError, match="two axes"):
        Tiles(Grid(1, (4, 8, 8)))
    with pytest.raises(ConfigError, match="overlap 16 is from 0 to below side 16"):
        Tiles(Grid(1, (64, 64)), side=16, overlap=16)
    with pytest.raises(ConfigError, match="does not read tiles"):
        Tiles(Grid(1, (64, 64)), encoder="tfidf")
