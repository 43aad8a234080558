"""Linear prediction: from autocorrelations to an all-pole model, and from the model to cepstra."""

from __future__ import annotations

import torch
from torch import Tensor


def levinson(autocorrelation: Tensor, order: int) -> tuple[Tensor, Tensor]:
    """Levinson-Durbin recursion: return the predictor ``[..., order + 1]`` (leading 1) and the residual power ``[...]``.

    Solves the normal equations of ``autocorrelation`` ``[..., order + 1 or more]`` for all signals at once. For a signal
    without energy the predictor is ``1, 0, 0 …`` and the power 0; ``order`` is the number of poles.
    Source: Durbin's recursion as in Makhoul 1975, https://doi.org/10.1109/PROC.1975.9792, equation 38.
    """
    error = autocorrelation[..., 0]
    predictor = torch.ones_like(autocorrelation[..., :1])
    for n in range(1, order + 1):
        ahead = (predictor * autocorrelation[..., 1 : n + 1].flip(-1)).sum(dim=-1)
        empty = error <= 0
        reflection = torch.where(empty, 0.0, -ahead / torch.where(empty, 1.0, error))
        wide = torch.nn.functional.pad(predictor, (0, 1))
        predictor = wide + reflection[..., None] * wide.flip(-1)
        error = error * (1 - reflection.square())
    return predictor, error


def to_cepstrum(predictor: Tensor, error: Tensor, count: int) -> Tensor:
    """Return the first ``count`` cepstral coefficients ``[..., count]`` of an all-pole model.

    The first is ``ln error``, the residual power; the others follow from ``predictor`` ``[..., order + 1]`` by recursion
    (Makhoul 1975, § III C).
    """
    order = predictor.shape[-1] - 1
    cepstrum = [error.log()]
    for n in range(1, count):
        value = -predictor[..., n] if n <= order else torch.zeros_like(error)
        for k in range(max(1, n - order), n):
            value = value - (k / n) * cepstrum[k] * predictor[..., n - k]
        cepstrum.append(value)
    return torch.stack(cepstrum, dim=-1)
