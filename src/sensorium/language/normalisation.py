"""Unicode normalisation of text."""

from __future__ import annotations

import re
import unicodedata
from typing import Literal

Form = Literal["NFKC", "NFC"]

# Control characters, soft hyphens, direction marks, byte order marks and lone surrogates. The joiners of emoji and of
# Indic and Persian scripts are kept, since they carry meaning.
_INVISIBLE = re.compile(
    "[\x00-\x08\x0e-\x1b\x7f-\x84\x86-\x9f\xad\u061c\u180e\u200b\u200e\u200f\u202a-\u202e\u2060-\u206f\ufeff"
    "\ufff9-\ufffb\ud800-\udfff]"
)
_SPACE = re.compile(r"\s+")


def normalise(text: str, *, lowercase: bool = True, form: Form = "NFKC") -> str:
    """Normalise ``text``: Unicode form, no control characters, single spaces, none at the ends. It is idempotent.

    Args:
        text: The text.
        lowercase: Whether to lowercase; ``İ`` and other rare letters may lose their dots.
        form: NFKC makes ``①`` and ``ｗｉｄｅ`` equal to ``1`` and ``wide``; NFC keeps them distinct.
    """
    text = unicodedata.normalize(form, _INVISIBLE.sub("", text))
    if lowercase:
        text = unicodedata.normalize(form, text.lower())
    return _SPACE.sub(" ", text).strip()
