"""Answers of a language model to the question and media of a row: their likelihood, and generation."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from sensorium.core.batch import Tensors
from sensorium.nn.causal_lm import LmStep, PaddedSequences, embedded, logits_at, pad_sequences
from sensorium.nn.decoding import Generated, Vocabulary, beam_search, sample
from sensorium.pretrained.chat_rows import ChatRows, Rows, texts_of
from sensorium.pretrained.language_model import LanguageModel

AT_ONCE = 96
"""About the maximum number of sequences in a pass that needs no gradients: logits and caches take memory for each. 150 rows
of 70 tokens with three beams in one batch of 128 took 9 GB with SmolLM2-135M."""
ScoredAnswers = list[tuple[str, float]]
"""Answers to one row, best first, each with the logarithm of a probability."""


@dataclass(frozen=True)
class ChatInputs(Tensors):
    """The question and the media of each row.

    Args:
        question: Bytes ``[B, P]``, 0 where padded or absent.
        media: By stream, vectors ``[B, N, H]`` as words of the language model.
        real: By stream, which of them are real ``[B, N]``.
        constant: Bytes of an answer ``[B, L]``, padded with 0; only of a baseline or a rival.
    """

    question: Tensor
    media: tuple[Tensor, ...]
    real: tuple[Tensor, ...]
    constant: Tensor | None = None


def _rows(output: ChatInputs, start: int, count: int) -> ChatInputs:
    return output.map(lambda value: value[start : start + count])


class Decoding(NamedTuple):
    """Settings of generation, documented in ``nn.decoding``."""

    sampled: bool
    width: int
    penalty: float
    temperature: float
    top_p: float
    seed: int


class Speech:
    """Scores and generates answers of a language model.

    Args:
        model: The language model.
        rows: Makes sequences of rows.
        decoding: How answers are generated.
    """

    def __init__(self, model: LanguageModel, rows: ChatRows, decoding: Decoding) -> None:
        self.model, self.rows, self.decoding = model, rows, decoding
        self._learnt, self._crowded = 0, 0  # conversations learnt from, and those cut only for the sake of media

    @property
    def note_on_media(self) -> str:
        """What to tell about the conversations that gradients were computed for: how many would not have been cut without
        their media; empty: none. How many vectors a medium has is known only once an encoder has read it."""
        if not self._crowded:
            return ""
        return (
            f"texts of {self._crowded / self._learnt:.1%} of the conversations were cut since media take up a part of the "
            f"{self.rows.longest:,} tokens; fewer media, --projector resampler or a larger --length leave more to them"
        )

    def sequences(self, output: ChatInputs, answers: Sequence[Sequence[int]] | None, room: int | Sequence[int] = 0) -> Rows:
        """Return the sequences of ``output``; ``answers`` and ``room`` as in ``ChatRows.sequences``."""
        counts = {name: real.sum(dim=1).tolist() for name, real in zip(self.rows.streams, output.real, strict=True)}
        return self.rows.sequences(texts_of(output.question), counts, answers, output.question.device, room=room)

    def vectors(self, output: ChatInputs, sequences: PaddedSequences) -> Tensor:
        """Return what the language model receives of ``sequences``, with the media of ``output``: ``[B, T, H]``."""
        media = {self.model.rows + i: pair for i, pair in enumerate(zip(output.media, output.real, strict=True))}
        return embedded(self.model.embedding, self.model.rows, sequences, media)

    def likelihood(self, output: ChatInputs, answers: Sequence[Sequence[int]]) -> tuple[Tensor, Tensor]:
        """Return the summed log-likelihood of what is learnt in each row of ``output`` ``[B]``, and the number of tokens.

        ``answers``: the token ids of each row's answer, with its end.
        """
        if not torch.is_grad_enabled() and len(answers) > AT_ONCE:
            starts = range(0, len(answers), AT_ONCE)
            made = [self.likelihood(_rows(output, i, AT_ONCE), answers[i : i + AT_ONCE]) for i in starts]
            return torch.cat([total for total, _ in made]), torch.cat([count for _, count in made])
        rows = self.sequences(output, answers)
        if torch.is_grad_enabled():
            # Of rows whose answer is not known, the end alone is left, and they do not count in the loss.
            learnt = [k for k, answer in enumerate(answers) if len(answer) > 1]
            self._learnt += len(learnt)
            self._crowded += sum(0 < rows.cut[k] <= rows.media[k] for k in learnt)
        logits, wanted = logits_at(self.model.network, self.vectors(output, rows.sequences), rows.sequences)
        row = rows.sequences.learnt.nonzero()[:, 0]
        each = -F.cross_entropy(logits, wanted, reduction="none")
        total = each.new_zeros(len(answers)).index_add(0, row, each)
        return total, rows.sequences.learnt.sum(dim=1)

    def weighed(self, output: ChatInputs, choices: Sequence[str]) -> list[ScoredAnswers]:
        """Return ``choices`` for each row of ``output``, the most probable first, with logarithms of probabilities that sum
        to 1."""
        count, words = len(output.question), self.model.words
        total = [self.likelihood(output, [[*words.answer(c), words.end]] * count)[0] for c in choices]
        scores = torch.stack(total, dim=1).log_softmax(dim=1)
        return [sorted(zip(choices, row, strict=True), key=lambda pair: -pair[1]) for row in scores.tolist()]

    def generated(self, output: ChatInputs, most: int) -> list[ScoredAnswers]:
        """Return the answers to each row of ``output``, of at most ``most`` tokens, with the mean log probability of their
        tokens."""
        rows = max(1, AT_ONCE // self.decoding.width)
        starts = range(0, len(output.question), rows)
        return [answers for i in starts for answers in self._generated(_rows(output, i, rows), most)]

    def _generated(self, output: ChatInputs, most: int) -> list[ScoredAnswers]:
        step = LmStep(self.model.network, self.model.words.ends)
        rows = self.sequences(output, None, room=most + 1)
        cache = step.start(self.vectors(output, rows.sequences), rows.sequences)
        vocabulary = Vocabulary(self.model.rows, self.model.words.end)
        count, device, how = len(output.question), output.question.device, self.decoding
        if how.sampled:
            made = sample(
                step,
                cache,
                count,
                vocabulary,
                longest=most,
                draws=how.width,
                temperature=how.temperature,
                top_p=how.top_p,
                seed=how.seed,
                device=device,
            )
        else:
            made = beam_search(
                step, cache, count, vocabulary, longest=most, width=how.width, penalty=how.penalty, device=device
            )
        return self._texts(made)

    def _texts(self, made: Generated) -> list[ScoredAnswers]:
        mean = made.log_probability / (made.length + 1)
        rows = []
        for tokens, lengths, scores in zip(made.tokens.tolist(), made.length.tolist(), mean.tolist(), strict=True):
            texts: dict[str, float] = {}
            for ids, length, score in zip(tokens, lengths, scores, strict=True):
                if math.isfinite(score):
                    texts.setdefault(self.model.words.decode(ids[:length]), score)
            rows.append(list(texts.items()) or [("", 0.0)])
        return rows

    @torch.no_grad()
    def surprise(self, texts: Sequence[str]) -> tuple[Tensor, Tensor]:
        """Return the summed negative log-likelihood of each of ``texts`` ``[B]`` as plain text, and the number of its
        tokens after the first ``[B]``."""
        if len(texts) > AT_ONCE:
            made = [self.surprise(texts[i : i + AT_ONCE]) for i in range(0, len(texts), AT_ONCE)]
            return torch.cat([total for total, _ in made]), torch.cat([count for _, count in made])
        device = self.model.embedding.get_parameter("weight").device
        ids = [self.model.words.typed(text)[: self.rows.longest] or [self.model.words.end] for text in texts]
        sequences = pad_sequences(ids, [[False, *[True] * (len(row) - 1)] for row in ids], device, "right")
        count = sequences.learnt.sum(dim=1)
        if not bool(sequences.learnt.any()):
            return count.float(), count
        logits, wanted = logits_at(self.model.network, self.model.received(sequences.ids), sequences)
        each = F.cross_entropy(logits, wanted, reduction="none")
        return each.new_zeros(len(ids)).index_add(0, sequences.learnt.nonzero()[:, 0], each), count
