"""Transcripts: the units that suit the training cells, and what is left of a cell."""

from __future__ import annotations

import pytest

from sensorium.core.errors import CellError
from sensorium.modalities.transcript import Transcript


def fitted(cells: list[str], **options: object) -> Transcript:
    transcript = Transcript(**options)  # type: ignore[arg-type]
    transcript.fit(iter(cells))
    return transcript


def test_few_frequent_words_are_units() -> None:
    transcript = fitted(["one two", "two three", "three one"] * 4)
    assert transcript.recognises == "words"
    assert transcript.decode(transcript.encode("Two, one!")) == "two one"
    assert transcript.decode(transcript.encode("two four")) == "two �"


def test_rare_words_are_spelt() -> None:
    transcript = fitted(["one two", "two three", "three one"] * 4 + ["a rare one"])
    assert transcript.recognises == "characters"
    assert transcript.decode(transcript.encode("none are rarer")) == "none are rarer"


def test_long_texts_have_subwords() -> None:
    cells = [
        f"the {a}ing {b} is {a}ed {n}" for n in range(3000) for a, b in (("walk", "dog"), ("play", "cat"), ("cook", "man"))
    ]
    transcript = fitted(cells)
    assert transcript.recognises == "subwords"
    assert transcript.decode(transcript.encode(cells[5])) == cells[5]
    assert len(transcript.encode(cells[5])) < len(cells[5]) / 2


def test_scripts_without_blanks_have_characters() -> None:
    transcript = fitted(["今天天气很好", "明天天气不好", "天气很好吗"] * 10)
    assert transcript.recognises == "characters"
    assert transcript.decode(transcript.encode("今天很好。")) == "今天很好"


def test_punctuation_is_optional() -> None:
    cells = ["don't stop - now!", "well-known “facts”"] * 3
    assert fitted(cells, units="characters").decode(fitted(cells, units="characters").encode(cells[0])) == "don't stop now"
    kept = fitted(cells, units="characters", punctuation=True)
    assert kept.decode(kept.encode(cells[0])) == cells[0]


def test_what_is_no_text_is_refused() -> None:
    transcript = fitted(["one two"] * 6)
    with pytest.raises(CellError, match="no letter and no digit"):
        transcript.encode("?!")
    with pytest.raises(CellError, match="is not text"):
        transcript.encode(["one"])
    assert transcript.missing("")
    assert not transcript.missing("none")
