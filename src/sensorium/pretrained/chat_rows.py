"""Rows of a table as conversations with a language model: questions, places of media, tokens that are learnt."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import NamedTuple

import torch
from torch import Tensor

from sensorium.core.batch import Field
from sensorium.core.errors import ConfigError
from sensorium.core.messages import Message, pack, unpack, unplaced
from sensorium.core.plurals import counted
from sensorium.nn.causal_lm import PaddedSequences, Side, pad_sequences
from sensorium.pretrained.chat_tokeniser import ChatTokeniser, Piece

_NAMES = 5  # that a note lists


class Rows(NamedTuple):
    """Sequences of a batch, and of each row how many tokens of its texts were cut and how many its media take."""

    sequences: PaddedSequences
    cut: list[int]
    media: list[int]


def texts_of(data: Tensor) -> list[bytes]:
    """Return the bytes of each row of ``data`` ``[B, N]``, which 0 pads."""
    return [bytes(i & 255 for i in row if i) for row in data.detach().cpu().tolist()]


def packed(texts: Sequence[str], device: torch.device) -> Tensor:
    """Return ``texts`` as packed bytes ``[B, N]`` on ``device``, padded with 0: what ``texts_of`` and ``reply`` read."""
    rows = [torch.tensor(list(pack(text)), dtype=torch.long) for text in texts]
    return torch.nn.utils.rnn.pad_sequence(rows, batch_first=True).to(device)


def filled(field: Field) -> Tensor:
    """Return the bytes ``[B, N]`` of the column ``field``, 0 where padded or absent."""
    real = field.present[:, None] if field.mask is None else field.mask & field.present[:, None]
    return field.data.long().masked_fill(~real, 0)


@lru_cache(maxsize=65536)
def reply(data: bytes) -> str:
    """Return the text of an answer packed in ``data``; of several that are equally right the most frequent; of a
    conversation what its last turn says."""
    value = unpack(data) if data else ""
    if isinstance(value, str):
        return value
    texts = [item.text if isinstance(item, Message) else item for item in value]
    if value and isinstance(value[0], Message):
        return texts[-1]
    return Counter(texts).most_common(1)[0][0] if texts else ""


def replies(data: bytes) -> list[str]:
    """Return all texts that are right by ``data``."""
    value = unpack(data) if data else ""
    if isinstance(value, str) or (value and isinstance(value[0], Message)):
        return [reply(data)]
    return [item for item in value if isinstance(item, str)] or [""]


class ChatRows:
    """Makes sequences of rows.

    Args:
        words: Tokeniser and template of the language model.
        streams: The streams that are laid, in order.
        vocabulary: The number of ids of the language model; that of stream ``i`` is ``vocabulary + i``.
        system: The system message of conversations without one; empty: none.
        ask: The question of rows that have none.
        earlier: Whether earlier turns of the assistant are learnt.
        longest: Maximum number of tokens of a sequence.
    """

    def __init__(
        self,
        words: ChatTokeniser,
        streams: Sequence[str],
        vocabulary: int,
        *,
        system: str,
        ask: str,
        earlier: bool,
        longest: int,
    ) -> None:
        self.words, self.streams, self.vocabulary = words, tuple(streams), vocabulary
        self.system, self.ask, self.earlier, self.longest = system, ask, earlier, longest
        self._pieces = lru_cache(maxsize=8192)(self._made)

    def turns(self, data: bytes) -> list[Message]:
        """Return the turns of a question packed in ``data``, up to the last that is not the assistant's."""
        value = unpack(data) if data else ""
        if isinstance(value, str):
            turns = [Message("user", value or self.ask)]
        else:
            turns = [item for item in value if isinstance(item, Message)]
            turns = turns or [Message("user", "\n".join(item for item in value if isinstance(item, str)))]
        while turns and turns[-1].role == "assistant":
            turns.pop()
        turns = turns or [Message("user", self.ask)]
        if self.system and turns[0].role != "system":
            turns = [Message("system", self.system), *turns]
        return turns

    def tokens(self, data: bytes) -> int:
        """Return the number of tokens of a question packed in ``data``, without media."""
        return sum(len(piece.ids) for piece in self._pieces(data, ()))

    def note_on(self, questions: Sequence[str], lengths: Sequence[int]) -> str:
        """Return what to tell about the texts of ``questions`` and the ``lengths`` of their conversations in tokens,
        without media: how many are cut, and which names in angle brackets are no places of media; empty: nothing."""
        notes = []
        if cut := sum(length > self.longest for length in lengths):
            many = f"{cut:,} of {len(lengths):,} conversations"
            notes.append(f"{many} have more than {self.longest:,} tokens, without media: texts are cut")
        strange = Counter(name for text in questions for name in unplaced(text, self.streams))
        if strange:
            named = ", ".join(f"<{name}> ({count:,})" for name, count in strange.most_common(_NAMES))
            places = ", ".join(f"<{name}>" for name in self.streams)
            notes.append(
                f"names read as text, in {counted(len(questions), 'question')}: {named}; places of media are the first of "
                f"each of {places}"
            )
        return "; ".join(notes)

    def _made(self, data: bytes, present: tuple[str, ...]) -> list[Piece]:
        # Places of streams that this row does not have are left out.
        away = [f"<{name}>" for name in self.streams if name not in present]
        turns = self.turns(data)
        for place in away:
            turns = [m._replace(text=m.text.replace(place, "", 1)) if m.role == "user" else m for m in turns]
        turns = [m._replace(text=m.text.strip("\n")) if away else m for m in turns]
        return self.words.pieces(turns, present)

    def sequences(
        self,
        questions: Sequence[bytes],
        counts: Mapping[str, Sequence[int]],
        answers: Sequence[Sequence[int]] | None,
        device: torch.device,
        *,
        room: int | Sequence[int] = 0,
        side: Side = "left",
    ) -> Rows:
        """Return the sequences of rows.

        Args:
            questions: The packed questions; empty: none.
            counts: By stream, how many vectors each row has.
            answers: The token ids of each answer, with its end; None: it is still to be generated.
            device: Where the sequences go.
            room: The number of tokens left for the generated answer, of each row or of all.
            side: Where shorter ones are padded.
        """
        every, known, cut, media = [], [], [], []
        for i, data in enumerate(questions):
            present = tuple(name for name in self.streams if counts[name][i] > 0)
            pieces = self._pieces(data, present)
            answer = list(answers[i]) if answers is not None else []
            held = {name: counts[name][i] for name in present}
            left = room if isinstance(room, int) else room[i]
            pieces, lost = self._fitting(pieces, held, self.longest - len(answer) - left)
            ids: list[int] = []
            learnt: list[bool] = []
            for piece in pieces:
                if piece.stream is not None:
                    ids += [self.vocabulary + self.streams.index(piece.stream)] * held[piece.stream]
                    learnt += [False] * held[piece.stream]
                else:
                    ids += piece.ids
                    learnt += piece.learnt if self.earlier and answers is not None else [False] * len(piece.ids)
            every.append([*ids, *answer])
            known.append([*learnt, *[True] * len(answer)])
            cut.append(lost)
            media.append(sum(held.values()))
        return Rows(pad_sequences(every, known, device, side), cut, media)

    def _fitting(self, pieces: list[Piece], held: Mapping[str, int], most: int) -> tuple[list[Piece], int]:
        """Return ``pieces`` of at most ``most`` tokens, the longest texts cut at their ends, and how much was cut."""
        media = sum(held.values())
        over = media + sum(len(piece.ids) for piece in pieces) - most
        if over <= 0:
            return pieces, 0
        lengths = [len(piece.ids) if piece.typed else 0 for piece in pieces]
        if sum(lengths) < over:
            parts = ", ".join(f"{name} {count}" for name, count in held.items())
            raise ConfigError(
                f"a row has {media} tokens of media ({parts}), which are never cut, and with the form of the conversation "
                f"and its answer they take {over - sum(lengths)} more than fit into {self.longest}",
                fix="fewer media or a shorter answer; in training --projector resampler, or a larger --length",
            )
        lost = over
        kept = list(pieces)
        while over > 0:
            longest = max(range(len(kept)), key=lambda k: lengths[k])
            rest = max((n for k, n in enumerate(lengths) if k != longest and n < lengths[longest]), default=0)
            size = lengths[longest] - min(over, max(1, lengths[longest] - rest))
            over -= lengths[longest] - size
            kept[longest] = Piece(kept[longest].ids[:size], kept[longest].learnt[:size], typed=True)
            lengths[longest] = size
        return kept, lost
