"""Numbers, dates and text as people write them, and tokenisers."""

from __future__ import annotations

import calendar
import json
import math
import os
import subprocess
import sys
import unicodedata
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sensorium.language.datetimes import day_month_order, read_datetime
from sensorium.language.normalisation import normalise
from sensorium.language.numbers import read_number
from sensorium.language.tokeniser import UNKNOWN, Tokeniser

CORPUS = [f"the quick brown fox number {i} jumps over the lazy dog, 你好世界 {i * 37}!" for i in range(200)]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1,234.5", 1234.5),
        ("1.234,5", 1234.5),
        ("1.234.567", 1234567.0),
        ("1 234,5", 1234.5),
        ("1,234", 1234.0),
        ("0,125", 0.125),
        ("1,5", 1.5),
        ("12 %", 12.0),
        ("$3", 3.0),
        ("-$3", -3.0),
        ("5 €", 5.0),
        ("−4", -4.0),
        ("1e-3", 0.001),
        ("１２", 12.0),
        ("nan", None),
        ("-inf", None),
        ("infinity", None),
        ("1e999", None),
        ("1_000", None),
        ("1,23,4", None),
        ("12abc", None),
        ("", None),
        ("9" * 100, None),
    ],
)
def test_formats_of_numbers(text: str, value: float | None) -> None:
    assert read_number(text) == value


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_every_float_is_read_exactly(value: float) -> None:
    assert read_number(repr(value)) == value
    assert read_number(np.float64(value)) == value


@given(st.integers(0, 10**12))
def test_thousands_separators(value: int) -> None:
    assert read_number(f"{value:,}") == value
    assert read_number(f"{value:,}".replace(",", " ")) == value


@given(st.one_of(st.text(), st.binary(), st.lists(st.integers()), st.complex_numbers()))
def test_any_cell_gives_none_or_a_finite_number(cell: object) -> None:
    value = read_number(cell)
    assert value is None or math.isfinite(value)


@given(st.datetimes(datetime(1970, 1, 1), datetime(2069, 12, 31)).map(lambda d: d.replace(microsecond=0)))
def test_formats_of_dates(moment: datetime) -> None:
    clock = f"{moment:%H:%M:%S}"
    seconds = (moment - datetime(1970, 1, 1)).total_seconds()
    month = calendar.month_name[moment.month]
    half = "pm" if moment.hour >= 12 else "am"
    same = [
        moment,
        np.datetime64(moment),
        moment.isoformat(),
        f"{moment.day}.{moment.month}.{moment.year} {clock}",
        f"{moment.day:02}/{moment.month:02}/{moment.year % 100:02} {clock}",
        f"{moment.year}/{moment.month}/{moment.day} {clock}",
        f"{moment.day} {month[:3]} {moment.year} {clock}",
        f"{month} {moment.day}, {moment.year} {clock}",
        f"{moment.year}年{moment.month}月{moment.day}日 {clock}",
        f"{moment.day} {month} {moment.year}, {moment.hour % 12 or 12}:{moment:%M:%S} {half}",
    ]
    for cell in same:
        assert read_datetime(cell) == (moment, seconds), cell
    american = f"{moment.month}/{moment.day}/{moment.year} {clock}"
    assert read_datetime(american, "mdy") == (moment, seconds)


def test_zones_change_seconds_but_not_the_local_time() -> None:
    clock, seconds = read_datetime("2020-01-02T08:00:00+02:00") or (None, None)
    assert clock == datetime(2020, 1, 2, 8)
    assert seconds == datetime(2020, 1, 2, 6, tzinfo=UTC).timestamp()


def test_seconds_and_milliseconds_since_1970() -> None:
    moment = datetime(2020, 1, 2, 3, 4, 5)
    seconds = (moment - datetime(1970, 1, 1)) / timedelta(seconds=1)
    for cell in (seconds, int(seconds), str(int(seconds)), seconds * 1000, np.int64(seconds)):
        assert read_datetime(cell) == (moment, seconds)


