"""Noise reduction, silence, mixing, speed and pitch: against librosa, and by what they promise."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest
import torch

from sensorium.core.errors import ConfigError
from sensorium.signal.audio_perturbation import faster, mix, pitch, resample, speed, stretch, vocode
from sensorium.signal.denoise import denoise
from sensorium.signal.voice_activity import loud, stretches, trim, voiced

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import librosa

RATE = 8000


def bursts(seed: int = 0, seconds: float = 2.0) -> torch.Tensor:
    """A tone from 0.5 to 1.0 s and another from 1.25 to 1.5 s."""
    time = torch.arange(round(seconds * RATE)) / RATE
    on = ((time >= 0.5) & (time < 1.0)) | ((time >= 1.25) & (time < 1.5))
    return 0.3 * torch.sin(2 * torch.pi * (500 + 100 * seed) * time) * on


def noise(seed: int, count: int) -> torch.Tensor:
    return torch.randn(count, generator=torch.Generator().manual_seed(seed))


def snr(clean: torch.Tensor, inputs: torch.Tensor) -> float:
    return float(10 * (clean.square().sum() / (inputs - clean).square().sum()).log10())


@pytest.mark.parametrize("level", [20.0, 0.0, -5.0])
def test_noise_is_mixed_at_the_asked_ratio(level: float) -> None:
    clean = torch.stack([bursts(), bursts(1)])
    hiss = torch.stack([noise(0, 16000), 3 * noise(1, 16000)])
    lengths = torch.tensor([16000, 11000])
    mixed = mix(clean, hiss, level, lengths)
    assert snr(clean[0], mixed[0]) == pytest.approx(level, abs=1e-3)
    assert snr(clean[1, :11000], mixed[1, :11000]) == pytest.approx(level, abs=1e-3)
    assert not mixed[1, 11000:].any()
    assert torch.equal(mix(clean, torch.zeros_like(clean), 5.0), clean)
    assert not mix(torch.zeros(1, 100), noise(0, 100)[None], 5.0).any()


@pytest.mark.parametrize("method", ["wiener", "gate"])
@pytest.mark.parametrize("level", [10.0, 0.0])
def test_noise_reduction_reduces_noise(method: Any, level: float) -> None:
    clean = torch.stack([bursts(), bursts(3)])
    noisy = mix(clean, torch.stack([noise(5, 16000), noise(6, 16000)]), level)
    for row in range(2):
        better = snr(clean[row], denoise(noisy, RATE, method=method)[row])
        assert better > snr(clean[row], noisy[row]) + 4
    more = denoise(noisy, RATE, method=method, strength=2.0)
    assert more.square().sum() < denoise(noisy, RATE, method=method).square().sum()


@pytest.mark.parametrize("method", ["wiener", "gate"])
def test_noise_reduction_sees_no_padding_and_bears_silence(method: Any) -> None:
    rows = torch.zeros(4, 16000)
    rows[0] = bursts() + 0.05 * noise(0, 16000)
    rows[1] = 0.1 * noise(1, 16000)  # its end is no silence
    rows[2, :30] = 0.1
    lengths = torch.tensor([16000, 9001, 30, 0])
    out = denoise(rows, RATE, lengths, method=method)
    assert out.isfinite().all()
    torch.testing.assert_close(out[1:2, :9001], denoise(rows[1:2, :9001], RATE, method=method), rtol=1e-3, atol=1e-5)
    assert not out[1, 9001:].any()
    assert not out[3].any()
    # Digital silence before and after is no measure of the noise in between.
    quiet = torch.cat([torch.zeros(1, 8000), rows[:1], torch.zeros(1, 8000)], dim=1)
    inner = denoise(quiet, RATE, method=method)[0, 8000:24000]
    assert snr(bursts(), inner) > snr(bursts(), rows[0]) + 3


@pytest.mark.parametrize("below_db", [60.0, 30.0, 10.0])
def test_loud_stretches_and_trimming_are_librosas(below_db: float) -> None:
    rows = torch.stack([bursts() + 1e-3 * noise(0, 16000), bursts(2) + 1e-2 * noise(1, 16000)])
    lengths = torch.tensor([16000, 11000])
    active = loud(rows, lengths, window=512, hop=128, below_db=below_db)
    cut, cut_lengths, start = trim(rows, active, 128, lengths)
    result = stretches(active, 128)
    for row, length in enumerate(lengths.tolist()):
        alone = rows[row, :length].numpy()
        expected, (first, last) = librosa.effects.trim(alone, top_db=below_db, frame_length=512, hop_length=128)
        assert (int(start[row]), int(start[row] + cut_lengths[row])) == (first, last)
        np.testing.assert_array_equal(cut[row, : len(expected)], expected)
        assert not cut[row, len(expected) :].any()
        parts = librosa.effects.split(alone, top_db=below_db, frame_length=512, hop_length=128)
        assert [(a, min(b, length)) for a, b in result[row]] == [tuple(map(int, part)) for part in parts]


def test_the_likelihood_ratio_finds_what_energy_does_not() -> None:
    """A tone below the level of the noise: timestamps within 0.1 s, and nothing found in noise alone."""
    clean = bursts()
    hiss = 0.3 * noise(3, 16000)
    rows = torch.stack([clean + hiss, hiss])
    assert clean[4000:8000].square().mean() < 0.6 * hiss.square().mean()
    results = [[(a / RATE, b / RATE) for a, b in row] for row in stretches(voiced(rows), 128)]
    assert [len(row) for row in results] == [2, 0]
    for (start, end), (begun, over) in zip(results[0], [(0.5, 1.0), (1.25, 1.5)], strict=True):
        assert abs(start - begun) < 0.1
        assert abs(end - over) < 0.1


def test_silence_is_silent_and_padding_is_not_seen() -> None:
    rows = torch.zeros(3, 8000)
    rows[1, :4000] = bursts()[2000:6000] + 0.01 * noise(0, 4000)
    rows[1, 4000:] = 1.0
    lengths = torch.tensor([8000, 4000, 0])
    for detect in (loud, voiced):
        active = detect(rows, lengths)
        alone = detect(rows[1:2, :4000])
        assert not active[[0, 2]].any()
        assert torch.equal(active[1:2, : alone.shape[1]], alone)
        assert not active[1, alone.shape[1] :].any()
    cut, length, _ = trim(rows, loud(rows, lengths), 512, lengths)
    assert length.tolist()[::2] == [0, 0]
    assert cut.isfinite().all()


def peak(signal: torch.Tensor, rate: int = RATE) -> float:
    spectrum = torch.fft.rfft(signal * torch.hann_window(len(signal))).abs()
    return float(spectrum.argmax()) * rate / len(signal)


def test_the_vocoder_is_librosas() -> None:
    spectrum = librosa.stft(bursts().numpy() + 0.01 * noise(0, 16000).numpy(), n_fft=512, hop_length=128)
    for factor in (0.5, 0.9, 1.7):
        ours = vocode(torch.from_numpy(spectrum.T.copy())[None], factor, 128, 512)[0].T
        theirs = librosa.phase_vocoder(spectrum, rate=factor, hop_length=128)
        np.testing.assert_allclose(ours.abs(), np.abs(theirs), rtol=1e-3, atol=1e-4)
        np.testing.assert_allclose(ours, theirs, atol=2e-2 * np.abs(theirs).max())


def test_stretching_keeps_pitch_and_pitching_keeps_length() -> None:
    tone = torch.sin(2 * torch.pi * 500 * torch.arange(16000) / RATE)[None]
    for factor in (0.8, 1.25):
        longer = stretch(tone, factor)
        assert longer.shape == (1, round(16000 / factor))
        assert peak(longer[0]) == pytest.approx(500, rel=0.01)
        quick = torch.from_numpy(speed(tone[0].numpy(), factor))
        assert abs(len(quick) - 16000 / factor) <= 1
        assert peak(quick) == pytest.approx(500 * factor, rel=0.01)
    for semitones in (-5.0, 7.0):
        higher = pitch(tone, semitones)
        assert higher.shape == tone.shape
        assert peak(higher[0]) == pytest.approx(500 * 2 ** (semitones / 12), rel=0.01)
    assert len(resample(tone[0].numpy(), RATE, 16000)) == 32000
    with pytest.raises(ConfigError):
        resample(tone[0].numpy(), 0, 16000)
    with pytest.raises(ConfigError):
        stretch(tone, 0.0)


def test_a_batch_plays_each_row_at_its_own_speed() -> None:
    tone = torch.sin(2 * torch.pi * 500 * torch.arange(8000) / RATE).repeat(4, 1)
    lengths = torch.tensor([8000, 8000, 4000, 0])
    out, length = faster(tone, torch.tensor([1.0, 1.25, 0.8, 1.1]), lengths)
    assert length.tolist() == [8000, 6400, 5000, 0]
    assert torch.equal(out[0], tone[0])
    assert peak(out[1, :6400]) == pytest.approx(625, rel=0.01)
    assert peak(out[2, :5000]) == pytest.approx(400, rel=0.01)
    assert not out[1, 6400:].any()
    assert not out[3].any()
