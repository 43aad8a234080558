"""Tokenisers, trained on texts or loaded: subwords (BPE, WordPiece, unigram), words or characters."""

from __future__ import annotations

import json
import math
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self

from sensorium.core.errors import ConfigError
from sensorium.core.load_guard import check_open
from sensorium.language.tokeniser_limits import check_growth

if TYPE_CHECKING:
    from tokenizers import Tokenizer

Kind = Literal["bpe", "wordpiece", "unigram", "word", "character"]

PAD, UNKNOWN = 0, 1
_SPECIAL = ("<pad>", "<unknown>")
_BLANK = "▁"
# Scripts without spaces: each character is a piece, so that a rare compound is not an unknown word.
UNSPACED = (
    "\u2e80-\u2fdf\u3005-\u3007\u3040-\u30ff\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
)
UNSPACED += "\u0e00-\u0e7f\u0e80-\u0eff\u1000-\u109f\u1780-\u17ff"
_LARGEST_FILE = 64 << 20


@dataclass(frozen=True)
class Tokeniser:
    """Converts text to ids and back: 0 is padding, 1 is unknown, then follow ``tokens``. ``to_json`` has all its state.

    Args:
        kind: The kind of tokens.
        tokens: The known tokens; the first has id 2. A leading ``▁`` represents a preceding space.
        merges: For ``bpe``: the merged pairs, the most frequent first.
        scores: For ``unigram``: the log probability of each token.
        segmented: Whether texts are already split into words by spaces, so that unspaced scripts are not split again.
        loaded: The contents of ``tokenizer.json`` if it was loaded; its ids are shifted by two.
    """

    kind: Kind
    tokens: tuple[str, ...]
    merges: tuple[tuple[str, str], ...] = ()
    scores: tuple[float, ...] = ()
    segmented: bool = False
    loaded: str = ""

    @classmethod
    def train(cls, texts: Iterable[str], kind: Kind = "bpe", vocabulary: int = 8000, *, segmented: bool = False) -> Self:
        """Train a tokeniser. The same texts give the same tokeniser.

        Args:
            texts: The training texts.
            kind: The kind of tokens.
            vocabulary: Maximum number of ids.
            segmented: Whether the texts are already split into words by spaces.
        """
        room = max(vocabulary - len(_SPECIAL), 1)
        texts = [text.replace(_BLANK, "_") for text in texts]
        if kind == "bpe":
            return cls(kind, *_pairs(texts, room, segmented), segmented=segmented)
        if kind == "wordpiece":
            return cls(kind, _wordpieces(texts, room, segmented), segmented=segmented)
        if kind == "unigram":
            tokens, scores = _unigrams(texts, room, segmented)
            return cls(kind, tokens, scores=scores, segmented=segmented)
        splitter = _splitter(kind, segmented)
        pieces = (piece for text in texts for piece, _ in splitter.pre_tokenize_str(text))
        return cls(kind, tuple(_frequent(pieces, room)), segmented=segmented)

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Load the file ``path`` (``tokenizer.json`` of the tokenizers library), which is plain JSON without code.

        Raises:
            ConfigError: The file cannot be read, is too large, or is not a tokeniser.
        """
        from tokenizers import Tokenizer

        check_open(str(path))
        path = Path(path)
        try:
            if path.stat().st_size > _LARGEST_FILE:
                raise ConfigError("is larger than 64 MiB: not a tokeniser", file=path)
            text = path.read_text(encoding="utf-8")
            check_growth(json.loads(text))
            tokenizer = Tokenizer.from_str(text)
        except OSError as error:
            raise ConfigError(f"cannot be read: {error.strerror}", file=path) from None
        except ConfigError:
            raise
        except Exception as error:  # the library raises bare Exception
            raise ConfigError(f"is not a valid tokenizer.json: {error}", file=path) from None
        tokenizer.no_padding()
        tokenizer.no_truncation()
        ids = tokenizer.get_vocab()
        tokens = [""] * (1 + max(ids.values(), default=-1))
        for token, i in ids.items():
            tokens[i] = token
        kind = {"BPE": "bpe", "WordPiece": "wordpiece", "Unigram": "unigram"}.get(type(tokenizer.model).__name__, "word")
        return cls(kind, tuple(tokens), loaded=tokenizer.to_str())  # type: ignore[arg-type]

    @property
    def size(self) -> int:
        """The number of ids, including padding and unknown."""
        return len(_SPECIAL) + len(self.tokens)

    @property
    def words(self) -> tuple[str, ...]:
        """The word of each id; empty for padding, unknown and parts of words."""
        marked = any(token.startswith(_BLANK) for token in self.tokens)
        plain = (
            (token[1:] if token.startswith(_BLANK) else "") if marked else "" if token.startswith("##") else token
            for token in self.tokens
        )
        return ("", "", *plain)

    @property
    def pieces(self) -> tuple[str, ...]:
        """The text of each id, with a space before the beginning of a word; empty for padding.

        The tuple is empty for a loaded tokeniser, which may use its own encoding.
        """
        if self.loaded:
            return ()
        if self.kind == "word":
            spelt = tuple(f" {token}" for token in self.tokens)
        elif self.kind == "wordpiece":
            spelt = tuple(token[2:] if token.startswith("##") else f" {token}" for token in self.tokens)
        else:
            spelt = tuple(token.replace(_BLANK, " ") for token in self.tokens)
        return ("", "�", *spelt)

    def encode(self, text: str) -> list[int]:
        """Return the ids of ``text``."""
        if self.loaded:
            return [i + len(_SPECIAL) for i in self._tokenizer.encode(text, add_special_tokens=False).ids]
        ids: list[int] = self._tokenizer.encode(text.replace(_BLANK, "_"), add_special_tokens=False).ids
        return ids

    def offsets(self, text: str) -> list[tuple[int, int]]:
        """Return the first character of each token of ``text`` and the one after its last."""
        shown = text if self.loaded else text.replace(_BLANK, "_")
        return [(int(a), int(b)) for a, b in self._tokenizer.encode(shown, add_special_tokens=False).offsets]

    def decode(self, ids: Sequence[int]) -> str:
        """Return the text of ``ids``, without padding and undefined ids; unknown is ``�``."""
        if self.loaded:
            own_ids = [i - len(_SPECIAL) for i in ids if len(_SPECIAL) <= i < self.size]
            return str(self._tokenizer.decode(own_ids))
        pieces = ["�" if i == UNKNOWN else self.tokens[i - 2] for i in ids if 0 < i < self.size]
        if self.kind == "word":
            return " ".join(pieces)
        if self.kind == "wordpiece":
            return " ".join(pieces).replace(" ##", "")
        return "".join(pieces).replace(_BLANK, " ").strip()

    def to_json(self) -> dict[str, Any]:
        """Return the tokeniser as JSON data."""
        more = {"scores": list(self.scores), "segmented": self.segmented, "loaded": self.loaded}
        plain = {"kind": self.kind, "tokens": list(self.tokens), "merges": [list(pair) for pair in self.merges]}
        return plain | {key: value for key, value in more.items() if value}

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Self:
        """Return the tokeniser saved as ``data`` by ``to_json``."""
        merges = tuple((a, b) for a, b in data["merges"])
        scores, segmented = tuple(data.get("scores", ())), bool(data.get("segmented", False))
        return cls(data["kind"], tuple(data["tokens"]), merges, scores, segmented, data.get("loaded", ""))

    @cached_property
    def _tokenizer(self) -> Tokenizer:
        from tokenizers import Tokenizer
        from tokenizers.models import BPE, Unigram, WordLevel, WordPiece

        if self.loaded:
            try:
                check_growth(json.loads(self.loaded))
            except (TypeError, ValueError, AttributeError, RecursionError) as error:
                raise ConfigError(f"text: the tokeniser cannot be used: {error}") from None
            return Tokenizer.from_str(self.loaded)
        ids = {token: i for i, token in enumerate((*_SPECIAL, *self.tokens))}
        unknown = _SPECIAL[UNKNOWN]
        if self.kind == "bpe":
            model: Any = BPE(ids, list(self.merges), unk_token=unknown)
        elif self.kind == "wordpiece":
            model = WordPiece(ids, unk_token=unknown, max_input_chars_per_word=200)
        elif self.kind == "unigram":
            rare = min(self.scores, default=0.0) - 10.0
            pairs = [(_SPECIAL[0], rare), (unknown, rare), *zip(self.tokens, self.scores, strict=True)]
            model = Unigram(pairs, unk_id=UNKNOWN)
        else:
            model = WordLevel(ids, unk_token=unknown)
        tokenizer = Tokenizer(model)
        tokenizer.pre_tokenizer = _splitter(self.kind, self.segmented)
        return tokenizer


@lru_cache(maxsize=10)
def _splitter(kind: Kind, segmented: bool) -> Any:
    """Return the splitter at whose boundaries tokens end: words, punctuation and (unless segmented) unspaced characters."""
    from tokenizers import Regex, pre_tokenizers

    unspaced = "" if segmented else f"[{UNSPACED}]|"
    if kind == "character":
        return pre_tokenizers.Split(Regex(r"[\s\S]"), "isolated")
    if kind in ("word", "wordpiece"):
        alone = pre_tokenizers.Split(Regex(f"{unspaced}[\\p{{P}}\\p{{S}}]"), "isolated")
        return pre_tokenizers.Sequence([pre_tokenizers.WhitespaceSplit(), alone])
    # A piece keeps the space before it, so that decoding restores the text; digits are separate, as numbers are endless.
    unspaced = "" if segmented else f"{_BLANK}?[{UNSPACED}]|"
    single = Regex(f"{unspaced}{_BLANK}?[\\p{{P}}\\p{{S}}\\p{{N}}&&[^{_BLANK}]]")
    alone = pre_tokenizers.Split(single, "isolated")
    return pre_tokenizers.Sequence([pre_tokenizers.Metaspace(replacement=_BLANK, prepend_scheme="always"), alone])


def _alphabet(texts: list[str], room: int) -> list[str]:
    """Return the characters of all pieces, chosen here since the library breaks ties of rare ones at random.

    Half of the vocabulary is left for longer pieces.
    """
    return _frequent((c for text in texts for c in text if c != " "), max(room // 2, room - 4000, 1))


def _pairs(texts: list[str], room: int, segmented: bool) -> tuple[tuple[str, ...], tuple[tuple[str, str], ...]]:
    """Train the tokens and merges of byte pair encoding (Sennrich et al. 2016, https://arxiv.org/abs/1508.07909)."""
    from tokenizers import Tokenizer
    from tokenizers.models import BPE
    from tokenizers.trainers import BpeTrainer

    alphabet = [_BLANK, *_alphabet(texts, room)][:room]
    tokenizer = Tokenizer(BPE())
    tokenizer.pre_tokenizer = _splitter("bpe", segmented)
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


def _wordpieces(texts: list[str], room: int, segmented: bool) -> tuple[str, ...]:
    """Train pieces that start a word, and pieces (``##``) that continue one (https://arxiv.org/abs/1609.08144, § 4.1).

    Pairs are merged as in byte pair encoding; encoding uses the longest match. The trainer of the library does the
    same, but orders the pieces at random.
    """
    tokens, _ = _pairs(texts, room, segmented)
    alphabet = [token for token in tokens if len(token) == 1 and token != _BLANK]
    longer = [t[1:] if t.startswith(_BLANK) else f"##{t}" for t in tokens if len(t) > 1]
    return tuple(dict.fromkeys([*alphabet, *(f"##{c}" for c in alphabet), *longer]))[:room]


def _unigrams(texts: list[str], room: int, segmented: bool) -> tuple[tuple[str, ...], tuple[float, ...]]:
    """Train pieces with their log probabilities (Kudo 2018, https://arxiv.org/abs/1804.10959)."""
    from tokenizers import Tokenizer
    from tokenizers.models import Unigram
    from tokenizers.trainers import UnigramTrainer

    alphabet = [_BLANK, *_alphabet(texts, room)][:room]
    known = set(alphabet)
    # The library fails if a character does not fit into the vocabulary.
    texts = ["".join(c if c in known else " " for c in text) for text in texts]
    if len(alphabet) + 2 >= room or not any(text.strip() for text in texts):
        count = Counter(c if c != " " else _BLANK for text in texts for c in text)
        return tuple(alphabet), tuple(math.log((1 + count[c]) / (1 + count.total())) for c in alphabet)
    tokenizer = Tokenizer(Unigram())
    tokenizer.pre_tokenizer = _splitter("unigram", segmented)
    trainer = UnigramTrainer(
        vocab_size=room, show_progress=False, initial_alphabet=alphabet, unk_token=_SPECIAL[UNKNOWN], max_piece_length=16
    )
    with _one_thread():
        tokenizer.train_from_iterator(texts, trainer)
    vocabulary = json.loads(tokenizer.to_str())["model"]["vocab"]
    # The library sums in varying order: the last digits are noise, and ties need a fixed order.
    scored = ((token, round(float(score), 6)) for token, score in vocabulary if token not in _SPECIAL)
    pairs = sorted(scored, key=lambda pair: (-pair[1], pair[0]))[:room]
    return tuple(t for t, _ in pairs), tuple(s for _, s in pairs)


def _frequent(counts: Iterable[str], limit: int) -> list[str]:
    """Return the most frequent items; ties are in the order of their characters."""
    ranked = sorted(Counter(counts).items(), key=lambda pair: (-pair[1], pair[0]))
    return [item for item, _ in ranked[:limit]]


@contextmanager
def _one_thread() -> Iterator[None]:
    # Once the library has used threads, it warns at every later fork of a data loader.
    before = os.environ.get("TOKENIZERS_PARALLELISM")
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    try:
        yield
    finally:
        if before is None:
            del os.environ["TOKENIZERS_PARALLELISM"]
        else:
            os.environ["TOKENIZERS_PARALLELISM"] = before
