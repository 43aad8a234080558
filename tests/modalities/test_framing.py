"""Where things lie once a cell is prepared: frames against what can be seen in the picture, or heard in the sound."""

from __future__ import annotations

import io
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image as Pillow
from torch import Tensor
from torch.nn import functional as F

from sensorium.core.batch import Field
from sensorium.core.modality import Array, Blob, Modality
from sensorium.core.registry import build
from sensorium.modalities.audio import Audio
from sensorium.modalities.image import Image
from sensorium.modalities.images import Images
from sensorium.modalities.series import Series
from sensorium.modalities.video import Video
from sensorium.signal import augmentation, geometry, rand_augment

torch.set_num_threads(1)


def blob(pixels: Array, form: str = "PNG", **options: Any) -> Blob:
    file = io.BytesIO()
    Pillow.fromarray(pixels).save(file, form, **options)
    return Blob(file.getvalue(), f"a.{form.lower()}")


def stated(height: int, width: int, channels: int = 1, **options: Any) -> Image:
    """An image modality of a certain frame, black and white not moved."""
    image = Image(**options)
    image.state = {"height": height, "width": width, "channels": channels, "mean": [0.0], "deviation": [1.0]}
    return image


def dot(height: int, width: int, x: float, y: float, size: float) -> Array:
    """A soft round dot, white on black, around a place."""
    down, across = np.mgrid[:height, :width] + 0.5
    return np.round(255 * np.exp(-((across - x) ** 2 + (down - y) ** 2) / (2 * size**2))).astype(np.uint8)


def middle_of(picture: Tensor) -> tuple[float, float]:
    """The centre of mass (x, y) of a picture ``[H, W]`` on black."""
    weight = picture.double()
    y, x = torch.meshgrid(*(torch.arange(n, dtype=torch.float64) + 0.5 for n in picture.shape), indexing="ij")
    return float((weight * x).sum() / weight.sum()), float((weight * y).sum() / weight.sum())


def framed(modality: Modality, cells: list[Any], rows: int = 1) -> Field:
    """A batch of stored cells with their frames, as whoever gathers makes it."""
    extents = [modality.extent(cell) for cell in cells for _ in range(rows)]
    assert all(extent is not None and extent.dtype == np.float32 for extent in extents)
    frame = modality.framing(np.stack(extents))  # type: ignore[arg-type]
    assert frame.dtype == np.float32
    field = modality.collate([modality.encode(cell) for cell in cells for _ in range(rows)])
    return replace(field, frame=torch.from_numpy(frame))


# ── pictures as they are stored ────────────────────────────────────────────────────────────────────────────────────

SIZES = [(40, 40), (40, 52), (30, 90), (200, 60), (301, 199), (640, 481), (1003, 333), (20, 25)]
WAYS: list[dict[str, Any]] = [{}, {"stretch": True}, {"crop": "center"}, {"share": 0.8}, {"share": 0.875, "crop": "center"}]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("options", WAYS)
@pytest.mark.parametrize("form", ["PNG", "JPEG", "array"])
def test_a_dot_is_where_the_framing_says(size: tuple[int, int], options: dict[str, Any], form: str) -> None:
    high, wide = size
    frame = (48, 48) if "share" in options else (40, 56)
    image = stated(*frame, **options)
    x, y = 0.45 * wide, 0.56 * high
    pixels = dot(high, wide, x, y, min(high, wide) / 14)
    cell: Any = pixels if form == "array" else blob(pixels, form, **({"quality": 98} if form == "JPEG" else {}))
    extent = image.extent(cell)
    assert extent is not None
    assert extent.tolist() == [wide, high]
    field = framed(image, [cell])
    assert field.frame is not None
    ready = image.prepare(field)
    assert torch.equal(ready.frame, field.frame), "nothing moves without a generator"  # type: ignore[arg-type]
    want = geometry.points(field.frame, torch.tensor([[[x, y]]]))[0, 0].tolist()
    result = middle_of((ready.data[0, 0] - 0.02).clamp_min(0))
    # A JPEG of 1003 × 333 is decoded at 251 × 84 pixels of 4, the last of which reach past its edge; arrays are not shrunk.
    assert result == pytest.approx(want, abs=0.25 if form == "PNG" else 1.0 if "crop" in options else 0.5)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("form", ["PNG", "JPEG", "WEBP"])
