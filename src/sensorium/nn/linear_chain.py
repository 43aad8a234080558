"""Sequences of labelled words as a chain: each word begins a span, continues one, or lies outside of all."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from sensorium.nn.viterbi import viterbi

NEVER = -1e4
"""Score of impossible states and transitions; it also marks steps that are not real."""


class LinearChain(nn.Module):
    """A linear-chain conditional random field over ``2 K`` states: inside a span of a label (or background, which is one
    state), and, from K on, at its beginning. A span keeps its label.

    Source: Lafferty et al. 2001, https://repository.upenn.edu/cis_papers/159; for names Lample et al. 2016,
    https://arxiv.org/abs/1603.01360.

    Args:
        labels: K.
        background: The label without spans; None: every label does.
    """

    def __init__(self, labels: int, background: int | None) -> None:
        super().__init__()
        self.labels = labels
        self.transitions = nn.Parameter(torch.zeros(2 * labels, 2 * labels))
        state = torch.arange(2 * labels)
        label = state % labels
        inside = (state < labels) & (label != (-1 if background is None else background))
        wrong = inside[None] & (label[:, None] != label[None])
        never = torch.zeros(2 * labels, dtype=torch.bool)
        if background is not None:
            never[labels + background] = True
        self.forbidden: Tensor
        self.unfit: Tensor
        self.register_buffer("forbidden", wrong | never[None], persistent=False)
        self.register_buffer("unfit", inside | never, persistent=False)  # states that cannot come first

    def hidden(self, scores: Tensor, real: Tensor) -> Tensor:
        """Return ``scores`` ``[B, T, 2 K]``, ``NEVER`` at the steps that are not ``real`` ``[B, T]``."""
        return scores.masked_fill(~real[..., None], NEVER)

    def allowed(self, weight: float = 1.0) -> Tensor:
        """Return the transitions ``[2 K, 2 K]`` times ``weight``, those that cannot be at ``NEVER``."""
        return (weight * self.transitions).masked_fill(self.forbidden, NEVER)

    def _begun(self, scores: Tensor) -> Tensor:
        """``scores`` ``[B, T, 2 K]`` in which the first step cannot be inside a span."""
        first = scores[:, :1].masked_fill(self.unfit, NEVER)
        return torch.cat([first, scores[:, 1:]], dim=1)

    def forward(self, scores: Tensor) -> Tensor:
        """Return the sums over all sequences up to each step, ``[B, T, 2 K]``, as logarithms.

        Args:
            scores: ``[B, T, 2 K]``, ``NEVER`` at steps that are not real, which come last.
        """
        scores, real, transitions = self._begun(scores.float()), real_steps(scores), self.allowed().float()
        reached = [scores[:, 0]]
        for t in range(1, scores.shape[1]):
            on = (reached[-1][:, :, None] + transitions).logsumexp(dim=1) + scores[:, t]
            reached.append(torch.where(real[:, t, None], on, reached[-1]))
        return torch.stack(reached, dim=1)

    def loss(self, scores: Tensor, codes: Tensor) -> Tensor:
        """Return the negative log-likelihood of ``codes`` ``[B, T]`` for each known step ``[B]``; negative codes are
        unknown, and summed over.

        Args:
            scores: As in ``forward``.
            codes: The state of each step.
        """
        known = codes >= 0
        state = torch.arange(scores.shape[2], device=codes.device)
        pinned = scores.float().masked_fill(known[..., None] & (codes[..., None] != state), NEVER)
        pinned_steps = known & real_steps(scores)
        total, true = (
            self(part)[:, -1].logsumexp(dim=1) for part in (scores, torch.where(pinned_steps[..., None], pinned, scores))
        )
        loss: Tensor = torch.where(pinned_steps.any(dim=1), total - true, 0.0) / pinned_steps.sum(dim=1).clamp(min=1)
        return loss

    def chances(self, scores: Tensor) -> Tensor:
        """Return the probability of each state at each step ``[B, T, 2 K]``, given the whole sequence of ``scores``."""
        real, transitions = real_steps(scores), self.allowed().float()
        scores, before = self._begun(scores.float()), self(scores)
        after = [torch.zeros_like(scores[:, 0])]
        for t in range(scores.shape[1] - 2, -1, -1):
            on = (transitions + (scores[:, t + 1] + after[-1])[:, None]).logsumexp(dim=2)
            after.append(torch.where(real[:, t + 1, None], on, after[-1]))
        chances: Tensor = (before + torch.stack(after[::-1], dim=1)).softmax(dim=2)
        return chances

    def best(self, scores: Tensor, weight: float, mask: Tensor) -> Tensor:
        """Return the best sequence ``[B, T]`` of ``scores`` with transitions times ``weight`` at the steps of ``mask``."""
        return viterbi(self._begun(scores.float()), self.allowed(weight), mask)


def real_steps(scores: Tensor) -> Tensor:
    """Return which steps of ``scores`` ``[B, T, 2 K]`` are real, ``[B, T]``."""
    return scores.amax(dim=2) > NEVER / 2
