"""Frames against plain matrices, against torch's own sampling, and against what they are for: there and back again."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F

from sensorium.signal import augmentation, geometry, rand_augment

torch.set_num_threads(1)

seeds = st.integers(0, 2**31)


def frames(seed: int, rows: int = 5, axes: int = 2, size: float = 100.0) -> Tensor:
    """Random frames, far from singular: turned, stretched, mirrored, moved."""
    draw = np.random.default_rng(seed)
    out = np.zeros((rows, axes, axes + 1))
    for i in range(rows):
        scale = np.diag(draw.uniform(0.3, 3, axes) * draw.choice([-1, 1], axes))
        angle = draw.uniform(-math.pi, math.pi)
        turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]) if axes == 2 else np.eye(1)
        out[i] = np.concatenate([turn @ scale, draw.uniform(-size, size, (axes, 1))], axis=1)
    return torch.from_numpy(out).float()


def whole(frame: Tensor) -> np.ndarray:
    """As homogeneous matrices in float64."""
    last = np.zeros((len(frame), 1, frame.shape[2]))
    last[..., -1] = 1
    return np.concatenate([frame.double().numpy(), last], axis=1)


# ── against plain matrices ─────────────────────────────────────────────────────────────────────────────────────────


@settings(deadline=None)
@given(seeds, st.sampled_from([1, 2]))
def test_frames_are_affine_maps(seed: int, axes: int) -> None:
    one, two = frames(seed, axes=axes), frames(seed + 1, axes=axes)
    np.testing.assert_allclose(whole(geometry.compose(one, two)), whole(one) @ whole(two), rtol=1e-4, atol=1e-3)
    np.testing.assert_allclose(whole(geometry.inverse(one)), np.linalg.inv(whole(one)), rtol=1e-3, atol=1e-3)
    assert torch.equal(geometry.mirrored(one), torch.from_numpy(np.linalg.det(whole(one)) < 0))
    places = torch.from_numpy(np.random.default_rng(seed).uniform(0, 200, (5, 7, axes))).float()
    moved = geometry.points(one, places)
    homogeneous = np.concatenate([places.double().numpy(), np.ones((5, 7, 1))], axis=2)
    np.testing.assert_allclose(moved, (homogeneous @ whole(one).transpose(0, 2, 1))[..., :axes], rtol=1e-4, atol=1e-2)
    torch.testing.assert_close(geometry.points(geometry.inverse(one), moved), places, rtol=1e-4, atol=1e-2)
    same = geometry.compose(geometry.identity(5, axes, one), one)
    assert torch.equal(same, one)
    assert geometry.apply_moves(None, [one]) is None
    torch.testing.assert_close(geometry.apply_moves(one, [two, one]), geometry.compose(one, geometry.compose(two, one)))


def test_a_frame_that_flattens_has_no_inverse_and_gives_zeros() -> None:
    flat = torch.tensor([[[1.0, 2.0, 3.0], [2.0, 4.0, 5.0]], [[2.0, 0.0, 1.0], [0.0, 4.0, 2.0]]])
    back = geometry.inverse(flat)
    assert not back[0].any()
    torch.testing.assert_close(back[1], torch.tensor([[0.5, 0.0, -0.5], [0.0, 0.25, -0.5]]))
    assert not geometry.inverse(torch.zeros(2, 1, 2)).any()


def test_places_are_not_rounded_under_autocast() -> None:
    frame, places = frames(0), torch.full((5, 1, 2), 3001.25)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        result = geometry.points(geometry.compose(frame, frame), places)
        back = geometry.points(geometry.inverse(frame), places)
    assert torch.equal(result, geometry.points(geometry.compose(frame, frame), places))
    assert torch.equal(back, geometry.points(geometry.inverse(frame), places))


@settings(deadline=None)
@given(seeds)
def test_boxes_are_the_upright_ones_around_their_corners(seed: int) -> None:
    frame = frames(seed)
    draw = torch.Generator().manual_seed(seed)
    low = 100 * torch.rand(5, 3, 2, generator=draw)
    high = low + 50 * torch.rand(5, 3, 2, generator=draw)
    computed = geometry.boxes(frame, torch.cat([low, high], dim=2))
    share = torch.rand(5, 3, 40, 2, generator=draw)
    share[:, :, :4] = torch.tensor([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]])
    within = geometry.points(frame, (low[:, :, None] + share * (high - low)[:, :, None]).flatten(1, 2)).reshape(5, 3, 40, 2)
    torch.testing.assert_close(computed[..., :2], within.amin(dim=2), rtol=1e-4, atol=1e-2)
    torch.testing.assert_close(computed[..., 2:], within.amax(dim=2), rtol=1e-4, atol=1e-2)


def test_clipping_keeps_what_lies_inside_and_tells_its_share() -> None:
    corners = torch.tensor([[[-10.0, 5.0, 10.0, 15.0], [0.0, 0.0, 30.0, 20.0], [40.0, 5.0, 50.0, 9.0], [5.0, 5.0, 5.0, 9.0],
                             [-1.0, 2.0, -1.0, 2.0], [10.0, 10.0, 60.0, 60.0]]])  # fmt: skip
    computed, share = geometry.clipped(corners, torch.tensor([30.0, 20.0]))
    assert computed[0, 0].tolist() == [0, 5, 10, 15]
    assert computed[0, 5].tolist() == [10, 10, 30, 20]
    torch.testing.assert_close(share, torch.tensor([[0.5, 1.0, 0.0, 1.0, 0.0, 0.08]]))
    ends, share = geometry.clipped(torch.tensor([[[-1.0, 3.0]], [[1.0, 9.0]]]), torch.tensor([[4.0], [3.0]]))
    assert ends.tolist() == [[[0, 3]], [[1, 3]]]
    torch.testing.assert_close(share, torch.tensor([[0.75], [0.25]]))
    at = torch.tensor([[[0.0, 0.0], [29.9, 19.9], [30.0, 5.0], [5.0, -0.1]]])
    assert geometry.inside(at, torch.tensor([30.0, 20.0])).tolist() == [[True, True, False, False]]


def test_spans_begin_before_they_end() -> None:
    frame = torch.tensor([[[100.0, 5.0]], [[-100.0, 50.0]]])
    computed = geometry.spans(frame, torch.tensor([[[0.1, 0.2]], [[0.1, 0.2]]]))
    torch.testing.assert_close(computed, torch.tensor([[[15.0, 25.0]], [[30.0, 40.0]]]))


# ── against torch's sampling ───────────────────────────────────────────────────────────────────────────────────────


@settings(deadline=None, max_examples=30)
@given(seeds, st.integers(5, 40), st.integers(5, 40))
def test_a_frame_says_where_torch_puts_a_picture(seed: int, height: int, width: int) -> None:
    draw = torch.Generator().manual_seed(seed)
    theta = torch.eye(2, 3) + 0.3 * torch.randn(4, 2, 3, generator=draw)
    maps = torch.rand(4, 3, height, width, generator=draw)
    grid = F.affine_grid(theta, [4, 1, height, width], align_corners=False)
    frame = geometry.frame_of(theta, height, width)
    still = geometry.identity(4, 2, theta)
    for mode in ("bilinear", "nearest"):
        want = F.grid_sample(maps, grid, mode=mode, padding_mode="border", align_corners=False)
        computed = geometry.resample(maps, still, frame, (height, width), mode=mode, fill=torch.nan)  # type: ignore[arg-type]
        inside = computed.isfinite()
        near = (computed - want).abs() < 1e-3
        # The nearest pixel of a place between two is a matter of the last digit.
        assert bool(near[inside].all()) if mode == "bilinear" else float(near[inside].float().mean()) > 0.97
        assert float((inside[:, 0] == ((grid >= -1) & (grid < 1)).all(dim=3)).float().mean()) > 0.97


@settings(deadline=None, max_examples=20)
@given(seeds)
def test_what_is_told_of_a_change_is_what_was_done(seed: int) -> None:
    """Each change that moves: the picture it gives is the picture before it, sampled by the frame it tells."""
    pictures = torch.rand(6, 2, 17, 26, generator=torch.Generator().manual_seed(seed))
    changes = {
        "warp": lambda g, m: augmentation.warp(pictures, g, 0.15, 0.25, 30.0, m),
        "crop": lambda g, m: augmentation.crop(pictures, g, moves=m),
        "across": lambda g, m: augmentation.flip(pictures, g, 3, m),
        "down": lambda g, m: augmentation.flip(pictures, g, 2, m),
    }
    for name, change in changes.items():
        moves: list[Tensor] = []
        computed = change(torch.Generator().manual_seed(seed), moves)
        plain = change(torch.Generator().manual_seed(seed), None)
        assert torch.equal(computed, plain), "telling changes what is done"
        (frame,) = moves
        again = geometry.resample(
            pictures, geometry.identity(6, 2, frame), frame, (17, 26), mode="bilinear", fill=torch.nan
        )
        inside = again.isfinite()
        assert float(inside.float().mean()) > 0.2
        torch.testing.assert_close(again[inside], computed[inside], rtol=1e-3, atol=1e-3, msg=name)


def test_random_changes_tell_where_they_move_to(monkeypatch: pytest.MonkeyPatch) -> None:
    """With the changes of colour left out: both draws together, each row its own."""
    plain = {
        name: change if name in rand_augment.MOVES else (lambda x, by: x) for name, change in rand_augment.CHANGES.items()
    }
    assert list(plain) == list(rand_augment.CHANGES)
    monkeypatch.setattr(rand_augment, "CHANGES", plain)
    ramp = torch.stack(torch.meshgrid(torch.arange(20.0), torch.arange(30.0), indexing="ij"))[None] + 0.5
    pictures = ramp.expand(64, -1, -1, -1)  # each pixel holds its own place: y, x
    moves: list[Tensor] = []
    computed = rand_augment.random_changes(pictures, torch.Generator().manual_seed(0), moves=moves)
    frame = geometry.apply_moves(geometry.identity(64, 2, computed), moves)
    assert frame is not None
    assert len(moves) == 2
    assert 5 < int((frame != geometry.identity(64, 2, computed)).flatten(1).any(dim=1).sum()) < 60
    y, x = computed[:, 0, 10, 15], computed[:, 1, 10, 15]  # what is seen in the middle of a pixel near the middle
    at = geometry.points(frame, torch.stack([x, y], dim=1)[:, None])[:, 0]
    torch.testing.assert_close(at, torch.tensor([15.5, 10.5]).expand(64, 2), rtol=0, atol=1e-3)


# ── there and back again ───────────────────────────────────────────────────────────────────────────────────────────


@settings(deadline=None, max_examples=30)
@given(seeds, st.booleans(), st.booleans())
def test_flips_and_whole_pixels_are_exact(seed: int, across: bool, down: bool) -> None:
    draw = torch.Generator().manual_seed(seed)
    maps = torch.randint(0, 250, (3, 1, 11, 14), generator=draw)
    frame = geometry.identity(3, 2, torch.zeros(()))
    want = maps
    for yes, axis, count, dim in ((across, 0, 14, 3), (down, 1, 11, 2)):
        if yes:
            flipped = torch.tensor([True, False, True])
            frame = geometry.compose(geometry.frame_of_flip(flipped, count, axis, 2, frame), frame)
            want = torch.where(flipped[:, None, None, None], want.flip(dim), want)
    left, top = (int(torch.randint(0, 4, (), generator=draw)) for _ in range(2))
    cut = torch.tensor([[[1.0, 0.0, -left], [0.0, 1.0, -top]]]).expand(3, -1, -1)
    frame = geometry.compose(cut, frame)
    result = geometry.resample(maps, geometry.identity(3, 2, frame), frame, (7, 10), fill=255)
    assert result.dtype == maps.dtype
    assert torch.equal(result, want[:, :, top : top + 7, left : left + 10])
    back = geometry.resample(result, frame, geometry.identity(3, 2, frame), (11, 14), fill=255)
    assert bool(((back == maps) | (back == 255)).all())
    assert int((back != 255).sum()) == int(result.numel())
    assert torch.equal(geometry.mirrored(frame), torch.tensor([across != down, False, across != down]))


@settings(deadline=None, max_examples=30)
@given(seeds)
def test_a_smooth_map_comes_back_from_another_grid(seed: int) -> None:
    """A ramp, linear in x and y, is the same ramp after a way there and back, wherever it was in sight."""
    draw = np.random.default_rng(seed)
    scale, shift = draw.uniform(0.5, 2), draw.uniform(-5, 5, 2)
    angle = draw.uniform(-0.5, 0.5)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]) * scale
    frame = torch.from_numpy(np.concatenate([turn, shift[:, None]], axis=1)[None]).float()
    y, x = torch.meshgrid(torch.arange(20.0) + 0.5, torch.arange(24.0) + 0.5, indexing="ij")
    maps = (2 * x - 3 * y)[None, None]
    still = geometry.identity(1, 2, frame)
    inside = geometry.resample(maps, still, frame, (30, 30), mode="bilinear", fill=torch.nan)
    back = geometry.resample(inside, frame, still, (20, 24), mode="bilinear", fill=torch.nan)
    seen = back.isfinite()
    # At the edges of either grid the border is repeated, half a cell wide; what lies further in is exact.
    inner = F.max_pool2d((~seen).float(), 5, 1, 2)[0, 0] == 0
    inner[:2], inner[-2:], inner[:, :2], inner[:, -2:] = False, False, False, False
    if bool(inner.any()):
        torch.testing.assert_close(back[0, 0][inner], maps[0, 0][inner], rtol=0, atol=0.02)