@pytest.mark.parametrize("size", [(48, 32), (600, 400)])
def test_pixels_are_those_of_the_upright_picture(orientation: int, form: str, size: tuple[int, int]) -> None:
    high, wide = size
    x, y = 0.3 * wide, 0.6 * high
    upright = dot(high, wide, x, y, wide / 12)
    inverse = {2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}
    turned = Pillow.fromarray(upright)
    turned = turned.transpose(Pillow.Transpose(inverse[orientation])) if orientation > 1 else turned
    exif = Pillow.Exif()
    exif[0x0112] = orientation
    cell = blob(np.asarray(turned), form, exif=exif, **({} if form == "PNG" else {"quality": 98}))
    image = stated(48, 32)
    assert image.extent(cell).tolist() == [wide, high]  # type: ignore[union-attr]
    field = framed(image, [cell])
    assert field.frame is not None
    want = geometry.points(field.frame, torch.tensor([[[x, y]]]))[0, 0].tolist()
    result = middle_of((image.prepare(field).data[0, 0] - 0.03).clamp_min(0))
    assert result == pytest.approx(want, abs=0.25)


def test_an_orientation_behind_the_pixels_of_a_png_is_found() -> None:
    """Chunks of metadata may stand after the picture; those of one that has none need no decoding."""
    exif = Pillow.Exif()
    exif[0x0112] = 6
    plain = blob(dot(30, 50, 20, 10, 4), exif=exif).data
    at = plain.index(b"eXIf") - 4
    length = int.from_bytes(plain[at : at + 4], "big") + 12
    late = plain[:at] + plain[at + length : -12] + plain[at : at + length] + plain[-12:]
    image = stated(32, 32)
    for data in (plain, late):
        assert image.extent(Blob(data, "a.png")).tolist() == [30, 50]  # type: ignore[union-attr]
    assert image.extent(Blob(b"", "empty.png")) is None
    assert image.extent("no picture") is None


def test_a_picture_too_large_to_be_read_has_no_extent() -> None:
    file = io.BytesIO()
    exif = Pillow.Exif()
    exif[0x0112] = 6
    Pillow.new("1", (70_000, 1_000)).save(file, "PNG", exif=exif)
    assert stated(32, 32).extent(Blob(file.getvalue(), "large.png")) is None


