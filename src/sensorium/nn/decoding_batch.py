"""Generation of several token sequences in one forward pass; sequences join and leave between tokens."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from sensorium.nn.causal_lm import LmCache, LmStep
from sensorium.nn.decoding import Vocabulary, drawn, draws_by_step, log_probabilities


class Drawing(NamedTuple):
    """Settings of sampling, documented in ``nn.decoding.sample``, of which the first draw is generated."""

    temperature: float
    top_p: float
    seed: int
    draws: int = 1


class NextToken(NamedTuple):
    """The next token of a sequence, and whether it is the last."""

    number: int
    token: int
    last: bool


@dataclass(eq=False)
class _Sequence:
    number: int
    longest: int
    drawing: Drawing | None
    chances: Tensor | None
    length: int = 0
    left: bool = False


@dataclass
class _Group:
    """Sequences that share a forward pass; those that have left stay until the caches are joined anew."""

    cache: LmCache
    sequences: list[_Sequence]
    words: Tensor


class DecodingBatch:
    """Sequences that are generated together.

    Each advances by one token in each pass. New sequences begin in a pass of their own, which has read their prompts, and
    share the passes after that. Where a language model keeps a state that cannot be joined (``LmCache.joinable``), those
    that began together stay together.

    A sequence is that of a ``beam_search`` of width 1, or of the first draw of ``sample``, up to the rounding of sums.

    Args:
        step: The step function.
        vocabulary: The special tokens.
    """

    def __init__(self, step: LmStep, vocabulary: Vocabulary) -> None:
        self._step, self._vocabulary = step, vocabulary
        self._groups: list[_Group] = []
        self._known: dict[int, _Sequence] = {}
        self._next = 0

    def add(self, cache: LmCache, longest: Sequence[int], drawings: Sequence[Drawing | None]) -> list[int]:
        """Add sequences and return their numbers.

        Args:
            cache: The state after their prompts.
            longest: Maximum number of tokens of each, without the end.
            drawings: How each is sampled; None: the most probable token is taken.
        """
        begun = []
        for most, drawing in zip(longest, drawings, strict=True):
            chances = None if drawing is None else draws_by_step(drawing.seed, most, drawing.draws)[:, 0]
            begun.append(_Sequence(self._next, most, drawing, chances))
            self._next += 1
        device = cache.mask.device
        words = torch.full((len(begun),), self._vocabulary.begin, device=device)
        self._groups.append(_Group(cache, begun, words))
        self._known |= {sequence.number: sequence for sequence in begun}
        return [sequence.number for sequence in begun]

    def remove(self, number: int) -> None:
        """Abandon the sequence ``number``, if it is in progress."""
        sequence = self._known.pop(number, None)
        if sequence is not None:
            sequence.left = True

    @torch.no_grad()
    def advance(self) -> list[NextToken]:
        """Generate and return the next token of each sequence; one whose token is the last has left."""
        self._regroup()
        generated = []
        for group in self._groups:
            logits, group.cache = self._step(group.words, group.cache)
            group.words = self._chosen(logits, group.sequences)
            for sequence, token in zip(group.sequences, group.words.tolist(), strict=True):
                sequence.length += 1
                last = token == self._vocabulary.end or sequence.length >= sequence.longest
                generated.append(NextToken(sequence.number, token, last))
                if last:
                    self.remove(sequence.number)
        return generated

    def _chosen(self, logits: Tensor, sequences: Sequence[_Sequence]) -> Tensor:
        """The next token of each of ``sequences`` ``[R]``."""
        words = logits.argmax(dim=1)
        sampled = [(i, s, s.drawing, s.chances) for i, s in enumerate(sequences) if s.drawing and s.chances is not None]
        if sampled:
            rows = torch.tensor([i for i, *_ in sampled], device=logits.device)
            each = log_probabilities(logits[rows], self._vocabulary, length=0, last=False)
            settings = torch.tensor([[d.temperature, d.top_p] for _, _, d, _ in sampled], device=logits.device)
            chance = torch.stack([chances[s.length] for _, s, _, chances in sampled]).to(logits.device)
            words[rows] = drawn(each / settings[:, :1], settings[:, 1:].double(), chance)
        return words

    def _regroup(self) -> None:
        """Drop sequences that have left, and let those that have begun join the others."""
        groups = []
        for group in self._groups:
            kept = [i for i, sequence in enumerate(group.sequences) if not sequence.left]
            if kept and len(kept) < len(group.sequences):
                rows = torch.tensor(kept, device=group.words.device)
                group = _Group(group.cache.kept(rows), [group.sequences[i] for i in kept], group.words[rows])
            if kept:
                groups.append(group)
        together = [group for group in groups if group.cache.joinable]
        if len(together) > 1:
            joined = _Group(
                LmCache.joined([group.cache for group in together]),
                [sequence for group in together for sequence in group.sequences],
                torch.cat([group.words for group in together]),
            )
            groups = [joined, *(group for group in groups if not group.cache.joinable)]
        self._groups = groups
