"""Transforms, mel spectrograms, cepstra and deltas against librosa, in batches of rows that differ in length."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest
import torch
from scipy import fft as scipy_fft

from sensorium.core.errors import ConfigError
from sensorium.signal.cepstrum import dct, decibels, mfcc
from sensorium.signal.delta import delta, with_deltas
from sensorium.signal.mel import mel
from sensorium.signal.stft import Framing, istft, stft

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import librosa

LENGTHS = (4000, 2500, 3001)
SETTINGS = [(16000, Framing(400, 160, 512, center=True)), (22050, Framing(2048, 512, center=True))]


@pytest.fixture
def batch() -> tuple[torch.Tensor, torch.Tensor]:
    """Chirps in noise; what stands past the end of a row is no silence, and must not be heard."""
    rng = np.random.default_rng(0)
    time = np.arange(4000) / 16000
    rows = [np.sin(2 * np.pi * (200 + 900 * i * time) * time) * 0.3 + rng.normal(0, 0.02, 4000) for i in range(3)]
    return torch.from_numpy(np.stack(rows).astype(np.float32)), torch.tensor(LENGTHS)


@pytest.mark.parametrize(("rate", "framing"), SETTINGS)
def test_stft_is_librosas(batch: Any, rate: int, framing: Framing) -> None:
    signal, lengths = batch
    ours, mask = stft(signal, framing, lengths)
    for row, length in enumerate(LENGTHS):
        alone = signal[row, :length].numpy()
        theirs = librosa.stft(alone, n_fft=framing.size, win_length=framing.window, hop_length=framing.hop).T
        assert int(mask[row].sum()) == len(theirs)
        np.testing.assert_allclose(ours[row, : len(theirs)], theirs, rtol=1e-4, atol=1e-4 * np.abs(theirs).max())
        assert not ours[row, len(theirs) :].any()


@pytest.mark.parametrize("scale", ["slaney", "htk"])
@pytest.mark.parametrize("area", [True, False])
@pytest.mark.parametrize(("rate", "framing"), SETTINGS)
def test_mel_and_mfcc_are_librosas(batch: Any, rate: int, framing: Framing, scale: Any, area: bool) -> None:
    signal, lengths = batch
    chosen = {"n_fft": framing.size, "win_length": framing.window, "hop_length": framing.hop, "fmin": 50.0, "n_mels": 40}
    bands, mask = mel(signal, rate, framing, lengths, mels=40, scale=scale, low=50.0, area=area)
    cepstra, same = mfcc(signal, rate, framing, lengths, count=13, mels=40, scale=scale, low=50.0, area=area, lifter=22)
    assert torch.equal(mask, same)
    for row, length in enumerate(LENGTHS):
        alone = signal[row, :length].numpy()
        htk, norm = scale == "htk", "slaney" if area else None
        theirs = librosa.feature.melspectrogram(y=alone, sr=rate, htk=htk, norm=norm, **chosen).T
        np.testing.assert_allclose(bands[row, : len(theirs)], theirs, rtol=1e-4)
        theirs = librosa.feature.mfcc(S=librosa.power_to_db(theirs.T), n_mfcc=13, lifter=22).T
        np.testing.assert_allclose(cepstra[row, : len(theirs)], theirs, rtol=1e-4, atol=1e-4 * np.abs(theirs).max())
        assert not cepstra[row, len(theirs) :].any()


def test_librosas_own_settings_are_ours_too(batch: Any) -> None:
    framing = Framing(2048, 512, center=True)
    ours = mfcc(batch[0], 22050, framing, count=20, mels=128).data
    for row in range(3):
        theirs = librosa.feature.mfcc(y=batch[0][row].numpy(), sr=22050).T
        np.testing.assert_allclose(ours[row], theirs, rtol=1e-4, atol=1e-4 * np.abs(theirs).max())


def test_the_cosine_transform_is_scipys() -> None:
    values = torch.randn(3, 5, 40, dtype=torch.float64)
    theirs = scipy_fft.dct(values.numpy(), axis=-1, type=2, norm="ortho")
    np.testing.assert_allclose(dct(values, 13), theirs[..., :13], rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(dct(values, 40), theirs, rtol=1e-10, atol=1e-12)
    with pytest.raises(ConfigError):
        dct(values, 41)


def test_decibels_are_librosas() -> None:
    energy = torch.rand(2, 6, 5, dtype=torch.float64) ** 20
    for range_db in (80.0, 20.0, None):
        ours = decibels(energy, range_db=range_db)
        for row in range(2):
            np.testing.assert_allclose(ours[row], librosa.power_to_db(energy[row].numpy(), top_db=range_db), rtol=1e-9)


@pytest.mark.parametrize("order", [1, 2])
@pytest.mark.parametrize("width", [3, 9])
def test_deltas_are_librosas(order: int, width: int) -> None:
    counts = (30, 9, 17)
    features = torch.randn(3, 30, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    mask = torch.arange(30) < torch.tensor(counts)[:, None]
    ours = delta(features, mask, order=order, width=width)
    for row, count in enumerate(counts):
        theirs = librosa.feature.delta(features[row, :count].numpy().T, order=order, width=width).T
        np.testing.assert_allclose(ours[row, :count], theirs, rtol=1e-9, atol=1e-9)
        assert not ours[row, count:].any()
    whole = with_deltas(features, mask, 2)
    assert whole.shape == (3, 3, 30, 4)
    torch.testing.assert_close(whole[:, 1], delta(features, mask))


def test_deltas_of_short_rows_are_finite_and_see_no_padding() -> None:
    features = torch.randn(2, 4, 3)
    mask = torch.tensor([[True, True, True, False], [False] * 4])
    ours = delta(features, mask)
    torch.testing.assert_close(ours[:1, :3], delta(features[:1, :3]))
    assert not ours[1].any()
    for bad in ({"width": 4}, {"order": 9}, {"width": 1}):
        with pytest.raises(ConfigError):
            delta(features, mask, **bad)


@pytest.mark.parametrize("center", [True, False])
@pytest.mark.parametrize(("window", "hop"), [(256, 64), (400, 160)])
def test_there_and_back(batch: Any, center: bool, window: int, hop: int) -> None:
    framing = Framing(window, hop, 512, center=center)
    back = istft(stft(batch[0], framing).data, framing, 4000)
    # Without centring the window is zero at the first sample: nothing is known of it.
    torch.testing.assert_close(back[:, 2:], batch[0][:, 2:], rtol=1e-3, atol=1e-4)


def test_long_signals_are_done_in_blocks_with_the_same_result() -> None:
    signal = torch.randn(2, 400_000)
    framing = Framing(400, 160, 512)
    whole = torch.fft.rfft(framing.cut(signal) * framing.taper(signal))
    torch.testing.assert_close(stft(signal, framing).data, whole)
    many = torch.randn(300, 1000)
    torch.testing.assert_close(stft(many, framing).data, torch.fft.rfft(framing.cut(many) * framing.taper(many)))


def test_gradients_flow(batch: Any) -> None:
    signal = batch[0][:, :1200].double().requires_grad_()
    lengths = torch.tensor([1200, 700, 1])
    with torch.inference_mode():  # what is cached here must serve a gradient later
        mfcc(torch.randn(1, 500, dtype=torch.float64), 8000, Framing(200, 80, 256), mels=24)
    mfcc(signal, 8000, Framing(200, 80, 256), lengths, mels=24).data.square().sum().backward()
    assert signal.grad is not None
    assert signal.grad.isfinite().all()
    assert not signal.grad[1, 700:].any()
    assert signal.grad[1, :700].any()


def test_bad_framing_is_refused() -> None:
    for bad in ((0, 1, None), (10, 0, None), (10, 5, 8)):
        with pytest.raises(ConfigError):
            Framing(*bad)