@pytest.mark.parametrize("size", SIZES)
def test_there_and_back_through_a_letterbox(size: tuple[int, int]) -> None:
    """A mask of the original on the prepared grid, and as an answer in the original's pixels again; points to a hair."""
    high, wide = size
    image = stated(40, 56)
    frame = torch.from_numpy(image.framing(np.array([[wide, high]], np.float32)))
    mask = torch.zeros(1, 1, high, wide, dtype=torch.uint8)
    mask[..., high // 4 : 3 * high // 4, wide // 3 : 5 * wide // 6] = 1
    still = geometry.identity(1, 2, frame)
    small = geometry.resample(mask, still, frame, (40, 56), fill=9)
    left, top, right, bottom = geometry.boxes(frame, torch.tensor([[[0.0, 0.0, wide, high]]]))[0, 0].round().int().tolist()
    outside = torch.ones(40, 56, dtype=torch.bool)
    outside[top:bottom, left:right] = False
    assert torch.equal(small[0, 0] == 9, outside), "what was filled in is known"
    back = geometry.resample(small, frame, still, (high, wide), fill=9)
    step = max(1.0, 1 / float(frame[0, 0, 0]), 1 / float(frame[0, 1, 1]))
    edge = 2 * int(np.ceil(step)) + 1
    wide_edges = F.max_pool2d(mask.float(), edge, 1, edge // 2) != -F.max_pool2d(-mask.float(), edge, 1, edge // 2)
    assert torch.equal(back[~wide_edges], mask[~wide_edges])
    places = torch.rand(1, 20, 2) * torch.tensor([wide, high])
    again = geometry.points(geometry.inverse(frame), geometry.points(frame, places))
    torch.testing.assert_close(again, places, rtol=1e-5, atol=1e-3)


# ── pictures as they are augmented ─────────────────────────────────────────────────────────────────────────────────

CHANGES: list[dict[str, Any]] = [
    {"augment": "light"},
    {"augment": "strong"},
    {"augment": "auto"},
    {"augment": "none", "crop": "random"},
    {"augment": "none", "rotate": 60.0},
    {"augment": "none", "flip": "both"},
    {"augment": "strong", "crop": "random", "flip": "both", "rotate": 45.0, "colour": 0.3},
    {"augment": "auto", "crop": "random", "flip": "horizontal"},
]


@pytest.mark.parametrize("options", CHANGES)
def test_a_mask_lies_on_what_it_marks_whatever_is_drawn(options: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """White marks on black, and their mask brought along by the frame: moved by a pixel to any side they agree less."""
    # What moves nothing, and would hide the marks or leave no more than their edges, is left out.
    monkeypatch.setattr(augmentation, "erase", lambda pictures, generator: pictures)
    still = {
        name: change if name in rand_augment.MOVES else (lambda x, by: x) for name, change in rand_augment.CHANGES.items()
    }
    monkeypatch.setattr(rand_augment, "CHANGES", still)
    pixels = np.zeros((70, 50), np.uint8)
    mask = np.zeros((70, 50), np.float32)
    for top, left, bottom, right in ((14, 12, 34, 22), (40, 20, 56, 42), (24, 30, 30, 40)):
        pixels[top:bottom, left:right] = 255
        mask[top:bottom, left:right] = 1
    image = stated(56, 40, **options)
    ready = image.prepare(framed(image, [blob(pixels)], 48), torch.Generator().manual_seed(0))
    frame = ready.frame
    assert frame is not None
    assert not torch.equal(frame[0], frame[1])
    seen = geometry.resample(
        torch.from_numpy(mask).expand(48, 1, -1, -1), geometry.identity(48, 2, frame), frame, (56, 40), mode="bilinear"
    )
    judged = 0
    for picture, marks in zip(ready.data[:, 0], seen[:, 0], strict=True):
        if float(picture.std()) < 0.15 or float(marks.std()) < 0.15:
            continue  # moved out of sight
        core = (slice(2, -2), slice(2, -2))
        agree = {
            (i, j): abs(float(np.corrcoef(picture[core].flatten(), marks.roll((i, j), (0, 1))[core].flatten())[0, 1]))
            for i in (-1, 0, 1)
            for j in (-1, 0, 1)
        }
        judged += 1
        assert max(agree, key=lambda at: agree[at]) == (0, 0), (judged, agree)
    assert judged > 30


@pytest.mark.parametrize("options", [o for o in CHANGES if o["augment"] != "auto"])
def test_points_and_boxes_lie_on_what_they_mark(options: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(augmentation, "erase", lambda pictures, generator: pictures)
    x, y = 22.3, 30.8
    image = stated(64, 48, **options)
    ready = image.prepare(framed(image, [blob(dot(64, 48, x, y, 2.0))], 48), torch.Generator().manual_seed(1))
    assert ready.frame is not None
    at = geometry.points(ready.frame, torch.tensor([[[x, y]]]).expand(48, -1, -1))[:, 0]
    around = geometry.boxes(ready.frame, torch.tensor([[[x - 6, y - 6, x + 6, y + 6]]]).expand(48, -1, -1))[:, 0]
    judged = 0
    for picture, (px, py), box in zip(ready.data[:, 0], at.tolist(), around, strict=True):
        light = (picture - picture.median() - 0.02).clamp_min(0)
        if float(light.max()) < 0.4 or not (12 < px < 36 and 12 < py < 52):
            continue
        if (
            options["augment"] == "strong"
            and float(picture[int(py) - 3 : int(py) + 4, int(px) - 3 : int(px) + 4].min()) == 0
        ):
            continue  # a part of it was erased
        judged += 1
        left, top, right, bottom = box.tolist()
        inner = torch.zeros_like(light)
        inner[int(top) : int(bottom) + 1, int(left) : int(right) + 1] = 1
        assert float((light * (1 - inner)).sum()) < 0.02 * float(light.sum())
        assert middle_of(light * inner) == pytest.approx((px, py), abs=0.5)
    assert judged > 20


def test_flips_agree_to_the_pixel() -> None:
    draw = np.random.default_rng(0)
    pixels = (draw.random((24, 36)) < 0.5).astype(np.uint8) * 255
    image = stated(24, 36, augment="none", flip="both")
    ready = image.prepare(framed(image, [blob(pixels)], 16), torch.Generator().manual_seed(0))
    assert ready.frame is not None
    seen = geometry.resample(
        torch.from_numpy(pixels // 255).expand(16, 1, -1, -1), geometry.identity(16, 2, ready.frame), ready.frame, (24, 36)
    )
    assert torch.equal(seen.float(), ready.data)
    box = geometry.boxes(ready.frame, torch.tensor([[[3.0, 5.0, 17.0, 11.0]]]).expand(16, -1, -1))[:, 0].int().tolist()
    for picture, (left, top, right, bottom) in zip(ready.data[:, 0], box, strict=True):
        cut = picture[top:bottom, left:right]
        ways = [torch.from_numpy(pixels[5:11, 3:17] // 255).float().flip(axes) for axes in ((), (0,), (1,), (0, 1))]
        assert any(torch.equal(cut, way) for way in ways)
    assert 0 < int(geometry.mirrored(ready.frame).sum()) < 16


def test_a_cut_of_whole_pixels_is_exact() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (40, 64), dtype=np.uint8)
    image = stated(40, 40, crop="center")
    field = framed(image, [blob(pixels)])
    assert field.frame is not None
    seen = geometry.resample(
        torch.from_numpy(pixels)[None, None], geometry.identity(1, 2, field.frame), field.frame, (40, 40)
    )
    assert torch.equal(seen, field.data)


def test_nobody_who_does_not_ask_is_told_and_the_dice_fall_the_same() -> None:
    for options in CHANGES:
        image = stated(24, 36, **options)
        field = framed(image, [blob(dot(24, 36, 10, 12, 4))], 8)
        requested, other = torch.Generator().manual_seed(3), torch.Generator().manual_seed(3)
        with_frame, without = image.prepare(field, requested), image.prepare(replace(field, frame=None), other)
        assert without.frame is None
        assert torch.equal(with_frame.data, without.data)
        assert torch.equal(torch.rand(3, generator=requested), torch.rand(3, generator=other))


def test_several_pictures_have_no_frame_and_characters_are_mapped_to_themselves() -> None:
    images = Images()
    images.state = {"height": 8, "width": 8, "channels": 1, "mean": [0.0], "deviation": [1.0]}
    field = images.collate([images.encode([dot(8, 8, 4, 4, 2)] * 2)])
    assert images.extent([dot(8, 8, 4, 4, 2)]) is None
    assert images.prepare(replace(field, frame=torch.eye(2, 3)[None])).frame is None
    text: Any = build("modalities", "text")
    text.fit(["two words"])
    assert text.extent("two words")[:2].tolist() == [9, 2]
    assert text.extent(" ") is None
    assert text.framing(np.zeros((1, 5), np.float32)).tolist() == [[[1, 0]]]
    number: Any = build("modalities", "number")
    with pytest.raises(TypeError, match="has no framing"):
        number.framing(np.zeros((1, 1), np.float32))


# ── videos ─────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("size", [(48, 64), (30, 90)])
def test_a_video_is_moved_as_one(size: tuple[int, int]) -> None:
    high, wide = size
    x, y = 0.45 * wide, 0.5 * high
    video = Video(frames=3, augment="light")
    video.state = {"height": 40, "width": 48, "channels": 1, "mean": [0.0], "deviation": [1.0]}
    cell = np.stack([dot(high, wide, x, y, high / 10)] * 3)
    field = framed(video, [cell], 16)
    ready = video.prepare(field, torch.Generator().manual_seed(0))
    assert ready.frame is not None
    assert video.prepare(field).frame is field.frame
    assert video.extent(Blob(b"no video", "a.mp4")) is None
    at = geometry.points(ready.frame, torch.tensor([[[x, y]]]).expand(16, -1, -1))[:, 0].tolist()
    for frames, place in zip(ready.data[:, 0], at, strict=True):
        for picture in frames:
            light = (picture - picture.median() - 0.02).clamp_min(0)
            assert middle_of(light) == pytest.approx(place, abs=0.5)


def test_a_video_held_upright_is_measured_upright() -> None:
    av = pytest.importorskip("av")
    file = io.BytesIO()
    with av.open(file, "w", format="mp4") as out:
        stream = out.add_stream("mpeg4", rate=5)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for _ in range(5):
            frame = av.VideoFrame.from_ndarray(np.zeros((48, 64, 3), np.uint8), format="rgb24")
            for packet in stream.encode(frame):
                out.mux(packet)
        for packet in stream.encode():
            out.mux(packet)
    cell = Blob(file.getvalue(), "a.mp4")
    video = Video(frames=2)
    video.fit([cell])
    assert video.extent(cell).tolist() == [64, 48, 1.0, 0.5]  # type: ignore[union-attr]  # a second, two frames of it


# ── sound ──────────────────────────────────────────────────────────────────────────────────────────────────────────

RATE = 8000


def click(at: float, seconds: float = 2.0) -> Array:
    """A short, soft click around a moment, rising from a murmur, at 8 kHz; silence else."""
    away = (np.arange(int(seconds * RATE)) + 0.5) / RATE - at
    return (32767 * (0.8 * np.exp(-((away / 0.002) ** 2)) + 0.1 * np.exp(-((away / 0.05) ** 2)))).astype(np.int16)


def hearing(**options: Any) -> Audio:
    audio = Audio(rate=RATE, seconds=2.0, **options)
    audio.fit([click(0.3), click(0.7)])
    return audio


@pytest.mark.parametrize("moment", [0.4, 0.9137, 1.5])
@pytest.mark.parametrize(
    "options",
    [
        {"features": "waveform", "standardise": False},
        {"features": "waveform", "standardise": False, "augment": "strong", "speed": 0.3},
        {"features": "waveform", "standardise": False, "trim_db": 30.0},
        {"features": "stft", "standardise": False, "augment": "none"},
        {"features": "mel", "standardise": False, "augment": "none", "speed": 0.3, "trim_db": 40.0},
        {"features": "mel", "standardise": False, "window_ms": 64.0, "hop_ms": 16.0, "augment": "none", "speed": 0.2},
    ],
)
def test_a_click_is_where_the_frame_says(moment: float, options: dict[str, Any]) -> None:
    audio = hearing(**options)
    field = framed(audio, [click(moment)], 12)
    for generator in (None, torch.Generator().manual_seed(0)):
        ready = audio.prepare(field, generator)
        assert ready.frame is not None
        assert ready.frame.shape == (12, 1, 2)
        spans = geometry.spans(ready.frame, torch.tensor([[[moment, moment]]]).expand(12, -1, -1))[:, 0, 0]
        wave = options["features"] == "waveform"
        loud = ready.data[:, 0].abs() if wave else ready.data[:, 0].exp().sum(dim=2)
        loud = loud - loud.median(dim=1, keepdim=True).values
        cells = torch.arange(loud.shape[1]) + 0.5
        margin, judged = (60, 0) if wave else (6, 0)
        for row, want in zip(loud, spans, strict=True):
            if not margin < want < loud.shape[1] - margin:
                continue
            judged += 1
            near = row.clamp_min(0) * ((cells - want).abs() < margin)
            assert float((near * cells).sum() / near.sum()) == pytest.approx(float(want), abs=1.0 if wave else 0.5)
        assert judged >= 6


def test_a_recordings_extent_is_its_seconds() -> None:
    soundfile = pytest.importorskip("soundfile")
    file = io.BytesIO()
    soundfile.write(file, np.zeros(11025, np.float32), 22050, format="FLAC")
    cell = Blob(file.getvalue(), "a.flac")
    assert hearing().extent(cell) == pytest.approx([0.5])
    assert hearing().extent(click(0.2, 1.5)) == pytest.approx([1.5])
    assert hearing().extent(Blob(b"no sound", "a.wav")) is None
    result = hearing(trim_db=30.0).extent(click(0.9))
    assert result is not None
    assert result.sum() == pytest.approx(2.0), "what is cut and what follows are the whole"
    assert 0.7 < result[1] < 0.9


# ── series ─────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "options",
    [{"augment": "light"}, {}, {"window": 6, "step": 2}, {"augment": "light", "window": 4}],
)
def test_a_spike_is_where_the_frame_says(options: dict[str, Any]) -> None:
    series = Series(standardise="none", **options)
    cell = np.zeros((60, 1), np.float32)
    cell[24:28] = 100.0
    series.fit([cell, cell])
    assert series.extent(cell).tolist() == [60]  # type: ignore[union-attr]
    field = framed(series, [cell], 16)
    for generator in (None, torch.Generator().manual_seed(0)):
        ready = series.prepare(field, generator)
        assert ready.frame is not None
        want = geometry.points(ready.frame, torch.tensor([[[26.0]]]).expand(16, -1, -1))[:, 0, 0]
        loud = ready.data[:, 0].clamp_min(5) - 5  # readings, or the mean of each window
        cells = torch.arange(loud.shape[1]) + 0.5
        torch.testing.assert_close((loud * cells).sum(dim=1) / loud.sum(dim=1), want, rtol=0, atol=0.1)


def test_readings_on_an_even_grid_lie_at_their_time() -> None:
    series = Series(rate=4.0, augment="none", standardise="none")
    times = np.array([10.0, 10.3, 11.0, 12.5, 13.0, 14.0])
    cell = np.stack([times, np.array([0, 0, 0, 50.0, 0, 0])], axis=1)
    series.fit([cell, cell])
    assert series.extent(cell).tolist() == [4, 10]  # type: ignore[union-attr]
    ready = series.prepare(framed(series, [cell]))
    assert ready.frame is not None
    at = geometry.points(ready.frame, torch.tensor([[[12.5]]]))
    assert float(at) == 10.5  # the middle of step 10
    assert int(ready.data[0, 0].argmax()) == 10
    assert series.extent(np.full((3, 2), np.nan)) is None
