"""Answers of a language model to several rows, generated in the same forward passes."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from sensorium.core.answer_batch import AnswerBatch, AnswerSettings
from sensorium.nn.causal_lm import LmStep
from sensorium.nn.decoding import Vocabulary
from sensorium.nn.decoding_batch import DecodingBatch, Drawing
from sensorium.pretrained.speech import ChatInputs, Decoding, Speech
from sensorium.pretrained.text_stream import TextStream

PADDING = 32
"""Maximum number of padded tokens of a pass that reads several conversations: more cost about as much as another pass."""


class LmAnswerBatch(AnswerBatch[ChatInputs]):
    """Answers that are generated together in joint forward passes, greedily or by sampling.

    Args:
        speech: Generates answers of the language model.
        most: Maximum number of tokens of an answer whose settings name none.
    """

    def __init__(self, speech: Speech, most: int) -> None:
        self._speech, self._most = speech, most
        self._end = speech.model.words.end
        self._step = LmStep(speech.model.network, speech.model.words.ends)
        self._batch = DecodingBatch(self._step, Vocabulary(speech.model.rows, self._end))
        self._texts: dict[int, TextStream] = {}

    @torch.no_grad()
    def add(self, output: ChatInputs, settings: Sequence[AnswerSettings]) -> list[int]:
        longest = [each.most or self._most for each in settings]
        drawings = [_drawing(each, self._speech.decoding) for each in settings]
        sequences = self._speech.sequences(output, None, room=[most + 1 for most in longest]).sequences
        vectors = self._speech.vectors(output, sequences)
        begun = []
        for rows in similar_lengths(sequences.mask.sum(dim=1).tolist()):
            part = sequences.part(rows)
            begun.append((rows, self._step.start(vectors[rows, vectors.shape[1] - part.ids.shape[1] :], part)))
        # Nothing joins before all are read: where one pass fails, no row of this call has begun.
        numbers = [0] * len(longest)
        for rows, cache in begun:
            made = self._batch.add(cache, [longest[i] for i in rows], [drawings[i] for i in rows])
            for i, number in zip(rows, made, strict=True):
                numbers[i] = number
        self._texts |= {number: TextStream(self._speech.model.words) for number in numbers}
        return numbers

    def advance(self) -> list[tuple[int, str | bool]]:
        pieces: list[tuple[int, str | bool]] = []
        for number, token, last in self._batch.advance():
            text, ended = self._texts[number], token == self._end
            piece = "" if ended else text.push(token)
            if last:
                piece += text.finish()
            if piece:
                pieces.append((number, piece))
            if last:
                pieces.append((number, ended))
                del self._texts[number]
        return pieces

    def remove(self, number: int) -> None:
        self._batch.remove(number)
        self._texts.pop(number, None)


def similar_lengths(lengths: Sequence[int]) -> list[list[int]]:
    """Return the rows of the ``lengths`` in groups, each to be read in one pass, whose padding costs less than a pass."""
    groups: list[list[int]] = []
    padding = 0
    for i in sorted(range(len(lengths)), key=lambda i: -lengths[i]):
        padding += lengths[groups[-1][0]] - lengths[i] if groups else 0
        if not groups or padding > PADDING:
            groups.append([])
            padding = 0
        groups[-1].append(i)
    return groups


def _drawing(settings: AnswerSettings, how: Decoding) -> Drawing | None:
    """How an answer is sampled; None: greedily."""
    if settings.greedy:
        return None
    if settings.drawing is not None:
        return Drawing(*settings.drawing)
    return Drawing(how.temperature, how.top_p, how.seed, how.width) if how.sampled else None
