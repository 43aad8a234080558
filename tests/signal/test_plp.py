"""Perceptual linear prediction, step by step against the printed formulas in float64, scipy and spafe."""

from __future__ import annotations

import math
import warnings

import numpy as np
import pytest
import scipy.linalg
import scipy.signal
import torch

from sensorium.core.errors import ConfigError
from sensorium.signal.bark import band_centers, bark_to_hz, critical_bands, equal_loudness, hz_to_bark, masking
from sensorium.signal.lpc import levinson, to_cepstrum
from sensorium.signal.plp import autocorrelation, loudness, plp
from sensorium.signal.rasta import rasta
from sensorium.signal.stft import Framing

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from spafe.fbanks.bark_fbanks import Fm
    from spafe.features import lpc as spafe_lpc
    from spafe.utils.converters import hz2bark

FRAMING = Framing(200, 80, 256, shape="hamming")


def printed_bark(hz: float) -> float:
    x = 2 * math.pi * hz / (1200 * math.pi)
    return 6 * math.log(x + math.sqrt(x * x + 1))


def printed_curve(z: float) -> float:
    if z < -1.3 or z > 2.5:
        return 0.0
    return 10 ** (2.5 * (z + 0.5)) if z <= -0.5 else 1.0 if z < 0.5 else 10 ** (-1.0 * (z - 0.5))


def printed_loudness(hz: float, rate: int) -> float:
    w = 2 * math.pi * hz
    loud = (w**2 + 56.8e6) * w**4 / ((w**2 + 6.3e6) ** 2 * (w**2 + 0.38e9))
    return loud if rate <= 10000 else loud * 9.58e26 / (w**6 + 9.58e26)


def printed_rasta(log: np.ndarray, pole: float) -> np.ndarray:
    """Frames ``[..., frames, bands]`` through the filter, at rest before the first, which stood still until then."""
    wide = np.concatenate([np.repeat(log[..., :1, :], 4, axis=-2), log], axis=-2)
    change = scipy.signal.lfilter([0.2, 0.1, 0, -0.1, -0.2], [1], wide, axis=-2)[..., 4:, :]
    return scipy.signal.lfilter([1], [1, -pole], change, axis=-2)


