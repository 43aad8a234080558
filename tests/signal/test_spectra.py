"""Spectrograms and mel filters against librosa; independence of padding."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch

from sensorium.signal.mel import fft_size, filterbank, hz_to_mel, log_mel, mel_to_hz
from sensorium.signal.stft import frames, spectrogram

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import librosa


@pytest.fixture
def signal() -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(0).normal(size=(3, 4000)).astype(np.float32)) * 0.1


@pytest.mark.parametrize("scale", ["slaney", "htk"])
@pytest.mark.parametrize(("rate", "fft", "mels"), [(8000, 256, 40), (16000, 512, 64), (22050, 2048, 128)])
def test_filters_are_librosas(rate: int, fft: int, mels: int, scale: str) -> None:
    for area in (True, False):
        ours = filterbank(rate, fft, mels, scale, low=20.0, area=area)  # type: ignore[arg-type]
        theirs = librosa.filters.mel(
            sr=rate,
            n_fft=fft,
            n_mels=mels,
            fmin=20.0,
            htk=scale == "htk",
            norm="slaney" if area else None,
            dtype=np.float64,
        )
        np.testing.assert_allclose(ours, theirs, rtol=1e-6, atol=1e-12)


@pytest.mark.parametrize("scale", ["slaney", "htk"])
def test_mel_scale_and_back(scale: str) -> None:
    hz = np.array([0.0, 50.0, 999.0, 1000.0, 1001.0, 7999.0])
    np.testing.assert_allclose(mel_to_hz(hz_to_mel(hz, scale), scale), hz, rtol=1e-9, atol=1e-9)  # type: ignore[arg-type]
    np.testing.assert_allclose(hz_to_mel(hz, scale), librosa.hz_to_mel(hz, htk=scale == "htk"), rtol=1e-9)  # type: ignore[arg-type]


@pytest.mark.parametrize("power", [1.0, 2.0, 0.5])
def test_spectrogram_is_librosas(signal: torch.Tensor, power: float) -> None:
    ours = spectrogram(signal, 256, 80, power=power).numpy()
    for row in range(3):
        theirs = np.abs(librosa.stft(signal[row].numpy(), n_fft=256, hop_length=80, center=False)).T ** power
        np.testing.assert_allclose(ours[row, : len(theirs)], theirs, rtol=1e-4, atol=1e-4 * theirs.max())


def test_log_mel_is_librosas(signal: torch.Tensor) -> None:
    ours = log_mel(signal, 8000, 256, 80, 40).numpy()
    theirs = librosa.feature.melspectrogram(
        y=signal[0].numpy(), sr=8000, n_fft=256, hop_length=80, center=False, n_mels=40, power=2.0
    )
    np.testing.assert_allclose(ours[0, : theirs.shape[1]], np.log(theirs.T + 1e-6), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("length", [1, 79, 80, 199, 200, 201, 280, 281, 1000])
def test_padding_changes_no_real_frame(length: int) -> None:
    row = torch.randn(1, length, generator=torch.Generator().manual_seed(length))
    padded = torch.nn.functional.pad(row, (0, 777))
    count = frames(length, 200, 80)
    alone, longer = log_mel(row, 8000, 200, 80, 40), log_mel(padded, 8000, 200, 80, 40)
    assert alone.shape[1] == count == int(frames(torch.tensor([length]), 200, 80)[0])
    torch.testing.assert_close(longer[:, :count], alone, rtol=1e-5, atol=1e-5)
    # The last frame is needed: without it some samples would be seen by none.
    assert (count - 1) * 80 + 200 >= length > (count - 2) * 80 + 200 or count == 1


def test_no_samples_no_frames() -> None:
    assert frames(0, 200, 80) == 0
    assert frames(torch.tensor([0, 1]), 200, 80).tolist() == [0, 1]


def test_a_tone_is_in_its_band() -> None:
    time = torch.arange(8000) / 8000
    bank = filterbank(8000, fft_size(8000, 200, 40), 40)
    for hz in (300.0, 1000.0, 3000.0):
        band = int(log_mel(torch.sin(2 * torch.pi * hz * time)[None], 8000, 200, 80, 40)[0, 10].argmax())
        peak = bank[band].argmax() * 8000 / fft_size(8000, 200, 40)
        assert abs(peak - hz) < 0.08 * hz + 40


@pytest.mark.parametrize("mels", [40, 80, 128, 256])
def test_no_filter_falls_between_bins(mels: int) -> None:
    size = fft_size(8000, 200, mels)
    assert filterbank(8000, size, mels).any(axis=1).all()
