"""Several answers to one question made one: the mean of what is said, or a vote.

``share`` ``[B, S]`` is how much each of S answers counts; it sums to 1 in every row. Source of the rules: sum, majority and
median of Kittler et al., On Combining Classifiers, https://doi.org/10.1109/34.667881, § 2.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

TIE = 1e-3
"""How much the mean says in a vote: enough to part equal votes and to keep every chance above 0, too little to win one."""
ROUNDING = 1e-5


def merged_classes(logits: Tensor, share: Tensor, *, vote: bool = False) -> Tensor:
    """Logits ``[B, K]`` of the mean, weighted by ``share`` ``[B, S]``, of the class probabilities of ``logits`` ``[B, S,
    K]``; with ``vote``, of their votes."""
    if not vote:
        return _mean(logits.log_softmax(dim=-1), share)
    chances = logits.softmax(dim=-1)
    votes = F.one_hot(chances.argmax(dim=-1), chances.shape[-1]).to(chances)
    return torch.einsum("bs,bsk->bk", share, (1 - TIE) * votes + TIE * chances).log()


def merged_labels(logits: Tensor, share: Tensor, *, vote: bool = False, threshold: float = 0.5) -> Tensor:
    """Logits ``[B, K]`` of the mean, weighted by ``share`` ``[B, S]``, of the label probabilities of ``logits`` ``[B, S,
    K]``; with ``vote``, of those above ``threshold``."""
    if not vote:
        return _mean(F.logsigmoid(logits), share) - _mean(F.logsigmoid(-logits), share)
    chances = logits.sigmoid()
    votes = (chances >= threshold).to(chances)
    return torch.einsum("bs,bsk->bk", share, (1 - TIE) * votes + TIE * chances).logit(eps=1e-6)


def merged_numbers(values: Tensor, share: Tensor, *, vote: bool = False) -> Tensor:
    """The mean ``[B, K]`` of ``values`` ``[B, S, K]`` weighted by ``share`` ``[B, S]``; with ``vote``, the median, which
    is robust to one outlier."""
    if not vote:
        return torch.einsum("bs,bsk->bk", share, values)
    ordered, index = values.sort(dim=1)
    below = share.unsqueeze(-1).expand_as(values).gather(1, index).cumsum(dim=1)
    # The first answer at which half is reached and the first at which it is passed: two only where the half falls between.
    reached = (below >= 0.5 - ROUNDING).to(torch.int8).argmax(dim=1, keepdim=True)
    passed = (below > 0.5 + ROUNDING).to(torch.int8).argmax(dim=1, keepdim=True)
    return 0.5 * (ordered.gather(1, reached) + ordered.gather(1, passed)).squeeze(1)


def _mean(logarithms: Tensor, share: Tensor) -> Tensor:
    """The logarithm of the mean, in logarithms throughout, so that a chance of nearly nothing keeps its gradient."""
    # A share of 0 is held at a tiny one: its logarithm has no finite gradient.
    weight = share.clamp(min=torch.finfo(share.dtype).tiny).log()
    return (logarithms + weight.unsqueeze(-1)).logsumexp(dim=1)
