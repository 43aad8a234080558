"""Recordings: formats, lengths, rates, hostile files, features, augmentation."""

from __future__ import annotations

import io
import json
import struct
import time
from contextlib import suppress
from typing import Any

import numpy as np
import pytest
import soundfile
import torch

from sensorium.core.errors import CellError, ConfigError
from sensorium.core.layout import Grid
from sensorium.core.modality import Blob
from sensorium.modalities.audio import Audio


def tone(seconds: float, rate: int = 8000, hz: float = 440.0, loud: float = 0.5) -> np.ndarray:
    return (loud * np.sin(2 * np.pi * hz * np.arange(round(seconds * rate)) / rate)).astype(np.float32)


def blob(signal: np.ndarray, rate: int = 8000, form: str = "WAV", subtype: str | None = None) -> Blob:
    file = io.BytesIO()
    soundfile.write(file, signal, rate, format=form, subtype=subtype)
    return Blob(file.getvalue(), f"a.{form.lower()}")


def fitted(cells: list[Any], **options: Any) -> Audio:
    audio = Audio(**options)
    audio.fit(cells)
    json.dumps(audio.state, allow_nan=False)
    return audio


@pytest.fixture
def audio() -> Audio:
    return fitted([blob(tone(0.5 + 0.05 * i, hz=200 + 50 * i)) for i in range(10)])


@pytest.mark.parametrize(
    ("form", "subtype", "off"),
    [
        ("WAV", "PCM_U8", 0.01),
        ("WAV", "PCM_16", 1e-4),
        ("WAV", "PCM_24", 1e-4),
        ("WAV", "PCM_32", 1e-4),
        ("WAV", "FLOAT", 1e-4),
        ("WAV", "DOUBLE", 1e-4),
        ("FLAC", None, 1e-4),
        ("OGG", "VORBIS", 0.05),
        ("MP3", None, 0.5),
    ],
)
def test_formats(audio: Audio, form: str, subtype: str | None, off: float) -> None:
    signal = tone(0.5)
    out = audio.encode(blob(signal, form=form, subtype=subtype))
    assert out.dtype == np.int16
    assert abs(len(out) - len(signal)) <= (0 if form != "MP3" else 1200)
    count = min(len(out), len(signal))
    assert np.abs(out[:count] / 32768 - signal[:count]).mean() < off


def test_rates_and_channels(audio: Audio) -> None:
    for rate in (4000, 11025, 16000, 44100):
        out = audio.encode(blob(tone(0.5, rate), rate)) / 32768
        assert abs(len(out) - 4000) <= 1
        np.testing.assert_allclose(out[400:3600], tone(0.5)[400:3600], atol=0.01)
    both = np.stack([tone(0.5), np.zeros(4000, np.float32)], axis=1)
    np.testing.assert_allclose(audio.encode(blob(both)) / 32768, tone(0.5) / 2, atol=1e-3)


def test_arrays(audio: Audio) -> None:
    signal = tone(0.5)
    expected = audio.encode(blob(signal)).astype(int)
    wide = np.stack([signal, signal], axis=1)
    for same in (
        signal,
        signal.astype(np.float64),
        (signal * 32768).astype(np.int16),
        list(map(float, signal)),
        wide,
        wide.T,
    ):
        np.testing.assert_allclose(audio.encode(same).astype(int), expected, atol=2)
    for bad in (np.zeros(0), np.zeros((2, 2, 2)), ["a"], np.array([np.nan])):
        with pytest.raises(CellError):
            audio.encode(bad)


def test_what_is_learnt() -> None:
    cells = [blob(tone(0.3 + 0.01 * i, 8000)) for i in range(20)] + [blob(tone(9.0, 44100), 44100)]
    audio = fitted(cells)
    assert audio.state["rate"] == 8000
    assert 0.45 < audio.state["length"] / 8000 < 0.55
    assert fitted([blob(tone(0.1, 48000), 48000)]).state["rate"] == 16000
    assert fitted([blob(tone(30.0))]).state["length"] == 80_000
    assert len(audio.encode(blob(tone(5.0)))) == audio.state["length"]
    # Arrays are taken to be at the rate of the files beside them.
    assert fitted([blob(tone(0.5))] * 3 + [tone(0.5)] * 3).state["length"] == 4000


def test_loud_and_silent_and_tiny(audio: Audio) -> None:
    loud = audio.encode(blob(tone(0.5, loud=4.0), subtype="FLOAT"))
    assert 32000 < loud.max() <= 32767
    silent = audio.prepare(audio.collate([audio.encode(np.zeros(4000)), audio.encode(np.zeros(1))]))
    assert torch.isfinite(silent.data).all()
    assert silent.mask is not None
    assert silent.mask.sum(dim=1).tolist() == [49, 1]


def wav(data: bytes, claimed: int, rate: int = 8000) -> bytes:
    head = struct.pack("<HHIIHH", 1, 1, rate, rate * 2, 2, 16)
    return (
        b"RIFF"
        + struct.pack("<I", min(36 + claimed, 0xFFFFFFFF))
        + b"WAVEfmt "
        + struct.pack("<I", 16)
        + head
        + b"data"
        + struct.pack("<I", claimed)
        + data
    )


def not_finite() -> bytes:
    signal = tone(0.5)
    signal[100] = np.nan
    return blob(signal, subtype="FLOAT").data


