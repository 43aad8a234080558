"""Text."""

from __future__ import annotations

import json
import numbers
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from sensorium.core.errors import CellError, ConfigError
from sensorium.core.layout import Ids, Layout
from sensorium.core.modality import Array, Guess, Modality
from sensorium.core.number_lists import read_number_list
from sensorium.core.registry import chosen, component
from sensorium.core.scalars import plain
from sensorium.language.normalisation import Form, normalise
from sensorium.language.stopwords import Known, remove_stopwords, stopwords
from sensorium.language.text_places import origins, token_places, word_bounds
from sensorium.language.tokeniser import PAD, UNKNOWN, Kind, Tokeniser
from sensorium.language.word_segmentation import Segmenter, words
from sensorium.pretrained.tokeniser import PretrainedTokeniser
from sensorium.signal.running_moments import subsampled

if TYPE_CHECKING:
    import torch

    from sensorium.core.batch import Field

BREAK = " ¶ "
"""Separator between the texts of a cell with several; a token of its own."""
APART = -1
"""Separator between the ids of texts of which one is picked."""
MOST = 16
"""Texts of a cell that may be picked; further ones are ignored."""
_CHARACTERS_A_TOKEN = 32  # characters kept per token of the maximum length, before any processing
_TRAINING_CHARACTERS = 10_000_000
_TRAINING_CELLS = 100_000


