"""Decision fusion: combine several predictions by mean or vote.

``share`` ``[B, S]`` holds the weights of the S predictions, which sum to 1 in every row. Source: the sum, majority and
median rules of Kittler et al., On Combining Classifiers, https://doi.org/10.1109/34.667881, § 2.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

TIE = 1e-3
"""Weight of the mean in a vote: breaks ties and keeps probabilities above 0, but never overrules a majority."""
ROUNDING = 1e-5


def merged_classes(logits: Tensor, share: Tensor, *, vote: bool = False) -> Tensor:
    """Combine class logits ``[B, S, K]`` into logits ``[B, K]``.

    Args:
        logits: The logits of S predictions.
        share: Their weights ``[B, S]``.
        vote: Whether to combine by majority vote instead of mean probability.
    """
    if not vote:
        return _mean(logits.log_softmax(dim=-1), share)
    chances = logits.softmax(dim=-1)
    votes = F.one_hot(chances.argmax(dim=-1), chances.shape[-1]).to(chances)
    return torch.einsum("bs,bsk->bk", share, (1 - TIE) * votes + TIE * chances).log()


def merged_labels(logits: Tensor, share: Tensor, *, vote: bool = False, threshold: float = 0.5) -> Tensor:
    """Combine label logits ``[B, S, K]`` into logits ``[B, K]``.

    Args:
        logits: The logits of S predictions.
        share: Their weights ``[B, S]``.
        vote: Whether to combine by vote instead of mean probability.
        threshold: Probability from which a label gets a vote.
    """
    if not vote:
        return _mean(F.logsigmoid(logits), share) - _mean(F.logsigmoid(-logits), share)
    chances = logits.sigmoid()
    votes = (chances >= threshold).to(chances)
    return torch.einsum("bs,bsk->bk", share, (1 - TIE) * votes + TIE * chances).logit(eps=1e-6)


def merged_numbers(values: Tensor, share: Tensor, *, vote: bool = False) -> Tensor:
    """Combine numbers ``[B, S, K]`` into ``[B, K]``.

    Args:
        values: The values of S predictions.
        share: Their weights ``[B, S]``.
        vote: Whether to take the weighted median, which is robust to outliers, instead of the mean.
    """
    if not vote:
        return torch.einsum("bs,bsk->bk", share, values)
    ordered, index = values.sort(dim=1)
    below = share.unsqueeze(-1).expand_as(values).gather(1, index).cumsum(dim=1)
    # The first values at which the cumulative weight reaches and exceeds one half; they differ only at exactly one half.
    reached = (below >= 0.5 - ROUNDING).to(torch.int8).argmax(dim=1, keepdim=True)
    passed = (below > 0.5 + ROUNDING).to(torch.int8).argmax(dim=1, keepdim=True)
    return 0.5 * (ordered.gather(1, reached) + ordered.gather(1, passed)).squeeze(1)


def _mean(logarithms: Tensor, share: Tensor) -> Tensor:
    """The logarithm of the weighted mean, in log space so that tiny probabilities keep their gradients."""
    # Weights of 0 are clamped, since their logarithm has no finite gradient.
    weight = share.clamp(min=torch.finfo(share.dtype).tiny).log()
    return (logarithms + weight.unsqueeze(-1)).logsumexp(dim=1)