def printed_plp(signal: np.ndarray, rate: int, framing: Framing, count: int, pole: float | None) -> np.ndarray:
    """The method of the paper, a frame and a band at a time, with nothing of ours: ``[frames, count]``."""
    taper = scipy.signal.get_window("hamming", framing.window)
    starts = range(0, len(signal) - framing.window + 1, framing.hop)
    power = [np.abs(np.fft.rfft(signal[s : s + framing.window] * taper, framing.size)) ** 2 for s in starts]
    top = printed_bark(rate / 2)
    centers = np.linspace(0, top, math.ceil(top) + 1)
    barks = [printed_bark(k * rate / framing.size) for k in range(framing.size // 2 + 1)]
    bands = np.array(
        [[sum(p * printed_curve(b - c) for p, b in zip(row, barks, strict=True)) for c in centers] for row in power]
    )
    if pole is not None:
        bands = np.exp(printed_rasta(np.log(bands), pole))
    out = []
    for row in bands:
        heard = np.array([e * printed_loudness(600 * math.sinh(c / 6), rate) for e, c in zip(row, centers, strict=True)])
        heard[0], heard[-1] = heard[1], heard[-2]
        r = np.fft.irfft(heard**0.33)
        a = np.concatenate([[1.0], scipy.linalg.solve_toeplitz(r[: count - 1], -r[1:count])])
        error = a @ r[:count]
        spectrum = error / np.abs(np.fft.rfft(a, 4096)) ** 2
        out.append(np.fft.irfft(np.log(spectrum))[:count])  # the cepstrum by its definition, not by recursion
    return np.array(out)


def speechlike(rate: int, seconds: float = 0.3, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    time = np.arange(round(rate * seconds)) / rate
    voice = sum(np.sin(2 * np.pi * 120 * k * time * (1 + 0.1 * time)) / k for k in range(1, 20))
    return 0.1 * voice * (1 + np.sin(2 * np.pi * 4 * time)) + rng.normal(0, 0.005, len(time))


@pytest.mark.parametrize("rate", [8000, 10000, 16000])
def test_scale_bands_and_loudness_are_the_printed_ones(rate: int) -> None:
    hz = np.linspace(0, rate / 2, 129)
    np.testing.assert_allclose(hz_to_bark(hz), [printed_bark(f) for f in hz], rtol=1e-12)
    np.testing.assert_allclose(bark_to_hz(hz_to_bark(hz)), hz, rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(equal_loudness(hz, rate), [printed_loudness(f, rate) for f in hz], rtol=1e-12)
    distance = np.linspace(-3, 3, 601)
    np.testing.assert_allclose(masking(distance), [printed_curve(z) for z in distance], rtol=1e-12)
    centers = [printed_bark(f) for f in band_centers(rate)]
    expected = [[printed_curve(printed_bark(k * rate / 256) - c) for k in range(129)] for c in centers]
    np.testing.assert_allclose(critical_bands(rate, 256), expected, rtol=1e-9, atol=1e-12)


def test_ten_kilohertz_have_the_bands_of_the_paper() -> None:
    """Section II B: 18 samples cover 0 to 16.9 Bark (0 to 5 kHz) in steps of 0.994 Bark."""
    barks = hz_to_bark(band_centers(10000))
    assert len(barks) == 18
    assert barks[-1] == pytest.approx(16.9, abs=0.05)
    np.testing.assert_allclose(np.diff(barks), 0.994, atol=1e-3)


def test_scale_curve_and_prediction_are_spafes() -> None:
    for hz in (0.0, 100.0, 1000.0, 4000.0):
        assert float(hz_to_bark(np.asarray(hz))) == pytest.approx(hz2bark(hz, "Wang"))
        for center in (200.0, 1100.0):
            gap = float(hz_to_bark(np.asarray(hz))) - hz2bark(center, "Wang")
            assert float(masking(np.asarray(gap))) == pytest.approx(Fm(hz2bark(hz, "Wang"), hz2bark(center, "Wang")))
    signal = speechlike(8000)
    predictor, _ = levinson(full_autocorrelation(signal), 12)
    theirs, _ = spafe_lpc.__lpc_helper(signal, 12)
    np.testing.assert_allclose(predictor, theirs, rtol=1e-6, atol=1e-8)


def full_autocorrelation(signal: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(np.correlate(signal, signal, "full")[len(signal) - 1 :].copy())


def test_prediction_solves_the_normal_equations() -> None:
    r = torch.stack([full_autocorrelation(speechlike(8000, seed=seed))[:13] for seed in range(3)])
    predictor, error = levinson(r, 12)
    for row in range(3):
        expected = scipy.linalg.solve_toeplitz(r[row, :12].numpy(), -r[row, 1:].numpy())
        np.testing.assert_allclose(predictor[row, 1:], expected, rtol=1e-6, atol=1e-8)
        assert float(error[row]) == pytest.approx(float(predictor[row] @ r[row]))
    nothing, left = levinson(torch.zeros(2, 5), 4)
    assert nothing.tolist() == [[1, 0, 0, 0, 0]] * 2
    assert not left.any()


def test_the_cepstrum_is_that_of_the_models_spectrum() -> None:
    predictor, error = levinson(full_autocorrelation(speechlike(8000))[:9], 8)
    spectrum = float(error) / np.abs(np.fft.rfft(predictor.numpy(), 2**16)) ** 2
    expected = np.fft.irfft(np.log(spectrum))[:20]
    np.testing.assert_allclose(to_cepstrum(predictor, error, 20), expected, rtol=1e-5, atol=1e-6)


def test_autocorrelation_is_the_inverse_transform() -> None:
    spectrum = torch.rand(3, 18, dtype=torch.float64)
    np.testing.assert_allclose(autocorrelation(spectrum, 12), np.fft.irfft(spectrum.numpy())[:, :12], rtol=1e-9, atol=1e-12)


def test_loudness_ends_in_two_equal_values() -> None:
    heard = loudness(torch.rand(2, 18, dtype=torch.float64), 10000)
    assert torch.equal(heard[:, 0], heard[:, 1])
    assert torch.equal(heard[:, -1], heard[:, -2])


@pytest.mark.parametrize("pole", [0.98, 0.94])
@pytest.mark.parametrize("count", [1, 3, 50, 400])
def test_rasta_is_scipys_filter(count: int, pole: float) -> None:
    bands = torch.randn(2, count, 3, dtype=torch.float64)
    np.testing.assert_allclose(rasta(bands, pole), printed_rasta(bands.numpy(), pole), rtol=1e-9, atol=1e-10)
    assert not rasta(torch.ones(1, count, 2), pole).abs().gt(1e-6).any()


@pytest.mark.parametrize("rate", [8000, 16000])
@pytest.mark.parametrize("pole", [None, 0.94])
def test_the_whole_is_the_papers(rate: int, pole: float | None) -> None:
    signal = speechlike(rate)
    expected = printed_plp(signal, rate, FRAMING, 13, pole)
    for kind, tolerance in ((torch.float64, 1e-6), (torch.float32, 1e-3)):
        inputs = torch.from_numpy(signal).to(kind)[None]
        ours = plp(inputs, rate, FRAMING, rasta=pole is not None, pole=pole or 0.98, floor=0.0).data[0]
        assert ours.dtype == kind
        np.testing.assert_allclose(ours[: len(expected)], expected, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("filtered", [True, False])
def test_padding_changes_nothing_and_silence_is_finite(filtered: bool) -> None:
    rows = torch.zeros(4, 2400)
    lengths = torch.tensor([2400, 1000, 1, 0])
    rows[0] = torch.from_numpy(speechlike(8000))
    rows[1] = torch.randn(2400)  # past 1000 it must not be heard
    out, mask = plp(rows, 8000, FRAMING, lengths, rasta=filtered)
    assert out.isfinite().all()
    assert not out[~mask].any()
    assert mask.sum(dim=1).tolist() == [29, 11, 1, 0]
    alone = plp(rows[1:2, :1000], 8000, FRAMING, rasta=filtered).data
    torch.testing.assert_close(out[1:2, :11], alone, rtol=1e-3, atol=1e-3)
    assert plp(torch.zeros(1, 800), 8000, FRAMING, rasta=filtered).data.isfinite().all()


def test_gradients_flow() -> None:
    signal = torch.from_numpy(speechlike(8000))[None].requires_grad_()
    plp(signal, 8000, FRAMING).data.square().sum().backward()
    assert signal.grad is not None
    assert signal.grad.isfinite().all()
    assert signal.grad.any()


def test_too_many_poles_are_refused() -> None:
    with pytest.raises(ConfigError, match="critical bands"):
        plp(torch.zeros(1, 800), 8000, FRAMING, count=30)
