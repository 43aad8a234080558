"""Joint prefix beam search over several streams of connectionist temporal classification (CTC)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from sensorium.nn.ctc import BLANK, LOWEST, Language, Sequences, packed

FLOOR = -1e3
"""Lower bound of the log probability of a unit at a step, so that sums over steps stay exact."""
TINY = 1e-300


@dataclass(frozen=True)
class Prefixes:
    """The forward variables of prefixes in one stream, in double precision.

    Args:
        blank: Log probability of the prefix in the first t steps, ending in a blank ``[B, W, T + 1]``.
        other: The same, ending in the last unit of the prefix ``[B, W, T + 1]``.
    """

    blank: Tensor
    other: Tensor

    @property
    def whole(self) -> Tensor:
        """Log probability that the prefix is the complete sequence ``[B, W]``."""
        return torch.logaddexp(self.blank[:, :, -1], self.other[:, :, -1])


def joint_prefix_search(
    logs: Sequence[Tensor], masks: Sequence[Tensor], width: int, language: Language | None = None
) -> Sequences:
    """Return the ``width`` sequences of each row with the highest log probability, summed over its streams.

    Prefixes of equal length are compared, and extended by one unit at a time: steps of different streams need not agree.
    Within a stream the score of a prefix is the probability of all sequences that begin with it.
    Source: Watanabe et al. 2017, https://doi.org/10.1109/JSTSP.2017.2763455, algorithm 2, for several streams.

    Args:
        logs: Log-probabilities of each stream ``[B, T, V]``.
        masks: Real steps of each stream ``[B, T]``; a stream without any does not count in that row.
        width: Number of prefixes kept at each length.
        language: Scores of units after a prefix, if any.
    """
    streams = [_padded_with_blanks(log, mask) for log, mask in zip(logs, masks, strict=True)]
    present = [mask.any(dim=1)[:, None] for mask in masks]
    rows, units, device = len(logs[0]), logs[0].shape[2], logs[0].device
    longest = max(int(mask.sum(dim=1).max()) if mask.numel() else 0 for mask in masks)
    forward = [_empty(stream, width) for stream in streams]
    live = torch.full((rows, width), LOWEST, dtype=torch.float64, device=device)
    live[:, 0] = 0.0
    prior = torch.zeros_like(live)
    ids = torch.zeros(rows, width, longest + 1, dtype=torch.long, device=device)
    kept = Sequences(torch.zeros_like(ids), torch.zeros_like(ids[:, :, 0]), torch.full_like(live, LOWEST))
    for n in range(longest + 1):
        length = torch.full((rows, width), n, device=device)
        follow = None if language is None else language(ids[:, :, : max(n, 1)], length)
        total = prior if follow is None else prior + follow[:, :, BLANK]
        for own, part in zip(present, forward, strict=True):
            total = total + torch.where(own, part.whole.clamp(min=LOWEST), 0.0)
        kept = _with(kept, ids, n, torch.where(live > LOWEST / 2, total, LOWEST))
        gain = 0.0 if follow is None else max(float(follow[:, :, 1:].max()), 0.0) * (longest - n)
        if n == longest or bool((live.amax(dim=1) + gain <= kept.score[:, -1]).all()):
            break
        last = ids[:, :, n - 1] if n else torch.zeros_like(length)
        added = torch.zeros(rows, width, units, dtype=torch.float64, device=device) if follow is None else follow.double()
        score = prior[..., None] + added
        for own, part, stream in zip(present, forward, streams, strict=True):
            score = score + torch.where(own[..., None], _extended(part, stream, last), 0.0)
        score = score.masked_fill(live[..., None] <= LOWEST / 2, LOWEST)
        score[:, :, BLANK] = LOWEST
        live, index = score.flatten(1).topk(min(width, width * units), dim=1)
        live = live.clamp(min=LOWEST)
        source, unit = index // units, index % units
        prior = prior.gather(1, source) + added.flatten(1).gather(1, index)
        ids = ids.gather(1, source[..., None].expand_as(ids)).clone()
        ids[:, :, n] = unit
        repeated = last.gather(1, source) == unit
        forward = [_grown(part, stream, source, unit, repeated) for part, stream in zip(forward, streams, strict=True)]
    most = max(int(kept.length.max()) if rows else 0, 1)
    return Sequences(kept.ids[:, :, :most], kept.length, kept.score)


def _padded_with_blanks(logs: Tensor, mask: Tensor) -> Tensor:
    """``logs`` in double precision, real steps first; after them the blank is certain, which changes nothing."""
    logs, steps = packed(logs.double(), mask)
    after = torch.arange(logs.shape[1], device=logs.device) >= steps[:, None]
    logs = logs.clamp(min=FLOOR).masked_fill(after[..., None], FLOOR)
    logs[:, :, BLANK] = logs[:, :, BLANK].masked_fill(after, 0.0)
    return logs


def _empty(stream: Tensor, width: int) -> Prefixes:
    """The forward variables of the empty prefix."""
    blank = F.pad(stream[:, :, BLANK].cumsum(dim=1), (1, 0))[:, None].expand(-1, width, -1)
    return Prefixes(blank, torch.full_like(blank, LOWEST))


def _extended(part: Prefixes, stream: Tensor, last: Tensor) -> Tensor:
    """Log probabilities of all sequences that begin with a prefix and one more unit ``[B, W, V]``."""
    chance = stream.exp()

    def summed(before: Tensor) -> Tensor:
        before = before[:, :, :-1]
        highest = before.amax(dim=2, keepdim=True) if before.shape[2] else before.sum(dim=2, keepdim=True)
        return ((before - highest).exp() @ chance).clamp(min=TINY).log() + highest

    extended, separated = summed(torch.logaddexp(part.blank, part.other)), summed(part.blank)
    # The same unit again needs a blank before it.
    units = torch.arange(extended.shape[2], device=extended.device)
    return torch.where(units == last[..., None], separated, extended)


def _grown(part: Prefixes, stream: Tensor, source: Tensor, unit: Tensor, repeated: Tensor) -> Prefixes:
    """The forward variables of the prefixes ``source`` ``[B, W]`` with ``unit`` ``[B, W]`` after them."""
    place = source[..., None].expand(-1, -1, part.blank.shape[2])
    blank, other = part.blank.gather(1, place), part.other.gather(1, place)
    enters = torch.where(repeated[..., None], blank, torch.logaddexp(blank, other))[:, :, :-1]
    steps = stream.shape[1]
    emitted = stream.gather(2, unit[:, None, :].expand(-1, steps, -1)).transpose(1, 2)  # [B, W, T]
    silent = stream[:, None, :, BLANK].expand_as(emitted)
    # x_t = p_t (x_{t-1} + e_t) is a cumulative sum of what enters, divided by the product of p until then.
    new_other = _recurred(enters, emitted)
    new_blank = _recurred(F.pad(new_other, (1, 0), value=LOWEST)[:, :, :-1], silent)
    return Prefixes(*(F.pad(values, (1, 0), value=LOWEST) for values in (new_blank, new_other)))


def _recurred(enters: Tensor, factor: Tensor) -> Tensor:
    """``x`` with ``x[t] = factor[t] (x[t - 1] + enters[t])``, all in logarithms ``[B, W, T]``."""
    product = factor.cumsum(dim=2)
    before = F.pad(product, (1, 0))[:, :, :-1]
    return torch.logcumsumexp((enters - before).clamp(min=LOWEST), dim=2) + product


def _with(kept: Sequences, ids: Tensor, length: int, score: Tensor) -> Sequences:
    """The best of ``kept`` and of ``ids`` as complete sequences of ``length`` with ``score`` ``[B, W]``."""
    width = kept.score.shape[1]
    ranked, order = torch.cat([kept.score, score], dim=1).sort(dim=1, descending=True, stable=True)
    order = order[:, :width]
    sequences = torch.cat([kept.ids, ids], dim=1).gather(1, order[..., None].expand(-1, -1, ids.shape[2]))
    lengths = torch.cat([kept.length, torch.full_like(kept.length, length)], dim=1).gather(1, order)
    return Sequences(sequences, lengths, ranked[:, :width])