def test_order_is_detected_by_numbers_above_twelve() -> None:
    assert day_month_order(["3/4/2020", "25/4/2020"]).order == "dmy"
    assert day_month_order(["3/4/2020", "4/25/2020"]).order == "mdy"
    assert day_month_order(["3/4/2020"]).order == "dmy"
    assert read_datetime("4/25/2020", "dmy") is None


@pytest.mark.parametrize(
    "cell", ["12:00", "2020", "hello", "32/1/2020", "30 Feb 2020", "2020-01-02 13:00 pm", True, 3, "x" * 1000]
)
def test_invalid_dates(cell: object) -> None:
    assert read_datetime(cell) is None


@given(st.text())
def test_normalise_is_idempotent(text: str) -> None:
    for lowercase in (True, False):
        once = normalise(text, lowercase=lowercase)
        assert normalise(once, lowercase=lowercase) == once
        once.encode("utf-8")  # no lone surrogate is left
        assert not any(unicodedata.category(c) == "Cc" for c in once)
        assert once == " ".join(once.split())


def test_normalise() -> None:
    assert normalise(" Ａ\tfine\x00\u00ad ﬁsh\n\ud800 ") == "a fine fish"
    assert normalise("Dog", lowercase=False) == "Dog"
    assert normalise("👩\u200d🔬") == "👩\u200d🔬"


@pytest.mark.parametrize("kind", ["bpe", "character"])
def test_decode_restores_the_text(kind: str) -> None:
    learnt = Tokeniser.train(CORPUS, kind, 600)  # type: ignore[arg-type]
    for text in CORPUS[:20]:
        ids = learnt.encode(text)
        assert learnt.decode(ids) == text
        assert all(UNKNOWN < i < learnt.size for i in ids)
    assert learnt.size <= 600


def test_words() -> None:
    learnt = Tokeniser.train(CORPUS, "word", 25)
    assert learnt.size == 25
    assert learnt.decode(learnt.encode("the dog, never 你好")) == "the dog , � 你 好"


def test_unseen_characters_are_unknown() -> None:
    learnt = Tokeniser.train(CORPUS, "bpe", 600)
    ids = learnt.encode("the ж fox")
    assert UNKNOWN in ids
    assert learnt.decode(ids).startswith("the")
    assert learnt.decode(ids).endswith("fox")


def test_frequent_words_are_one_piece_but_chinese_characters_are_separate() -> None:
    learnt = Tokeniser.train(CORPUS, "bpe", 600)
    assert len(learnt.encode("quick brown fox")) == 3
    assert len(learnt.encode("fox 世界你好")) == len(learnt.encode("fox 世")) + 3


def test_small_vocabulary_has_the_most_frequent_characters() -> None:
    for kind in ("bpe", "character", "word"):
        learnt = Tokeniser.train(["aaaa bbb cc d", "e"], kind, 5)  # type: ignore[arg-type]
        assert learnt.size <= 5
        assert learnt.encode("a zzz q")


def test_json_round_trip() -> None:
    learnt = Tokeniser.train(CORPUS, "bpe", 300)
    again = Tokeniser.from_json(json.loads(json.dumps(learnt.to_json())))
    assert again == learnt
    assert [again.encode(t) for t in CORPUS] == [learnt.encode(t) for t in CORPUS]


def test_training_does_not_depend_on_hash_seed_or_threads() -> None:
    program = (
        "import sys, json; from sensorium.language.tokeniser import Tokeniser;"
        "texts = [''.join(chr(97 + (i * j * j) % 23 + (i % 7) * 400) for j in range(60)) + ' ab cd' for i in range(300)];"
        "print(json.dumps(Tokeniser.train(texts, 'bpe', 500).to_json()))"
    )
    seen = set()
    for seed, threads in (("1", "1"), ("2", "4")):
        environment = {**os.environ, "PYTHONHASHSEED": seed, "RAYON_NUM_THREADS": threads}
        environment.pop("TOKENIZERS_PARALLELISM", None)
        run = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True)
        seen.add(run.stdout)
    assert len(seen) == 1
