"""Rates, sizes and moments as people write them."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastun.config.quantity import (
    RATE_MAX,
    RATE_MIN,
    format_rate,
    parse_moment,
    parse_rate,
    parse_size,
)
from fastun.errors import ConfigError

DAY = 86400


def local(*date: int) -> float:
    """A moment of this host's time zone: year, month, day, hour."""
    return time.mktime((*date, 0, 0, 0, 0, -1))


NOW = local(2026, 11, 30, 12)


@pytest.mark.parametrize(
    ("text", "rate"),
    [
        ("10Mbit", 1_250_000),
        ("10 Mbit/s", 1_250_000),
        ("10mbit", 1_250_000),
        ("1.5Gbit", 187_500_000),
        ("8000bit", 1000),
        ("64kbit/s", 8000),
        ("1MB/s", 1_000_000),
        ("1MiB", 1_048_576),
        ("2000B", 2000),
    ],
)
def test_a_rate_is_bytes_a_second(text: str, rate: int) -> None:
    assert parse_rate(text, "limit") == rate


@pytest.mark.parametrize(
    ("text", "size"), [("50GB", 50 * 10**9), ("1.5 TB", 15 * 10**11), ("1GiB", 2**30), ("7B", 7)]
)
def test_a_size_is_bytes(text: str, size: int) -> None:
    assert parse_size(text, "quota") == size


@pytest.mark.parametrize("text", ["10", "10M", "10Mb", "ten Mbit", "-1Mbit", "1e6bit", "", "0bit"])
def test_a_rate_that_could_be_read_two_ways_or_none_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match=r"^limit: "):
        parse_rate(text, "limit")


@pytest.mark.parametrize("text", ["10", "10G", "50Gbit", "-5GB", "0B", "1000000PB", "'; --"])
def test_a_size_without_a_unit_of_bytes_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match=r"^quota: "):
        parse_size(text, "quota")


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("30d", NOW + 30 * DAY),
        ("12h", NOW + DAY / 2),
        ("45min", NOW + 2700),
        ("2w", NOW + 14 * DAY),
        ("2026-12-24", local(2026, 12, 25, 0)),
        ("2026-11-30", local(2026, 12, 1, 0)),
        ("2026-12-24T18:00", local(2026, 12, 24, 18)),
        ("2026-12-24T18:00+00:00", 1798135200),
    ],
)
def test_a_moment_is_a_date_or_a_duration(text: str, moment: float) -> None:
    assert parse_moment(text, NOW, "expire") == moment


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("2026-11-29", "in the past"),
        ("2026-11-30T11:59", "in the past"),
        ("0d", "in the past"),
        ("2226-12-24", "over 100 years away"),
        ("9999-12-31", "is not a date|over 100 years away"),
        ("999999999999999999w", "over 100 years away"),
        ("30", "is not a date or a duration"),
        ("30s", "is not a date or a duration"),
        ("2026-13-01", "is not a date or a duration"),
        ("tomorrow", "is not a date or a duration"),
    ],
)
def test_a_moment_that_cannot_be_is_one_line(text: str, said: str) -> None:
    with pytest.raises(ConfigError, match=f"^expire: .*({said})"):
        parse_moment(text, NOW, "expire")


@given(st.text(max_size=30))
def test_whatever_is_written_is_a_value_or_one_line(text: str) -> None:
    for parse in (parse_rate, parse_size, lambda each, at: parse_moment(each, time.time(), at)):
        said = ""
        try:
            value = parse(text, "place")
        except ConfigError as error:
            value, said = 1, str(error)
        assert value > 0
        assert said.startswith("place: ") or not said


@given(st.integers(RATE_MIN, RATE_MAX))
def test_a_rate_that_is_shown_can_be_given_again(rate: int) -> None:
    again = parse_rate(format_rate(rate), "limit")
    assert abs(again - rate) <= rate / 1000
