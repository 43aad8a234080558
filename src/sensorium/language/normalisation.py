"""Text made uniform, so that what looks the same is the same."""

from __future__ import annotations

import re
import unicodedata
from typing import Literal

Form = Literal["NFKC", "NFC"]

# Control characters, soft hyphens, marks of direction, byte order marks and lone surrogates; the joiners of emoji and of
# Indic and Persian script stay, for they carry meaning.
_UNSEEN = re.compile(
    "[\x00-\x08\x0e-\x1b\x7f-\x84\x86-\x9f\xad\u061c\u180e\u200b\u200e\u200f\u202a-\u202e\u2060-\u206f\ufeff"
    "\ufff9-\ufffb\ud800-\udfff]"
)
_SPACE = re.compile(r"\s+")


def normalise(text: str, *, lowercase: bool = True, form: Form = "NFKC") -> str:
    """``text`` in a Unicode form, without control characters, each run of white space one blank, none at the ends.

    NFKC makes ``①`` and ``ｗｉｄｅ`` the same as ``1`` and ``wide``, NFC keeps them apart. Doing it twice changes nothing.
    Lowercasing is for matching, so ``İ`` and other rare letters may lose their dots.
    """
    text = unicodedata.normalize(form, _UNSEEN.sub("", text))
    if lowercase:
        text = unicodedata.normalize(form, text.lower())
    return _SPACE.sub(" ", text).strip()
