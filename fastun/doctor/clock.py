"""Whether this host's clock can be right: peers refuse handshakes that are older than the last."""

from __future__ import annotations

import ctypes
import time
from typing import TYPE_CHECKING

from fastun.doctor.finding import Finding, finding
from fastun.session.timestamps import Timestamps
from fastun.state_file import OwnFiles

if TYPE_CHECKING:
    from pathlib import Path

# Before this, there was no fastun; after that, the file of timestamps takes no value.
_FIRST_YEAR, _LAST_YEAR = 2025, 2199

_TIMEX_BYTES = 512  # struct timex has 208 on 64 bits; all zeros asks and sets nothing
_TIME_ERROR = 5  # adjtimex(2): not synchronised

# Our timestamps run ahead of the clock by a second or so.
_BEHIND_MAX_S = 60


def check(state: Path, public_key: bytes) -> Finding:
    """Compare the clock with what is known of the time."""
    now = time.gmtime()
    said = time.strftime("%Y-%m-%d %H:%M:%S UTC", now)
    if not _FIRST_YEAR <= now.tm_year <= _LAST_YEAR:
        return finding("FAIL", f"it is {said}, says this host's clock", "set the clock")
    behind_s = Timestamps(OwnFiles(state), public_key).latest_ns / 1e9 - time.time()
    if behind_s > _BEHIND_MAX_S:
        message = (
            f"{said}, {behind_s:,.0f} s before the last handshake of this host: the clock was set"
            " back (fastun goes on from there, so handshakes work)"
        )
        return finding("warn", message, "synchronise it, as with systemd-timesyncd or chrony")
    if _is_unsynchronised():
        message = f"{said}, not synchronised"
        return finding("warn", message, "synchronise it, as with systemd-timesyncd or chrony")
    return finding("ok", f"{said}, synchronised")


def _is_unsynchronised() -> bool:
    asked = ctypes.create_string_buffer(_TIMEX_BYTES)
    return bool(ctypes.CDLL(None).adjtimex(asked) == _TIME_ERROR)
