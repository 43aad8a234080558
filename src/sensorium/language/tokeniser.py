"""Tokenisers learnt from the text at hand: pieces (BPE), words or characters."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING, Any, Literal, Self

if TYPE_CHECKING:
    from tokenizers import Tokenizer

Kind = Literal["bpe", "word", "character"]

PAD, UNKNOWN = 0, 1
_SPECIAL = ("<pad>", "<unknown>")
_BLANK = "▁"
# Scripts written without blanks: each character is a piece of its own, so that a rare compound is not one unknown word.
UNSPACED = (
    "\u2e80-\u2fdf\u3005-\u3007\u3040-\u30ff\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
)
UNSPACED += "\u0e00-\u0e7f\u0e80-\u0eff\u1000-\u109f\u1780-\u17ff"


@dataclass(frozen=True)
class Tokeniser:
    """Text to ids and back: 0 pads, 1 is unknown, then the tokens in ``tokens``. Plain data: ``to_json`` is all of it.

    Args:
        kind: What a token is.
        tokens: The known tokens; the first has id 2. A leading ``▁`` stands for a blank before it.
        merges: For ``bpe``: which pairs are joined, the most frequent first.
    """

    kind: Kind
    tokens: tuple[str, ...]
    merges: tuple[tuple[str, str], ...] = ()

    @classmethod
    def train(cls, texts: Iterable[str], kind: Kind = "bpe", vocabulary: int = 8000) -> Self:
        """The tokeniser of at most ``vocabulary`` ids that fits ``texts`` best. The same texts give the same tokeniser."""
        room = max(vocabulary - len(_SPECIAL), 1)
        texts = [text.replace(_BLANK, "_") for text in texts]
        if kind == "bpe":
            return cls(kind, *_pairs(texts, room))
        splitter = _splitter(kind)
        return cls(kind, tuple(_frequent((piece for text in texts for piece, _ in splitter.pre_tokenize_str(text)), room)))

    @property
    def size(self) -> int:
        """The number of ids, padding and unknown among them."""
        return len(_SPECIAL) + len(self.tokens)

    def encode(self, text: str) -> list[int]:
        """The ids of ``text``."""
        ids: list[int] = self._tokenizer.encode(text.replace(_BLANK, "_"), add_special_tokens=False).ids
        return ids

    def decode(self, ids: Sequence[int]) -> str:
        """The text of ``ids``; padding and ids that stand for nothing are left out, unknown is ``�``."""
        pieces = ["�" if i == UNKNOWN else self.tokens[i - 2] for i in ids if 0 < i < self.size]
        if self.kind == "word":
            return " ".join(pieces)
        return "".join(pieces).replace(_BLANK, " ").strip()

    def to_json(self) -> dict[str, Any]:
        return {"kind": self.kind, "tokens": list(self.tokens), "merges": [list(pair) for pair in self.merges]}

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Self:
        return cls(data["kind"], tuple(data["tokens"]), tuple((a, b) for a, b in data["merges"]))

    @cached_property
    def _tokenizer(self) -> Tokenizer:
        from tokenizers import Tokenizer
        from tokenizers.models import BPE, WordLevel

        ids = {token: i for i, token in enumerate((*_SPECIAL, *self.tokens))}
        unknown = _SPECIAL[UNKNOWN]
        bpe = self.kind == "bpe"
        tokenizer = Tokenizer(BPE(ids, list(self.merges), unk_token=unknown) if bpe else WordLevel(ids, unk_token=unknown))
        tokenizer.pre_tokenizer = _splitter(self.kind)
        return tokenizer


@lru_cache(maxsize=3)
def _splitter(kind: Kind) -> Any:
    """Where no token may reach across: words, and each mark and each unspaced character alone."""
    from tokenizers import Regex, pre_tokenizers

    if kind == "character":
        return pre_tokenizers.Split(Regex(r"[\s\S]"), "isolated")
    if kind == "word":
        alone = pre_tokenizers.Split(Regex(f"[{UNSPACED}]|[\\p{{P}}\\p{{S}}]"), "isolated")
        return pre_tokenizers.Sequence([pre_tokenizers.WhitespaceSplit(), alone])
    # A piece keeps the blank before it, so that text comes back from its ids; digits stand alone, for numbers are endless.
    one = Regex(f"{_BLANK}?[{UNSPACED}]|{_BLANK}?[\\p{{P}}\\p{{S}}\\p{{N}}&&[^{_BLANK}]]")
    alone = pre_tokenizers.Split(one, "isolated")
    return pre_tokenizers.Sequence([pre_tokenizers.Metaspace(replacement=_BLANK, prepend_scheme="always"), alone])


def _pairs(texts: list[str], room: int) -> tuple[tuple[str, ...], tuple[tuple[str, str], ...]]:
    """The tokens and merges of byte pair encoding (Sennrich et al. 2016, https://arxiv.org/abs/1508.07909)."""
    from tokenizers import Tokenizer
    from tokenizers.models import BPE
    from tokenizers.trainers import BpeTrainer

    # Chosen here, for the library breaks ties among rare characters by chance; half the room is left for merges.
    alphabet = _frequent((c for text in texts for c in text if c != " "), max(room // 2, room - 4000, 1))
    alphabet = [_BLANK, *alphabet][:room]
    tokenizer = Tokenizer(BPE())
    tokenizer.pre_tokenizer = _splitter("bpe")
    trainer = BpeTrainer(
        vocab_size=room,
        min_frequency=2,
        show_progress=False,
        initial_alphabet=alphabet,
        limit_alphabet=len(alphabet),
        max_token_length=16,
    )
    with _one_thread():
        tokenizer.train_from_iterator(texts, trainer)
    model = json.loads(tokenizer.to_str())["model"]
    tokens = sorted(model["vocab"], key=model["vocab"].__getitem__)
    return tuple(tokens), tuple((a, b) for a, b in model["merges"])


def _frequent(counts: Iterable[str], limit: int) -> list[str]:
    """The most frequent items, equally frequent ones in the order of their characters."""
    ranked = sorted(Counter(counts).items(), key=lambda pair: (-pair[1], pair[0]))
    return [item for item, _ in ranked[:limit]]


@contextmanager
def _one_thread() -> Iterator[None]:
    # A library that has once used its threads complains at every later fork of a data loader.
    before = os.environ.get("TOKENIZERS_PARALLELISM")
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    try:
        yield
    finally:
        if before is None:
            del os.environ["TOKENIZERS_PARALLELISM"]
        else:
            os.environ["TOKENIZERS_PARALLELISM"] = before