HOSTILE = {
    "empty": b"",
    "zeros": bytes(5000),
    "text": b"hello world" * 20,
    "cut wav": blob(tone(1.0)).data[:-3000],
    "header only": blob(tone(1.0)).data[:44],
    "no samples": blob(np.zeros(0, np.float32)).data,
    "lying header": wav(bytes(2000), 2_000_000_000),
    "cut flac": blob(tone(1.0), form="FLAC").data[:3000],
    "not finite": not_finite(),
    "absurd rate": wav(bytes(2000), 2000, rate=2_000_000_000),
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_hostile_files_are_cell_errors(audio: Audio, kind: str) -> None:
    start = time.perf_counter()
    with pytest.raises(CellError, match=r"sounds/x\.wav"):
        audio.encode(Blob(HOSTILE[kind], "sounds/x.wav"))
    assert time.perf_counter() - start < 1


def test_flipped_bytes_are_cell_errors_or_sound(audio: Audio) -> None:
    rng = np.random.default_rng(0)
    for form in ("WAV", "FLAC", "OGG", "MP3"):
        data = blob(tone(0.3), form=form).data
        for _ in range(40):
            broken = bytearray(data)
            for at in rng.integers(0, min(len(data), 200), 4):
                broken[at] = rng.integers(0, 256)
            with suppress(CellError):
                assert 0 < len(audio.encode(Blob(bytes(broken), "x"))) <= audio.state["length"]


def test_a_stream_of_unknown_length_is_read(audio: Audio) -> None:
    samples = (tone(0.5) * 32767).astype("<i2").tobytes()
    assert len(audio.encode(Blob(wav(samples, 0xFFFFFFFF), "pipe.wav"))) == 4000


@pytest.mark.parametrize("features", ["logmel", "waveform"])
def test_padding_changes_nothing_and_is_zero(features: Any) -> None:
    audio = fitted([blob(tone(0.5 + 0.05 * i)) for i in range(10)], features=features, mels=32)
    short, long = audio.encode(blob(tone(0.21))), audio.encode(blob(tone(0.9)))
    alone = audio.prepare(audio.collate([short]))
    both = audio.prepare(audio.collate([short, None, long]))
    layout = audio.layout
    assert isinstance(layout, Grid)
    assert alone.mask is not None
    assert both.mask is not None
    assert both.data.dtype == torch.float32
    assert both.data.shape[:2] == (3, 1)
    assert both.data.shape[2] <= layout.size[0]
    assert both.data.shape[3:] == layout.size[1:]
    count = int(alone.mask.sum())
    assert both.mask.sum(dim=1).tolist()[:2] == [count, 0]
    torch.testing.assert_close(both.data[0, :, :count], alone.data[0], rtol=1e-4, atol=1e-4)
    assert (both.data.transpose(1, 2)[~both.mask] == 0).all()


def test_features_are_standardised() -> None:
    rng = np.random.default_rng(0)
    cells = [blob((rng.normal(size=4000) * 0.1).clip(-1, 1).astype(np.float32)) for _ in range(20)]
    for features in ("logmel", "waveform"):
        audio = fitted(cells, features=features)
        data = audio.prepare(audio.collate([audio.encode(cell) for cell in cells])).data
        assert abs(float(data.mean())) < 0.02
        assert abs(float(data.std()) - 1) < 0.02


@pytest.mark.parametrize("features", ["logmel", "waveform"])
@pytest.mark.parametrize("augment", ["light", "strong"])
def test_augmentation(features: Any, augment: Any) -> None:
    cells = [blob(tone(0.3 + 0.1 * i, hz=300 + 200 * i)) for i in range(5)]
    audio = fitted(cells, features=features, augment=augment)
    field = audio.collate([audio.encode(cell) for cell in cells] * 4 + [None])
    plain = audio.prepare(field)
    before = torch.random.get_rng_state()
    one, same, other = (audio.prepare(field, torch.Generator().manual_seed(seed)) for seed in (1, 1, 2))
    assert torch.equal(torch.random.get_rng_state(), before)
    assert torch.equal(one.data, same.data)
    assert not torch.equal(one.data, other.data)
    assert not torch.equal(one.data[0], one.data[5])
    assert one.mask is not None
    assert plain.mask is not None
    assert torch.equal(one.mask, plain.mask)
    assert (one.data.transpose(1, 2)[~one.mask] == 0).all()
    none = fitted(cells, features=features, augment="none")
    assert torch.equal(none.prepare(field, torch.Generator()).data, plain.data)


def test_options() -> None:
    cells = [blob(tone(0.5))] * 3
    base = fitted(cells)
    assert base.layout == Grid(1, (49, 40))
    assert fitted(cells, mels=20).layout == Grid(1, (49, 20))
    assert fitted(cells, window_ms=50.0, hop_ms=50.0).layout == Grid(1, (10, 40))
    assert fitted(cells, seconds=0.25).layout == Grid(1, (24, 40))
    assert fitted(cells, rate=4000, features="waveform").layout == Grid(1, (2000,))
    # What prepare does is no reason to decode again.
    for same in (fitted(cells, mels=20), fitted(cells, augment="none"), fitted(cells, features="waveform")):
        assert same.store_options == base.store_options
    assert fitted(cells, rate=4000).store_options != base.store_options
    for bad in ({"rate": 0}, {"seconds": 0.0}, {"hop_ms": 30.0}, {"mels": 0}):
        with pytest.raises(ConfigError):
            Audio(**bad)  # type: ignore[arg-type]


def test_sniffing() -> None:
    assert Audio.sniff(["a.wav", "b.MP3"], "x").score > 0.9
    assert Audio.sniff(["a.png"], "x").score == 0
    assert Audio.sniff([blob(tone(0.1)).data, blob(tone(0.1), form="FLAC").data], "x").score > 0.9
    assert Audio.sniff([b"RIFF    WEBP"], "x").score == 0
    assert Audio.sniff([], "x").score == 0


def test_no_recording_at_all() -> None:
    audio = fitted([])
    assert audio.prepare(audio.collate([audio.encode(tone(0.5, 16000)), None])).data.shape[0] == 2
