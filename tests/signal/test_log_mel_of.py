"""The log-mel spectrogram without torch is the one with it."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from sensorium.signal.mel import log_mel, log_mel_of


@pytest.mark.parametrize("length", [1, 50, 199, 200, 201, 1000, 8000])
@pytest.mark.parametrize(
    ("rate", "window", "hop", "mels"), [(8000, 200, 80, 40), (16000, 400, 160, 64), (8000, 40, 40, 64)]
)
def test_both_agree(length: int, rate: int, window: int, hop: int, mels: int) -> None:
    signal = np.random.default_rng(length).uniform(-1, 1, length).astype(np.float32)
    batched = log_mel(torch.from_numpy(signal)[None], rate, window, hop, mels)[0].numpy()
    alone = log_mel_of(signal, rate, window, hop, mels)
    assert alone.shape == batched.shape
    np.testing.assert_allclose(alone, batched, atol=1e-4)
    assert log_mel_of(signal[:0], rate, window, hop, mels).shape == (0, mels)
