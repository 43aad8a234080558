"""Videos."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from sensorium.codecs.image_arrays import (
    LARGEST,
    fit_to_frame,
    frame_state,
    frame_transform,
    scale_of,
    to_pixels,
    with_channels,
)
from sensorium.codecs.video import HOURS, PIXELS, container, has_sound, read_video, video_frame_size, video_pace, video_size
from sensorium.core.errors import CellError, ConfigError
from sensorium.core.layout import Grid, Layout
from sensorium.core.modality import Array, Blob, Guess, Modality
from sensorium.core.registry import component
from sensorium.signal.bit_depth import describe_scale
from sensorium.signal.running_moments import subsampled

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from sensorium.core.batch import Field

_ENDINGS = (".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".mpg", ".mpeg", ".ts", ".flv")
_SAMPLE = 128


@component
class Video(Modality):
    """A video: MP4, MOV, MKV, WebM, AVI, MPEG or an animated GIF, or an array ``[T, H, W]`` or ``[T, H, W, C]``.

    Encoded as ``[T, C, H, W]`` uint8 frames, upright; prepared as ``[B, C, T, H, W]``, standardised by channel, with the
    mask
    of real frames. Height and width follow the training videos. A sound track is a separate stream: a column of kind
    ``audio`` that reads the same cells (``of: clip``), added automatically where the videos have sound.

    Args:
        frames: Maximum number of frames.
        rate: Frames per second, from the start; None: ``frames`` of them, evenly spaced over the whole video.
        size: Longer side in pixels; None: that of the usual training video, from 16 to 128.
        channels: ``auto`` is grey if all training videos are.
        augment: Random shift, scale, rotation and brightness in training, the same for all frames of a video; ``strong``
            also erases a box. Never mirrored, reversed or recoloured.
    """

    widget = "file:video/*"
    media = True
    ragged = True
    bounds = {"seconds": HOURS * 3600, "pixels": PIXELS, "frames": float("inf")}

    def __init__(
        self,
        *,
        frames: int = 8,
        rate: float | None = None,
        size: int | None = None,
        channels: Literal["auto", "grey", "rgb"] = "auto",
        # Off, since its benefit was not measured (docs/results.md, "Augmentation").
        augment: Literal["none", "light", "strong"] = "none",
    ) -> None:
        super().__init__()
        if not 1 <= frames <= 512:
            raise ConfigError(f"video: {frames} frames are not between 1 and 512")
        if rate is not None and not 0.001 <= rate <= 1000:
            raise ConfigError(f"video: a rate of {rate} frames a second is not between 0.001 and 1000")
        if size is not None and not 4 <= size <= 1024:
            raise ConfigError(f"video: a size of {size} pixels is not between 4 and 1024")
        self.frames, self.rate, self.size, self.channels, self.augment = frames, rate, size, channels, augment

    @classmethod
    def sniff(cls, cells: Sequence[Any], name: str) -> Guess:
        formats = Counter(what for what in map(_recognised, cells) if what)
        if not formats:
            return Guess(0.0, "no cell is a video")
        count = formats.total()
        kinds = " or ".join(kind for kind, _ in formats.most_common(3))
        return Guess(0.98 * count / len(cells), f"{count} of {len(cells)} cells are {kinds}")

    @classmethod
    def derived_columns(cls, cells: Sequence[Any], name: str) -> dict[str, dict[str, Any]]:
        sound = 0
        for cell in cells:
            try:
                sound += isinstance(cell, Blob) and has_sound(cell)
            except CellError:
                continue  # reported by encode
        return {f"{name}_sound": {"kind": "audio"}} if sound else {}

    def fit(self, cells: Iterable[Any]) -> None:
        sizes: list[tuple[int, int]] = []

        def glances() -> Iterable[Array]:
            for cell in cells:
                try:
                    frames, size = self._open(cell, min(self.frames, 3), LARGEST // 2, raw=True)
                except CellError:
                    continue  # reported by encode
                sizes.append(size)
                yield frames

        sample = subsampled(glances(), _SAMPLE)
        self.state = frame_state(sizes, sample, self.size, self.channels)

    def notes(self) -> str:
        return describe_scale(self.state.get("scale"))

    @property
    def layout(self) -> Layout:
        return Grid(self.state["channels"], (self.frames, self.state["height"], self.state["width"]), timed=True)

    def measure(self, cell: Any) -> dict[str, float]:
        if not isinstance(cell, Blob):
            return {}
        seconds, pixels = video_size(cell)
        return {"seconds": seconds, "pixels": pixels, "frames": self.frames if pixels else 0}

    def encode(self, cell: Any) -> Array:
        frame = (self.state["height"], self.state["width"])
        frames, size = self._open(cell, self.frames, frame)
        frames = with_channels(frames, self.state["channels"])
        fitted = np.stack([fit_to_frame(pixels, size, frame, self._fill) for pixels in frames])
        return np.ascontiguousarray(fitted.transpose(0, 3, 1, 2))

    def extent(self, cell: Any) -> Array | None:
        """Return the width and height of the upright frames in pixels, then the length of the video and the time from one
        frame that is read to the next: in seconds, or in frames of an array. Decodes one frame, as headers may omit the
        rotation."""
        if isinstance(cell, bytes):
            cell = Blob(cell, "<bytes>")
        try:
            if isinstance(cell, Blob):
                size, length, period = video_frame_size(cell), *video_pace(cell, self.frames, self.rate)
                if length <= 0:  # the header does not say: the frames have their times
                    times = read_video(cell, self.frames, self.rate, 16).times
                    period = (times[-1] - times[0]) / max(len(times) - 1, 1) or 1.0
                    length = times[-1] + period
            else:
                size = self._open(cell, 1, 1)[1]
                count = min(self.frames, len(cell))
                length, period = float(len(cell)), 1.0 if self.rate is not None else len(cell) / count
        except CellError:  # reported by encode
            return None
        return np.array([*size[::-1], length, period], dtype=np.float32)

    def framing(self, extent: Array) -> Array:
        """Map pixels to pixels, the same for all frames of a video; time is not mapped."""
        frame = (self.state["height"], self.state["width"])
        sizes = [(max(high, 1), max(wide, 1)) for wide, high in extent[:, :2].astype(int).tolist()]
        matrices = [frame_transform(size, size, frame).matrix for size in sizes]
        return np.stack(matrices) if matrices else np.empty((0, 2, 3), np.float32)

    def blank(self) -> Array:
        return np.zeros((0, self.state["channels"], self.state["height"], self.state["width"]), dtype=np.uint8)

    def prepare(self, field: Field, generator: torch.Generator | None = None) -> Field:
        """Standardise frames ``[B, T, C, H, W]`` uint8 to ``[B, C, T, H, W]``; zero where padded or missing."""
        from sensorium.signal.augmentation import moved, standard
        from sensorium.signal.geometry import apply_moves

        moves: list[Tensor] | None = None if field.frame is None else []
        mask = field.mask if field.mask is not None else field.present[:, None].expand(field.data.shape[:2])
        data = standard(field.data, self.state["mean"], self.state["deviation"])
        if generator is not None and self.augment != "none":
            # Frames become channels of one image, so that all are transformed alike.
            frames = moved(data.flatten(1, 2), generator, strong=self.augment == "strong", moves=moves)
            data = frames.reshape(data.shape)
        data = data * mask[:, :, None, None, None]
        data = data.transpose(1, 2).contiguous()
        return replace(field, data=data, mask=mask, frame=apply_moves(field.frame, moves))

    @property
    def store_options(self) -> dict[str, Any]:
        kept: dict[str, Any] = {key: self.state[key] for key in ("height", "width", "channels")}
        if "scale" in self.state:  # only for frames of more than 8 bits, so that cache keys of others stay the same
            kept["scale"] = self.state["scale"]
        return {**kept, "fill": self._fill, "frames": self.frames, "rate": self.rate}

    @property
    def _fill(self) -> list[int]:
        return [round(255 * value) for value in self.state["mean"]]

    def _open(
        self, cell: Any, most: int, frame: tuple[int, int] | int, *, raw: bool = False
    ) -> tuple[Array, tuple[int, int]]:
        """Return frames ``[T, h, w, 1 or 3]`` uint8 and the original height and width; ``raw``: see ``to_pixels``."""
        if isinstance(cell, bytes):
            cell = Blob(cell, "<bytes>")
        if isinstance(cell, Blob):
            film = read_video(cell, most, self.rate, frame)
            return film.frames, film.size
        try:
            array = np.asarray(cell)
        except (ValueError, TypeError):
            raise CellError(f"a {type(cell).__name__} is not a video") from None
        if array.ndim not in (3, 4) or not len(array):
            raise CellError(f"an array of shape {array.shape} is not a video", fix="use [frames, height, width, channels]")
        count = min(most, len(array))
        places = range(count) if self.rate is not None else (int((i + 0.5) * len(array) / count) for i in range(count))
        scale = None if raw else scale_of(self.state)
        frames = np.stack([to_pixels(array[i], scale, raw=raw) for i in places])
        return frames, (frames.shape[1], frames.shape[2])


def _recognised(cell: Any) -> str:
    """Return how a cell is recognised as a video: by its extension, its magic bytes, or as arrays; empty if it is not."""
    if isinstance(cell, (str, os.PathLike)):
        ending = os.path.splitext(str(cell)[-300:].strip().lower())[1]
        return ending if ending in _ENDINGS else ""
    data = cell.data if isinstance(cell, Blob) else cell
    if isinstance(data, bytes):
        return "the bytes of videos" if container(data) not in ("", "gif") else ""
    shape: tuple[int, ...] = getattr(cell, "shape", ())
    return "arrays shaped like videos" if len(shape) == 4 and shape[-1] in (1, 3, 4) else ""
