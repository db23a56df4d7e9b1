"""Rates, sizes and moments as people write them: 10Mbit, 50GB, 30d.

Units are decimal unless they have an i, as in GiB. Bits are spelt out, since 10M or 10Mb could be
read either way. Each complaint starts with the place that the caller gives.
"""

import math
import re
import time
from datetime import datetime, timedelta
from typing import Final

from fastun.errors import ConfigError, quote

_NUMBER: Final = r"([0-9]{1,18}(?:\.[0-9]{1,9})?)"
_SIZE: Final = re.compile(_NUMBER + r" ?([kKMGTP]?i?)B")
_RATE: Final = re.compile(_NUMBER + r" ?(?:([kKmMgGtT]?)(bit)|([kKMGT]?i?)B)(?:/s)?")
_DURATION: Final = re.compile(_NUMBER + r" ?(min|h|d|w)")

_POWERS: Final = {"": 0, "k": 1, "m": 2, "g": 3, "t": 4, "p": 5}
_SECONDS: Final = {"min": 60, "h": 3600, "d": 86400, "w": 7 * 86400}

# From what a modem had up to what no host of today carries; the data path counts in nanoseconds.
RATE_MIN: Final = 1_000
RATE_MAX: Final = 125_000_000_000
SIZE_MAX: Final = 10**18
# As people write them, for errors and the reference.
RATES: Final = "8kbit to 1Tbit"
SIZES: Final = "1B to 1000PB"

# Python's dates end with the year 9999; one far before them is a typing error as well.
_YEARS_MAX: Final = 100


def _factor(prefix: str) -> int:
    base = 1024 if prefix.endswith("i") else 1000
    return int(base ** _POWERS[prefix.removesuffix("i").lower()])


def parse_rate(text: str, where: str) -> int:
    """Return bytes a second."""
    found = _RATE.fullmatch(text)
    if found is None:
        raise ConfigError(
            f"{where}: {quote(text)} is not a rate; write it as in 10Mbit (bits a second) or"
            " 1.25MB (bytes a second)"
        )
    number, bit_prefix, is_bits, byte_prefix = found.groups()
    factor = _factor(bit_prefix) / 8 if is_bits else _factor(byte_prefix)
    rate = round(float(number) * factor)
    if not RATE_MIN <= rate <= RATE_MAX:
        raise ConfigError(f"{where}: {text} is out of range ({RATES} a second)")
    return rate


def parse_size(text: str, where: str) -> int:
    """Return bytes, at least one."""
    found = _SIZE.fullmatch(text)
    if found is None:
        raise ConfigError(
            f"{where}: {quote(text)} is not a size; write it in bytes with a unit, as in 50GB"
        )
    size = round(float(found[1]) * _factor(found[2]))
    if not 1 <= size <= SIZE_MAX:
        raise ConfigError(f"{where}: {text} is out of range ({SIZES})")
    return size


def parse_moment(text: str, now: float, where: str) -> int:
    """Return a moment after `now` as Unix time: a duration from then, or a date.

    A date without a time is that whole day; without an offset it is of this host's time zone.
    """
    moment = _moment(text, now)
    if moment is None:
        raise ConfigError(
            f"{where}: {quote(text)} is not a date or a duration; write it as in 2027-01-31,"
            " 2027-01-31T18:00 or 30d (min, h, d, w), or 'never'"
        )
    if moment <= now:
        raise ConfigError(f"{where}: {text} is in the past; give a later date")
    return _within_reach(moment, now, text, where)


def parse_date(text: str, now: float, where: str) -> int:
    """Return the Unix time of a date, which may have passed by `now`.

    For a file, which is read again at each start: a duration in it would begin anew each time.
    """
    moment = None if _DURATION.fullmatch(text) else _moment(text, now)
    if moment is None:
        raise ConfigError(
            f"{where}: {quote(text)} is not a date; write it as in 2027-01-31 or"
            " 2027-01-31T18:00, or 'never'"
        )
    return _within_reach(moment, now, text, where)


def _within_reach(moment: float, now: float, text: str, where: str) -> int:
    if moment > now + _YEARS_MAX * 366 * 86400:
        raise ConfigError(f"{where}: {text} is over {_YEARS_MAX} years away; write 'never'")
    return int(moment)


def _moment(text: str, now: float) -> float | None:
    if duration := _DURATION.fullmatch(text):
        return now + math.ceil(float(duration[1]) * _SECONDS[duration[2]])
    try:
        date = datetime.fromisoformat(text)
        if len(text) <= len("2027-01-31"):
            date += timedelta(days=1)
        return date.timestamp()
    except (ValueError, OverflowError, OSError):
        return None


def format_rate(rate: int) -> str:
    """Return bytes a second as bits, as links are sold: 10 Mbit/s."""
    value, units = float(rate * 8), iter(("bit/s", "kbit/s", "Mbit/s", "Gbit/s", "Tbit/s"))
    unit = next(units)
    while value >= 1000:  # noqa: PLR2004
        value, unit = value / 1000, next(units)
    return f"{value:.4g} {unit}"


def format_moment(moment: int) -> str:
    """Return a Unix time as a date of this host's time zone, with its offset."""
    return time.strftime("%Y-%m-%d %H:%M %z", time.localtime(moment))


def format_size(n_bytes: int) -> str:
    """Return bytes with a decimal unit, as networks count."""
    value, units = float(n_bytes), iter(("B", "kB", "MB", "GB", "TB", "PB", "EB"))
    unit = next(units)
    while value >= 999.5:  # noqa: PLR2004 (what would be rounded to four digits)
        value, unit = value / 1000, next(units)
    n_decimals = 0 if unit == "B" or value >= 99.95 else 1 if value >= 9.995 else 2  # noqa: PLR2004
    return f"{value:.{n_decimals}f} {unit}"
