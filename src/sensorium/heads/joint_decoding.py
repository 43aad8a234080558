"""Transcripts from one or several streams: the best sequences of each stream, scored by all of them together."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from sensorium.core.batch import Tensors
from sensorium.nn.ctc import BLANK, LOWEST, Language, Sequences, best_path, log_likelihood, prefix_beam_search
from sensorium.nn.joint_prefix_search import joint_prefix_search

UNKNOWN = 1


@dataclass(frozen=True)
class Emissions(Tensors):
    """Logits of each stream along its own time, or a transcript that is already known.

    Args:
        logits: Of each stream ``[B, T, V]``; 0 is the blank.
        real: Which steps are real ``[B, T]``; none where the row lacks the stream.
        occurs: Logits of which units occur in the transcript ``[B, V]``, from the fused vector.
        constant: Ids of a transcript ``[B, L]``, padded with 0; only of a baseline.
    """

    logits: tuple[Tensor, ...]
    real: tuple[Tensor, ...]
    occurs: Tensor
    constant: Tensor | None = None

    @property
    def rows(self) -> int:
        """Number of rows."""
        return len(self.occurs)

    def logs(self, i: int) -> Tensor:
        """Log-probabilities of the stream numbered ``i`` ``[B, T, V]``."""
        return self.logits[i].float().log_softmax(dim=2)

    def present(self, i: int) -> Tensor:
        """Which rows have the stream numbered ``i`` ``[B]``."""
        return self.real[i].any(dim=1)


@dataclass(frozen=True)
class Candidates:
    """Transcripts of each row, best first.

    Args:
        ids: ``[B, C, L]``, padded with 0.
        score: Log probability, summed over the streams, with the score of the language model ``[B, C]``;
            ``LOWEST`` or less where there are no more.
        confidence: ``[B, C]``: the probability of the transcript; where there are several streams or a language model, its
            share among the candidates.
    """

    ids: Tensor
    score: Tensor
    confidence: Tensor


def candidates(output: Emissions, width: int, language: Language | None = None) -> Candidates:
    """Return the best transcripts of each row of ``output``, ``width`` or fewer.

    The best sequences of each stream on its own and, by beam search, of all streams together are scored by every stream
    that the row has. Streams are assumed to emit the same words independently of each other, at any times.

    Args:
        output: The emissions of the streams.
        width: Width of the beam search; 1: the most probable alignment of each stream (greedy decoding).
        language: Scores of units after others, if any.
    """
    sequences: list[Tensor] = []
    every_stream = [output.logs(i).clone() for i in range(len(output.logits))]
    for i, logs in enumerate(every_stream):
        logs[:, :, UNKNOWN] = LOWEST  # nothing can be written for it
        best = best_path(logs, output.real[i])
        if width > 1:
            best = prefix_beam_search(logs, output.real[i], width, language)
        sequences.append(_valid(best, output.present(i)))
    several = torch.stack([output.present(i) for i in range(len(output.logits))]).sum(dim=0) > 1
    if width > 1 and bool(several.any()):
        sequences.append(_valid(joint_prefix_search(every_stream, output.real, width, language), several))
    longest = max(ids.shape[2] for ids in sequences)
    every = torch.cat([F.pad(ids, (0, longest - ids.shape[2])) for ids in sequences], dim=1)
    score, present = joint_scores(output, every)
    streams = torch.stack([output.present(i) for i in range(len(output.logits))]).sum(dim=0)
    if language is not None:
        score = score + _language_score(every, language)
    score = score.masked_fill(_repeated(every) | ~present[:, None], LOWEST)
    score = score.masked_fill((every < 0).any(dim=2), LOWEST)
    score, order = score.sort(dim=1, descending=True, stable=True)
    score, order = score[:, :width], order[:, :width]
    ids = every.gather(1, order[..., None].expand(-1, -1, longest)).clamp(min=0)
    alone = (streams == 1) & torch.tensor(language is None, device=score.device)
    share = score.softmax(dim=1) * (score > LOWEST / 2)
    confidence = torch.where(alone[:, None], score.clamp(max=0.0).exp(), share)
    return Candidates(ids, score, confidence)


def joint_scores(output: Emissions, ids: Tensor) -> tuple[Tensor, Tensor]:
    """Return the summed log probability of sequences under the streams that each row has ``[B, C]``, and which rows have
    any ``[B]``.

    Args:
        output: The emissions of the streams.
        ids: ``[B, C, L]``, padded with 0; -1 where there is no sequence.
    """
    total = torch.zeros(ids.shape[:2], dtype=torch.float64, device=ids.device)
    present = torch.zeros(output.rows, dtype=torch.bool, device=ids.device)
    for i in range(len(output.logits)):
        logs, real, own = output.logs(i), output.real[i], output.present(i)
        each = [log_likelihood(logs, real, ids[:, c].clamp(min=0)).double() for c in range(ids.shape[1])]
        total = total + torch.where(own[:, None], torch.stack(each, dim=1).clamp(min=LOWEST), 0.0)
        present |= own
    return total, present


def _valid(best: Sequences, present: Tensor) -> Tensor:
    """The ids of sequences ``[B, W, L]``; -1 where there is none."""
    return best.ids.masked_fill(((best.score < LOWEST / 2) | ~present[:, None])[..., None], -1)


def _repeated(ids: Tensor) -> Tensor:
    """Which sequences ``[B, C]`` are repeated from earlier in their row."""
    same = (ids[:, :, None] == ids[:, None]).all(dim=3)  # [B, C, C]
    return same.tril(diagonal=-1).any(dim=2)


def _language_score(ids: Tensor, language: Language) -> Tensor:
    """The score of complete sequences under the language model ``[B, C]``."""
    length = (ids > BLANK).sum(dim=2)
    total = torch.zeros(length.shape, dtype=torch.float64, device=ids.device)
    known = ids.clamp(min=0)
    for n in range(ids.shape[2] + 1):
        follow = language(known[:, :, : max(n, 1)], length.clamp(max=n))
        unit = known[:, :, n] if n < ids.shape[2] else torch.zeros_like(length)
        # At 0, after the last unit: the end of the sequence.
        added = follow.gather(2, unit.masked_fill(length == n, 0)[..., None])[..., 0]
        total = total + torch.where(n <= length, added, 0.0)
    return total
