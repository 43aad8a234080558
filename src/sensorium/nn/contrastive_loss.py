"""Contrastive losses: a row finds what belongs to it among candidates."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

MAX_LOG_SCALE = math.log(100.0)
"""Upper bound of the logarithm of the learned scale, as in CLIP: beyond it a single pair decides the gradient."""
INITIAL_BIAS = -10.0
"""Initial bias of the sigmoid loss: at the start nearly all pairs are of different rows, and learning begins gently."""


def softmax_loss(logits: Tensor, positive: Tensor, counted: Tensor) -> Tensor:
    """The cross-entropy of finding a query's positives among its candidates ``[Q]``; 0 for a query without positives.

    With several positives it is the mean of their log probabilities, each competing with all candidates (SupCon,
    ``L_out``). Sources: Radford et al. 2021, https://arxiv.org/abs/2103.00020, § 2.3; several positives, Khosla et al.
    2020, https://arxiv.org/abs/2004.11362, equation 2.

    Args:
        logits: Scaled similarities ``[Q, C]``.
        positive: Which candidates belong to the query ``[Q, C]`` bool.
        counted: Which are candidates at all ``[Q, C]`` bool, positives among them.
    """
    positive = positive & counted
    # A finite floor: a query without any candidate must have a finite gradient.
    log_probability = logits.masked_fill(~counted, -1e4).log_softmax(dim=1)
    count = positive.sum(dim=1)
    total = log_probability.masked_fill(~positive, 0.0).sum(dim=1)
    return -total / count.clamp(min=1)


def sigmoid_loss(logits: Tensor, positive: Tensor, counted: Tensor) -> Tensor:
    """The binary cross-entropy of every pair of a query and a candidate, summed over its candidates ``[Q]``.

    Source: Zhai et al. 2023 (SigLIP), https://arxiv.org/abs/2303.15343, § 3.

    Args:
        logits: Scaled similarities plus the bias ``[Q, C]``.
        positive: Which candidates belong to the query ``[Q, C]`` bool.
        counted: Which are candidates at all ``[Q, C]`` bool.
    """
    sign = torch.where(positive, 1.0, -1.0)
    return -F.logsigmoid(sign * logits).masked_fill(~counted, 0.0).sum(dim=1)