@component
class Text(Modality):
    """Text in any language: a review, a question, a note; or several texts in one cell, ``["one", "two"]``.

    Encoded as ``[N]`` int32 token ids of a tokeniser trained on the training cells, or loaded: 1 is unknown, 0 is padding.
    Characters of scripts without blanks (Chinese, Japanese, Thai) are single tokens unless ``segmenter`` joins them into
    words. A cell of blanks only raises ``CellError``.

    Args:
        tokeniser: ``bpe``, ``wordpiece`` and ``unigram`` learn subwords, so that few words are unknown; or whole words, or
            characters.
        load: A ``tokenizer.json`` to use instead of training one. It is read in training only: the model keeps a copy.
        segmenter: Segmentation of Chinese: into characters, or into words by jieba (``sensorium[zh]``).
        stop: Stop-word list to remove; a text of stop words only is kept whole.
        leave_out: Further words to remove, separated by blanks or commas.
        form: Unicode normal form: NFKC maps wide letters and ligatures to plain ones, NFC keeps them.
        vocabulary: Maximum size of the vocabulary.
        length: Maximum number of tokens per cell; reduced to the 99th percentile of the training cells. The rest is cut.
        lowercase: Whether text is lower-cased.
        checkpoint: A folder with a ``tokenizer.json``, or a model name on the Hugging Face hub, whose tokeniser is used
            instead of training one. A pretrained encoder sets this itself; a saved model keeps a copy.
        drop: In training, the share of tokens replaced by the unknown token, to prevent memorisation.
        alternatives: Of a cell with several texts: ``join`` reads them as one text; ``pick`` takes them for several ways to
            say the same (captions of a picture): training reads a random one at each step, everything else the first.
    """

    ragged = True
    bounds = {"tokens": float("inf")}
    corruptions = ("typos", "deletion")

    def __init__(
        self,
        *,
        tokeniser: Kind = "bpe",
        load: str | None = None,
        segmenter: Segmenter = "characters",
        stop: Known = "none",
        leave_out: str = "",
        form: Form = "NFKC",
        vocabulary: int = 8000,
        length: int = 256,
        lowercase: bool = True,
        checkpoint: str | None = None,
        drop: float = 0.0,
        alternatives: Literal["join", "pick"] = "join",
    ) -> None:
        super().__init__()
        if vocabulary < 3 or length < 1 or not 0 <= drop < 1:
            raise ConfigError("text: vocabulary is 3 or more, length 1 or more, and drop from 0 to below 1")
        self.tokeniser, self.load, self.segmenter, self.form = tokeniser, load, segmenter, form
        self.stop = stopwords(stop, leave_out)
        self.vocabulary, self.length, self.lowercase, self.drop = vocabulary, length, lowercase, drop
        self.checkpoint, self.alternatives = checkpoint, alternatives
        self._loaded: tuple[dict[str, Any], Tokeniser | PretrainedTokeniser] | None = None

    @classmethod
    def sniff(cls, cells: Sequence[Any], name: str) -> Guess:
        lists = [cell for cell in cells if isinstance(cell, (list, tuple)) or _is_list(cell)]
        joined = map(_joined, cells) if len(lists) == len(cells) else cells
        texts = [cell.strip()[:2000] for cell in joined if isinstance(cell, str)]
        if not texts or len(texts) < len(cells):
            return Guess(0.0, f"{len(texts)} of {len(cells)} cells are text")
        listed = sum(read_number_list(text) is not None for text in texts)
        if listed > len(texts) / 2:
            return Guess(0.0, f"{listed} of {len(cells)} cells are lists of numbers")
        # With several texts per cell, their average length counts: a list of single words is a list of tags.
        words = sum(_words(text) / (text.count(BREAK) + 1) for text in texts) / len(texts)
        distinct = len(set(texts)) / len(texts)
        reason = f"{words:.1f} words on average, {distinct:.0%} of the cells differ"
        if words >= 3:
            return Guess(0.85 * min(1.0, 0.6 + distinct), reason)
        plain = not any(" " in text or _unspaced(text) for text in texts)
        if plain and sum(any(c.isdigit() for c in text) for text in texts) > len(texts) / 2:
            return Guess(0.15, "no blanks but digits in most cells, as identifiers have")
        return Guess((0.3 + 0.1 * words) * distinct, reason)

    def fit(self, cells: Iterable[Any]) -> None:
        texts = subsampled((text for cell in cells for text in self._texts(cell)), _TRAINING_CELLS)
        learnt: Tokeniser | PretrainedTokeniser
        if self.checkpoint is not None:
            learnt = _pretrained(self.checkpoint)
        elif self.load is not None:
            learnt = Tokeniser.load(self.load)
        else:
            total = sum(map(len, texts))
            share = max(1, -(-total // _TRAINING_CHARACTERS))
            segmented = self.segmenter != "characters"
            learnt = Tokeniser.train(texts[::share], self.tokeniser, self.vocabulary, segmented=segmented)
        lengths = [len(_ids(learnt, text, self.length)) for text in texts[:: max(1, len(texts) // 5000)]]
        longest = int(np.ceil(np.percentile(lengths, 99))) if lengths else 1
        self.state = {"tokeniser": learnt.to_json(), "length": min(self.length, max(longest, 1))}

    @property
    def layout(self) -> Layout:
        return Ids(self._tokeniser.size, self.state["length"], self._tokeniser.words, self._tokeniser.pieces)

    @property
    def longest(self) -> int:
        length: int = self.state["length"]
        return MOST * (length + 1) if self.alternatives == "pick" else length

    def measure(self, cell: Any) -> dict[str, float]:
        counts = [len(_ids(self._tokeniser, text, len(text.encode()) + 8)) for text in self._texts(cell)]
        return {"tokens": sum(counts)} if counts else {}

    def encode(self, cell: Any) -> Array:
        texts = self._texts(cell)
        if not texts:
            if self._clean(cell) is None:
                raise CellError(f"a {type(cell).__name__} is not text")
            raise CellError("the text has no visible character")
        ids: list[int] = []
        for text in texts:
            ids += [APART] * bool(ids) + _ids(self._tokeniser, text, self.state["length"])
        return np.array(ids, dtype=np.int32)

    def extent(self, cell: Any) -> Array | None:
        """Return the number of characters and of words, and of each token its first character, the one after its last and
        its word, as ``signal/label_places.py`` reads them. Of several texts in a cell, each is a word, and the next one
        begins a character after it ends."""
        parts = self._parts(cell)
        cell = next((part for part in parts if self._clean(part)), parts[0])  # the first that is encoded
        text, written = self._clean(cell), plain(cell)
        if not text or self.stop:
            return None
        if isinstance(written, (list, tuple)) or _is_list(written):
            joined = _joined(written) or ""
            parts = joined.split(BREAK)
            ends = np.cumsum([len(part) for part in parts]).tolist()
            gap = len(BREAK)
            words_at = [(end - len(p) + i * gap, end + i * gap) for i, (p, end) in enumerate(zip(parts, ends, strict=True))]
            written, shift = joined, gap - 1
        else:
            written, shift = str(written), 0
            words_at = word_bounds(written)
        tokeniser, length = self._tokeniser, self.state["length"]
        if isinstance(tokeniser, PretrainedTokeniser):
            lead = len(written) - len(written.lstrip())
            offsets, places = tokeniser.offsets(text, length), list(range(lead, lead + len(text)))
        else:
            offsets = tokeniser.offsets(text)[:length]
            places = origins(written, text, self.form, self.lowercase)
        out = token_places(offsets, text, places, words_at, written)
        out[:, :2] -= shift * out[:, 2:].clip(0, max(len(words_at) - 1, 0))
        padded = np.zeros(2 + 3 * length, np.float32)
        padded[:2] = len(written) - shift * max(len(words_at) - 1, 0), len(words_at)
        padded[2 : 2 + out.size] = out.reshape(-1)
        return padded

    def framing(self, extent: Array) -> Array:
        """Map characters to themselves: where tokens lie is part of the extent."""
        return np.tile(np.array([[[1.0, 0.0]]], np.float32), (len(extent), 1, 1))

    def pieces(self, ids: Sequence[int]) -> list[str]:
        """Return the text of each of the token ``ids``, with the blank before a word; empty for special tokens."""
        texts, before = [], ""
        for i in range(len(ids)):
            text = self._tokeniser.decode(list(ids[: i + 1]))
            # Part of a character, or punctuation that later tokens change: decoded alone.
            texts.append(text[len(before) :] if text.startswith(before) else self._tokeniser.decode([ids[i]]))
            before = text
        return texts

    def blank(self) -> Array:
        return np.zeros(0, dtype=np.int32)

    def prepare(self, field: Field, generator: torch.Generator | None = None) -> Field:
        """Return ids ``[B, N]`` int64 of one text of each row; in training some are replaced by unknown, but never all."""
        import torch

        field = self._picked(field, generator) if self.alternatives == "pick" and field.mask is not None else field
        data = field.data.long()
        if generator is not None and self.drop and field.mask is not None:
            chance = torch.rand(data.shape, generator=generator, device=generator.device).to(data.device)
            lost = (chance < self.drop) & field.mask & (chance < chance.masked_fill(~field.mask, -1).amax(1, keepdim=True))
            words = self._tokeniser
            data = data.masked_fill(lost, words.unknown if isinstance(words, PretrainedTokeniser) else UNKNOWN)
        if field.mask is not None:
            data = data.masked_fill(~field.mask, PAD)
        return replace(field, data=data)

    def _picked(self, field: Field, generator: torch.Generator | None) -> Field:
        """One text of each row at the start of its ids: the first, or with ``generator`` any."""
        import torch

        assert field.mask is not None
        apart = (field.data == APART) & field.mask
        number = apart.cumsum(dim=1)
        picked = torch.zeros(len(number), dtype=torch.long, device=number.device)
        if generator is not None:
            chance = torch.rand(len(number), generator=generator, device=generator.device).to(number.device)
            picked = (chance * (1 + apart.sum(dim=1))).long()
        kept = (number == picked[:, None]) & ~apart & field.mask
        order = (~kept).to(torch.uint8).argsort(dim=1, stable=True)[:, : self.state["length"]]
        return replace(field, data=field.data.gather(1, order), mask=kept.gather(1, order))

    def prepare_target(self, field: Field, on: Field | None = None) -> Field:
        """Return ids ``[B, N]`` int64 as for an input, without dropping tokens."""
        return self.prepare(field)

    def decode(self, value: Array) -> str | list[str]:
        """Return the text of the ids ``value``; a list where the cell has several of which one is picked."""
        texts = [
            self._tokeniser.decode(part[part != APART].tolist()) for part in np.split(value, *np.nonzero(value == APART))
        ]
        return texts[0] if len(texts) == 1 else texts

    def _corrupted(self, value: Array, how: str, level: float, rng: np.random.Generator) -> Array:
        from sensorium.language.typos import with_typos

        value = value[: int(np.argmax(value == APART)) or len(value)]  # the first text is read
        if how == "deletion":
            chance = rng.random(len(value))
            # Keep at least one token: an empty text would be a missing value.
            left: Array = value[(chance >= level) | (chance == chance.max(initial=0.0))]
            return left
        text = with_typos(self._tokeniser.decode(value.tolist()), level, rng)
        ids = _ids(self._tokeniser, text, self.state["length"])
        return np.array(ids, dtype=np.int32) if ids else value[:1]

    @property
    def store_options(self) -> dict[str, Any]:
        return {**{k: v for k, v in chosen(self).items() if k not in ("drop", "load")}, "state": self.state}

    @property
    def _tokeniser(self) -> Tokeniser | PretrainedTokeniser:
        data = self.state["tokeniser"]
        if self._loaded is None or self._loaded[0] is not data:
            pretrained = data["kind"] == "pretrained"
            self._loaded = (data, PretrainedTokeniser.from_json(data) if pretrained else Tokeniser.from_json(data))
        return self._loaded[1]

    def _parts(self, cell: Any) -> list[Any]:
        """Return the texts of a cell, of which one is picked; the cell itself where it is one text, or joined."""
        cell = plain(cell)
        if self.alternatives == "pick" and (isinstance(cell, (list, tuple)) or _is_list(cell)):
            texts = _listed(cell)
            return [cell] if texts is None else texts[:MOST] or [""]
        return [cell]

    def _texts(self, cell: Any) -> list[str]:
        """Return the normalised texts of a cell, without empty ones."""
        return [text for text in map(self._clean, self._parts(cell)) if text]

    def _clean(self, cell: Any) -> str | None:
        """Return the normalised start of a cell; None where it is not text."""
        cell = plain(cell)
        if isinstance(cell, numbers.Number):
            cell = str(cell)
        elif isinstance(cell, (list, tuple)) or _is_list(cell):
            cell = _joined(cell)
        if not isinstance(cell, str):
            return None
        cell = plain(cell)
        begun: str = cell.lstrip()[: self.length * _CHARACTERS_A_TOKEN]
        text = normalise(begun, lowercase=self.lowercase, form=self.form)
        if self.checkpoint is not None and text:
            return begun.strip()  # a pretrained tokeniser applies its own normalisation
        if self.segmenter == "characters" and not self.stop:
            return text
        kept: Iterable[str] = remove_stopwords(words(text, self.segmenter), self.stop) if text else ()
        return " ".join(kept)


def _ids(tokeniser: Tokeniser | PretrainedTokeniser, text: str, length: int) -> list[int]:
    if isinstance(tokeniser, PretrainedTokeniser):
        return tokeniser.encode(text, length)
    return tokeniser.encode(text)[:length]


def _pretrained(name: str) -> PretrainedTokeniser:
    """Load the tokeniser of a checkpoint."""
    from sensorium.pretrained.checkpoint import Checkpoint

    checkpoint = Checkpoint(name)
    file = checkpoint.json("tokenizer.json")
    if not file:
        raise ConfigError(
            f"text: checkpoint {name!r} has no tokenizer.json",
            fix="AutoTokenizer.from_pretrained(...).save_pretrained(folder) of transformers writes one",
        )
    return PretrainedTokeniser(file, checkpoint.pad)


def _is_list(cell: Any) -> bool:
    """Whether a cell is a JSON list of texts, such as ``["one", "two"]``."""
    return isinstance(cell, str) and cell.lstrip()[:2] == '["' and cell.rstrip()[-2:] == '"]'


def _joined(cell: Any) -> str | None:
    """Join several texts into one with a separator; None where not all are texts."""
    texts = _listed(cell)
    return None if texts is None else BREAK.join(texts)


def _listed(cell: Any) -> list[str] | None:
    """Return the texts of a list, which may be written as JSON; None where not all are texts."""
    if isinstance(cell, str):
        try:
            cell = json.loads(cell)
        except (ValueError, RecursionError):
            return [str(cell)]
    texts = [part for part in cell if part is not None]
    return texts if all(isinstance(part, str) for part in texts) else None


def _unspaced(text: str) -> int:
    return sum("\u3040" <= c <= "\u30ff" or "\u3400" <= c <= "\u9fff" for c in text)


def _words(text: str) -> float:
    """Count words; two characters of an unspaced script count as one."""
    return len(text.split()) + _unspaced(text) / 2
