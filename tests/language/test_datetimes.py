"""Dates as written in logs, e-mail and spreadsheets."""

from __future__ import annotations

import email.utils
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sensorium.language.datetimes import day_month_order, is_compact_date, read_datetime
from sensorium.language.time_zones import zone

MOMENTS = st.datetimes(datetime(1971, 1, 1), datetime(2069, 12, 31)).map(lambda d: d.replace(microsecond=0))
OFFSETS = st.integers(-12 * 4, 14 * 4).map(lambda quarters: timezone(timedelta(minutes=15 * quarters)))


@settings(max_examples=200, derandomize=True)
@given(MOMENTS, OFFSETS)
def test_formats_with_a_zone_agree_with_the_standard_library(clock: datetime, offset: timezone) -> None:
    moment = clock.replace(tzinfo=offset)
    texts = [
        email.utils.format_datetime(moment),  # RFC 2822
        f"{moment:%d/%b/%Y:%H:%M:%S %z}",  # Apache
        f"{moment:%a %b %d %H:%M:%S %z %Y}",
        f"{moment:%Y-%m-%d %H:%M:%S %z}",
        moment.isoformat(),
    ]
    for text in texts:
        assert read_datetime(text) == (clock, moment.timestamp()), text


@settings(max_examples=100, derandomize=True)
@given(MOMENTS)
def test_date_is_the_same_in_every_type(moment: datetime) -> None:
    day = datetime(moment.year, moment.month, moment.day)
    number = int(f"{day:%Y%m%d}")
    expected = (day, (day - datetime(1970, 1, 1)).total_seconds())
    same: list[Any] = [str(number), number, float(number), np.int64(number), f"{number}.0", day.date(), pd.Timestamp(day)]
    for cell in [*same, np.datetime64(day), f"{day:%Y-%m-%d}", f"{day:%d-%b-%Y}", pd.Period(day, "D")]:
        assert read_datetime(cell) == expected, cell
    assert all(map(is_compact_date, same[:5]))
    seconds = (moment - datetime(1970, 1, 1)).total_seconds()
    if seconds >= 1e8:
        for unit in (1, 10**3, 10**6, 10**9):
            assert read_datetime(int(seconds) * unit) == (moment, seconds)


@pytest.mark.parametrize(
    ("text", "clock", "utc"),
    [
        ("2020-01-31 10:00 EST", datetime(2020, 1, 31, 10), datetime(2020, 1, 31, 15)),
        ("2020-07-31 10:00 Europe/Berlin", datetime(2020, 7, 31, 10), datetime(2020, 7, 31, 8)),
        ("2020-01-31T10:00+01:00[Europe/Berlin]", datetime(2020, 1, 31, 10), datetime(2020, 1, 31, 9)),
        ("2020-01-31 10:00 CET", datetime(2020, 1, 31, 10), datetime(2020, 1, 31, 9)),
        ("2020-01-31 10:00 XYZT", datetime(2020, 1, 31, 10), datetime(2020, 1, 31, 10)),
        ("Mon, 01 Jan 2024 10:00:00 GMT", datetime(2024, 1, 1, 10), datetime(2024, 1, 1, 10)),
        ("Wed Oct 10 20:19:24 2018", datetime(2018, 10, 10, 20, 19, 24), datetime(2018, 10, 10, 20, 19, 24)),
        ("2020-02", datetime(2020, 2, 1), datetime(2020, 2, 1)),
        ("Feb 2020", datetime(2020, 2, 1), datetime(2020, 2, 1)),
        ("02/2020", datetime(2020, 2, 1), datetime(2020, 2, 1)),
        ("20200131235958", datetime(2020, 1, 31, 23, 59, 58), datetime(2020, 1, 31, 23, 59, 58)),
    ],
)
def test_zones_and_months(text: str, clock: datetime, utc: datetime) -> None:
    assert read_datetime(text) == (clock, utc.replace(tzinfo=UTC).timestamp())


@pytest.mark.parametrize(
    "cell",
    [
        "11000-01-01",
        np.datetime64("11000-01-01"),
        20240230,
        "20241301",
        12345678,
        "2020-13",
        "Foo 2020",
        np.datetime64("NaT"),
    ],
)
def test_invalid_dates(cell: object) -> None:
    assert read_datetime(cell) is None


@pytest.mark.parametrize("cell", ["0001-01-01T00:00:00+05:00", "9999-12-31T23:59:59-05:00"])
def test_extreme_dates_do_not_overflow(cell: str) -> None:
    assert read_datetime(cell) is not None


def test_zones_by_name() -> None:
    assert zone("GMT+2") == timezone(timedelta(hours=2))
    assert zone("EDT") == timezone(timedelta(hours=-4))
    assert zone("+99:00") is None
    assert zone("No/Where") is None


def test_detection_of_the_order() -> None:
    result = day_month_order(["3/4/2020", "5/5/2020", "12/25/2021", "1/31/2021", "25.12.2020", "2020-01-02", None])
    assert (result.days, result.months, result.either, result.order, result.example) == (0, 2, 1, "mdy", "12/25/2021")
