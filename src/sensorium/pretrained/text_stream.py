"""The text of tokens that arrive one by one."""

from __future__ import annotations

from sensorium.pretrained.chat_tokeniser import ChatTokeniser

_UNFINISHED = "\ufffd"


class TextStream:
    """Turns the tokens of an answer into pieces of text, which together are ``words.decode`` of all tokens.

    Each token is decoded together with the few before it, so that the cost of a token does not grow with the answer. A
    piece may be empty: a letter may be several tokens, and blanks are held back until text follows them.

    Args:
        words: The tokeniser.
    """

    def __init__(self, words: ChatTokeniser) -> None:
        self._words = words
        self._ids: list[int] = []  # since the beginning of the last piece
        self._read = 0  # how many of them are part of a piece
        self._begun = False
        self._blanks = ""

    def push(self, token: int) -> str:
        """Add ``token`` and return the text that it completes."""
        self._ids.append(token)
        return self._piece(final=False)

    def finish(self) -> str:
        """Return the rest of the text, where the last letter is not complete."""
        return self._piece(final=True)

    def _piece(self, *, final: bool) -> str:
        before = self._words.decode_part(self._ids[: self._read])
        text = self._words.decode_part(self._ids)
        if len(text) <= len(before) or (text.endswith(_UNFINISHED) and not final):
            return ""
        self._ids, self._read = self._ids[self._read :], len(self._ids) - self._read
        return self._trimmed(text[len(before) :])

    def _trimmed(self, text: str) -> str:
        """``text`` without blanks before the first letter of the answer, and those after its last one so far."""
        text = self._blanks + text
        if not self._begun:
            text = text.lstrip()
        kept = text.rstrip()
        self._blanks = text[len(kept) :]
        self._begun = self._begun or bool(kept)
        return kept
