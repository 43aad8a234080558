"""Tokenisers of pretrained networks, with padding id 0."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Self

from sensorium.core.errors import ConfigError
from sensorium.language.tokeniser_limits import check_growth

if TYPE_CHECKING:
    from tokenizers import Tokenizer


@dataclass(frozen=True)
class PretrainedTokeniser:
    """Tokeniser from a ``tokenizer.json``, including its special tokens.

    Its padding id is swapped with id 0, so every token keeps an id.

    Args:
        file: The contents of ``tokenizer.json``.
        pad: The padding id in it.
    """

    file: dict[str, Any]
    pad: int

    @property
    def size(self) -> int:
        """The number of ids."""
        return max(int(self._tokenizer.get_vocab_size(with_added_tokens=True)), self.pad + 1)

    @property
    def words(self) -> tuple[str, ...]:
        """Always empty: tokens are subwords."""
        return ()

    @property
    def pieces(self) -> tuple[str, ...]:
        """Always empty: the spelling of subwords differs between families."""
        return ()

    @cached_property
    def unknown(self) -> int:
        """The id of the mask or unknown token; the padding id if there is neither."""
        for name in ("[MASK]", "<mask>", "[UNK]", "<unk>"):
            token_id = self._tokenizer.token_to_id(name)
            if token_id is not None:
                return self._exchanged(int(token_id))
        return 0

    def encode(self, text: str, length: int) -> list[int]:
        """Return at most ``length`` ids of ``text``; truncation keeps the closing special token."""
        return [self._exchanged(i) for i in self._encoded(text, length).ids][:length]

    def offsets(self, text: str, length: int) -> list[tuple[int, int]]:
        """Return the first character of each of at most ``length`` tokens of ``text`` and the one after its last; of
        special tokens, nothing between 0 and 0."""
        return [(int(a), int(b)) for a, b in self._encoded(text, length).offsets][:length]

    def _encoded(self, text: str, length: int) -> Any:
        tokenizer = self._tokenizer
        whole = tokenizer.encode(text, add_special_tokens=False)
        room = max(0, length - int(tokenizer.num_special_tokens_to_add(False)))
        whole.truncate(room)
        return tokenizer.post_process(whole)

    def decode(self, ids: list[int]) -> str:
        """Return the text of ``ids``, without padding and special tokens."""
        return str(self._tokenizer.decode([self._exchanged(i) for i in ids if i], skip_special_tokens=True))

    def to_json(self) -> dict[str, Any]:
        """Return the saved form of the tokeniser."""
        return {"kind": "pretrained", "file": self.file, "pad": self.pad}

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Self:
        """Restore a tokeniser from ``data`` as returned by ``to_json``."""
        file, pad = data.get("file"), data.get("pad")
        if not isinstance(file, dict) or type(pad) is not int or not 0 <= pad < 1 << 24:
            raise ConfigError("text: the saved tokeniser of the checkpoint is inconsistent")
        return cls(file, pad)

    def _exchanged(self, i: int) -> int:
        return self.pad if i == 0 else 0 if i == self.pad else i

    @cached_property
    def _tokenizer(self) -> Tokenizer:
        from tokenizers import Tokenizer

        try:
            check_growth(self.file)
            tokenizer = Tokenizer.from_str(json.dumps(self.file))
            tokenizer.no_truncation()
            tokenizer.no_padding()
            tokenizer.encode("a word")  # some errors only appear in use
        except BaseException as error:  # the library's panics are not subclasses of Exception
            if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
                raise
            raise ConfigError(f"text: the checkpoint's tokenizer.json cannot be used: {str(error)[:300]}") from None
        return tokenizer
