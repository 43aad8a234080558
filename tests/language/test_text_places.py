"""Places of tokens in the text as it was written."""

from __future__ import annotations

import random
from typing import Any, get_args

import numpy as np
import pytest

from sensorium.language.normalisation import normalise
from sensorium.language.text_places import origins, word_bounds
from sensorium.language.tokeniser import Kind
from sensorium.modalities.text import Text

TEXTS: list[Any] = [
    "  Anna Bell\tlives in  New York, ﬁne Café.",
    "我爱北京 Tian'anmen ①②",
    "Cafe\u0301 ＷＩＤＥ soft\u00adhyphen",
]


@pytest.mark.parametrize("kind", get_args(Kind))
def test_tokens_are_found_in_the_written_text(kind: Kind) -> None:
    text = Text(tokeniser=kind)
    text.fit(TEXTS)
    for cell in TEXTS:
        extent = text.extent(cell)
        assert extent is not None
        assert extent[:2].tolist() == [len(cell), len(word_bounds(cell))]
        ids = text.encode(cell).tolist()
        for piece, (start, end, word) in zip(text.pieces(ids), extent[2:].reshape(-1, 3), strict=False):
            written = cell[int(start) : int(end)]
            if written:
                wanted = normalise(written)
                assert piece.strip() in wanted or wanted in piece.strip(), (piece, written)
                first, last = word_bounds(cell)[int(word)]
                assert first <= start < end <= last


def test_parts_of_a_list_are_words() -> None:
    text = Text(tokeniser="word")
    text.fit([["Anna", "is in", "Rome"]])
    extent = text.extent(["Anna", "is in", "Rome"])
    assert extent is not None
    assert extent[:2].tolist() == [len("Anna is in Rome"), 3]
    visible = [tuple(part) for part in extent[2:].reshape(-1, 3).astype(int).tolist() if part[0] < part[1]]
    assert visible == [(0, 4, 0), (5, 7, 1), (8, 10, 1), (11, 15, 2)]


def test_places_ascend_and_hold_the_same_letter() -> None:
    draw = random.Random(0)
    letters = "aB é\u0301ﬁ\t 中①Ｗ\u200b-'ß\u0130"
    for _ in range(200):
        written = "".join(draw.choice(letters) for _ in range(draw.randrange(1, 25)))
        processed = normalise(written)
        places = origins(written, processed, "NFKC", True)
        assert len(places) == len(processed)
        assert places == sorted(places)
        assert all(0 <= place < len(written) for place in places)


def test_text_without_stop_words_has_no_places() -> None:
    text = Text(stop="english")
    text.fit(["the cat sits"])
    assert text.extent("the cat sits") is None
    assert np.isfinite(text.framing(np.zeros((2, 5)))).all()
