"""Connectionist temporal classification: likelihood, prefix beam search and alignment; 0 is the blank.

Source: Graves et al. 2006, https://doi.org/10.1145/1143844.1143891.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

BLANK = 0
LOWEST = -1e30
"""The logarithm of an impossible event: finite, so that sums and differences of such stay numbers."""

Language = Callable[[Tensor, Tensor], Tensor]
"""Maps sequences ``[B, W, L]``, padded with 0, and their lengths ``[B, W]`` to what each next unit adds to the score
``[B, W, V]``; at index 0: what ending there adds."""


def packed(logs: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """Return ``logs`` ``[B, T, V]`` with the steps of ``mask`` ``[B, T]`` moved to the front, and their number ``[B]``."""
    order = mask.logical_not().to(torch.int8).argsort(dim=1, stable=True)
    return logs.gather(1, order[..., None].expand_as(logs)), mask.sum(dim=1)


def log_likelihood(logs: Tensor, mask: Tensor, ids: Tensor) -> Tensor:
    """Return the log probability of sequences, over all their alignments ``[B]``; -inf where they do not fit.

    Args:
        logs: Log-probabilities ``[B, T, V]``.
        mask: Real steps ``[B, T]``.
        ids: Sequences ``[B, N]``, padded with 0.
    """
    logs, steps = packed(logs, mask)
    lengths = (ids != BLANK).sum(dim=1)
    # A unit needs a step, and a repeated one a blank before it.
    repeats = ((ids[:, 1:] == ids[:, :-1]) & (ids[:, 1:] != BLANK)).sum(dim=1)
    fits = steps >= lengths + repeats
    if logs.shape[1] == 0 or ids.shape[1] == 0:
        logs, ids = F.pad(logs, (0, 0, 0, 1)), F.pad(ids, (0, 1))
    # A row without steps is computed with one, and replaced.
    loss = F.ctc_loss(
        logs.transpose(0, 1), ids, steps.clamp(min=1), lengths, blank=BLANK, reduction="none", zero_infinity=True
    )
    loss = torch.where(steps > 0, loss, 0.0)
    return torch.where(fits, -loss, -torch.inf)


@dataclass(frozen=True)
class Sequences:
    """The best sequences of each row, best first.

    Args:
        ids: ``[B, W, L]``, padded with 0.
        length: ``[B, W]``.
        score: ``[B, W]``: log probability, with what the language adds; ``LOWEST`` or less where there is none.
    """

    ids: Tensor
    length: Tensor
    score: Tensor


def best_path(logs: Tensor, mask: Tensor) -> Sequences:
    """Return the sequence of the most probable alignment of each row (greedy decoding), W = 1, scored by that alignment.

    Args:
        logs: Log-probabilities ``[B, T, V]``.
        mask: Real steps ``[B, T]``.
    """
    logs, steps = packed(logs, mask)
    real = torch.arange(logs.shape[1], device=logs.device) < steps[:, None]
    value, path = logs.max(dim=2) if logs.shape[1] else (logs.new_zeros(logs.shape[:2]), logs.new_zeros(logs.shape[:2]))
    path = path.long()
    before = F.pad(path, (1, 0))[:, :-1]
    kept = real & (path != BLANK) & (path != before)
    length = kept.sum(dim=1)
    order = kept.logical_not().to(torch.int8).argsort(dim=1, stable=True)
    ids = path.masked_fill(~kept, 0).gather(1, order)[:, : max(int(length.max()) if len(length) else 0, 1)]
    if ids.shape[1] == 0:
        ids = F.pad(ids, (0, 1))
    return Sequences(ids[:, None], length[:, None], (value * real).sum(dim=1, keepdim=True))


def prefix_beam_search(logs: Tensor, mask: Tensor, width: int, language: Language | None = None) -> Sequences:
    """Return the ``width`` most probable sequences of each row, each summed over its alignments.

    Source: Hannun et al. 2014, https://arxiv.org/abs/1408.2873, algorithm 1, for a batch at once.

    Args:
        logs: Log-probabilities ``[B, T, V]``.
        mask: Real steps ``[B, T]``.
        width: Number of prefixes kept at each step.
        language: Scores of units after a prefix, if any.
    """
    logs, steps = packed(logs.double(), mask)
    rows, _, units = logs.shape
    device = logs.device
    ids = torch.zeros(rows, width, 1, dtype=torch.long, device=device)
    length = torch.zeros(rows, width, dtype=torch.long, device=device)
    # Equal prefixes are recognised by a hash of 64 bits; slots that are not in use have one of their own.
    unused = -1 - torch.arange(width, device=device).expand(rows, -1)
    key = unused.clone()
    key[:, 0] = 0
    orphan = torch.full_like(key, torch.iinfo(torch.long).min)
    parent = orphan
    last = torch.zeros_like(key)
    blank, other, prior = (logs.new_full((rows, width), LOWEST) for _ in range(3))
    blank[:, 0] = 0.0
    prior[:, 0] = 0.0
    longest = int(steps.max()) if rows else 0
    follow = None if language is None else language(ids, length)
    for t in range(longest):
        now = logs[:, t].clamp(min=LOWEST)
        both = torch.logaddexp(blank, other)
        stay_blank = both + now[:, :1]
        stay_other = torch.where(last > 0, other + now.gather(1, last), LOWEST)
        grown = both[:, :, None] + now[:, None, :]  # [B, W, V]: a prefix and one more unit
        grown = grown.scatter(2, last[..., None], (blank + now.gather(1, last))[..., None])
        grown[:, :, BLANK] = LOWEST
        # A prefix with one more unit may already be in the beam.
        same = (parent[:, None, :] == key[:, :, None]) & (both[:, :, None] > LOWEST / 2)  # [B, i, j]: j is i and a unit
        reached = grown.gather(2, last[:, None, :].expand(-1, width, -1)).masked_fill(~same, LOWEST)
        stay_other = torch.logaddexp(stay_other, reached.logsumexp(dim=1))
        taken = torch.zeros_like(grown, dtype=torch.int8).scatter_reduce(
            2, last[:, None, :].expand(-1, width, -1), same.to(torch.int8), "amax"
        )
        grown = grown.masked_fill(taken > 0, LOWEST)
        total = torch.logaddexp(stay_blank, stay_other) + prior
        more = grown + prior[..., None] + (0.0 if follow is None else follow)
        score, index = torch.cat([total, more.flatten(1)], dim=1).topk(width, dim=1)
        stays = index < width
        flat = (index - width).clamp(min=0)
        source = torch.where(stays, index, flat // units)
        unit = torch.where(stays, 0, flat % units)
        grew = ~stays

        def of(values: Tensor, source: Tensor = source) -> Tensor:
            return values.gather(1, source)

        step = (t < steps)[:, None]
        added = 0.0 if follow is None else follow.flatten(1).gather(1, flat)
        new_blank = torch.where(stays, of(stay_blank), LOWEST)
        new_other = torch.where(stays, of(stay_other), grown.flatten(1).gather(1, flat))
        new_length = of(length) + grew
        if t % 16 == 0:
            ids = F.pad(ids, (0, 16))
        new_ids = ids.gather(1, source[..., None].expand(-1, -1, ids.shape[2]))
        place = of(length).clamp(max=ids.shape[2] - 1)[..., None]
        new_ids = new_ids.scatter(2, place, torch.where(grew, unit, new_ids.gather(2, place)[..., 0])[..., None])
        new_parent = torch.where(grew, of(key), of(parent))
        new_key = torch.where(grew, of(key) * 6364136223846793005 + 2 * unit + 1442695040888963407, of(key))
        dead = score < LOWEST / 2
        new_key, new_parent = torch.where(dead, unused, new_key), torch.where(dead, orphan, new_parent)
        new_last = torch.where(grew, unit, of(last))
        new_prior = of(prior) + torch.where(grew, added, 0.0)
        ids = torch.where(step[..., None], new_ids, ids)
        length, key, parent, last = (
            torch.where(step, new, old)
            for new, old in (
                (new_length, length),
                (new_key, key),
                (new_parent, parent),
                (new_last, last),
            )
        )
        blank, other, prior = (
            torch.where(step, new, old) for new, old in ((new_blank, blank), (new_other, other), (new_prior, prior))
        )
        if language is not None:
            follow = language(ids, length)
    score = torch.logaddexp(blank, other) + prior
    if follow is not None:
        score = score + follow[:, :, BLANK]
    score, order = score.sort(dim=1, descending=True, stable=True)
    length = length.gather(1, order)
    ids = ids.gather(1, order[..., None].expand_as(ids))
    return Sequences(ids[:, :, : max(int(length.max()) if rows else 0, 1)], length, score)


def alignment(logs: Tensor, mask: Tensor, ids: Tensor) -> tuple[Tensor, Tensor]:
    """Return the first and the last step of each unit in the most probable alignment, both ``[B, N]``, -1 where padded
    or where the sequence does not fit into the steps.

    Args:
        logs: Log-probabilities ``[B, T, V]``.
        mask: Real steps ``[B, T]``, those before the others.
        ids: Sequences ``[B, N]``, padded with 0.
    """
    most = ids.shape[1]
    steps, lengths = mask.sum(dim=1), (ids != BLANK).sum(dim=1)
    states = F.pad(ids[:, :, None], (1, 0)).flatten(1)  # blank, unit, blank, unit ...
    states = F.pad(states, (0, 1))  # [B, S], S = 2 N + 1
    jumps = (states != BLANK) & (states != F.pad(states, (2, 0), value=-1)[:, :-2])
    emitted = logs.double().clamp(min=LOWEST).gather(2, states[:, None, :].expand(-1, logs.shape[1], -1))  # [B, T, S]
    best = torch.full(states.shape, LOWEST, dtype=torch.float64, device=logs.device)
    origins = []
    for t in range(logs.shape[1]):
        if t == 0:
            value, origin = torch.full_like(best, LOWEST), torch.zeros_like(states)
            value[:, :2] = 0.0
        else:
            two = torch.where(jumps, F.pad(best, (2, 0), value=LOWEST)[:, :-2], LOWEST)
            value, origin = torch.stack([best, F.pad(best, (1, 0), value=LOWEST)[:, :-1], two]).max(dim=0)
        real = mask[:, t, None]
        best = torch.where(real, value + emitted[:, t], best)
        origins.append(torch.where(real, origin, 0))
    # The path ends in the last unit or in the blank after it.
    end = (2 * lengths)[:, None]
    final = torch.cat([best.gather(1, end), best.gather(1, (end - 1).clamp(min=0))], dim=1)
    place = end[:, 0] - (final.argmax(dim=1) & (lengths > 0))
    fits = (final.amax(dim=1) > LOWEST / 2) & (steps > 0)
    first, last = torch.full_like(ids, -1), torch.full_like(ids, -1)
    for t in range(logs.shape[1] - 1, -1, -1):
        inside = fits & mask[:, t] & (place % 2 == 1)
        unit = (place // 2).clamp(max=max(most - 1, 0))[:, None]
        if most:
            now = torch.where(inside, t, first.gather(1, unit)[:, 0])[:, None]
            first = first.scatter(1, unit, now)
            end_now = torch.where(inside & (last.gather(1, unit)[:, 0] < 0), t, last.gather(1, unit)[:, 0])[:, None]
            last = last.scatter(1, unit, end_now)
        place = place - origins[t].gather(1, place[:, None])[:, 0]
    return first, last
