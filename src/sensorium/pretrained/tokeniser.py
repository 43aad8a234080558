"""The tokeniser of a pretrained network, with 0 for padding as everywhere here."""

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
    """Text to the ids of a ``tokenizer.json``, its special tokens included.

    Its padding id and 0 are exchanged: a token whose id was 0 gets the former padding id, so nothing is lost.

    Args:
        file: What ``tokenizer.json`` holds.
        pad: The padding id there.
    """

    file: dict[str, Any]
    pad: int

    @property
    def size(self) -> int:
        """The number of ids."""
        return max(int(self._tokenizer.get_vocab_size(with_added_tokens=True)), self.pad + 1)

    @property
    def words(self) -> tuple[str, ...]:
        """Empty: its tokens are pieces of words."""
        return ()

    @property
    def pieces(self) -> tuple[str, ...]:
        """Empty: each family spells in signs of its own."""
        return ()

    @cached_property
    def unknown(self) -> int:
        """The id of what is hidden or unknown, as this file names it; the padding's where it names none."""
        for name in ("[MASK]", "<mask>", "[UNK]", "<unk>"):
            found = self._tokenizer.token_to_id(name)
            if found is not None:
                return self._exchanged(int(found))
        return 0

    def encode(self, text: str, length: int) -> list[int]:
        """At most ``length`` ids of ``text``; what is cut is cut before the closing special token."""
        tokenizer = self._tokenizer
        whole = tokenizer.encode(text, add_special_tokens=False)
        room = max(0, length - int(tokenizer.num_special_tokens_to_add(False)))
        whole.truncate(room)
        return [self._exchanged(i) for i in tokenizer.post_process(whole).ids][:length]

    def decode(self, ids: list[int]) -> str:
        """The text of ``ids``, without padding and special tokens."""
        return str(self._tokenizer.decode([self._exchanged(i) for i in ids if i], skip_special_tokens=True))

    def to_json(self) -> dict[str, Any]:
        """The tokeniser as plain JSON."""
        return {"kind": "pretrained", "file": self.file, "pad": self.pad}

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Self:
        """The tokeniser that ``to_json`` described as ``data``."""
        file, pad = data.get("file"), data.get("pad")
        if not isinstance(file, dict) or type(pad) is not int or not 0 <= pad < 1 << 24:
            raise ConfigError("text: what is kept of the checkpoint's tokeniser does not hold together")
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
            tokenizer.encode("a word")  # what only shows when it is used
        except BaseException as error:  # the library raises bare exceptions, and of its panics a kind that is not one
            if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
                raise
            raise ConfigError(f"text: the checkpoint's tokenizer.json cannot be used: {str(error)[:300]}") from None
        return tokenizer
