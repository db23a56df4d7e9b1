"""TAI64N timestamps (https://cr.yp.to/libtai/tai64.html), as an initiation carries one.

    u64 big-endian: 2^62 + TAI seconds since 1970 | u32 big-endian: nanoseconds

Two of them compare as their bytes do. Only that they increase matters (whitepaper section 5.1), so
the TAI second is taken as the Unix second + 10, leap seconds left out, as WireGuard does.
"""

import time
from typing import Final

from fastun.session.protocol import TIMESTAMP_BYTES

_NS_PER_SECOND = 10**9
_EPOCH = 2**62 + 10

# The exact time at which a host builds an initiation would tell about its load and its clock's
# drift. The low 24 bits are cleared: steps of 16.8 ms, below the 20 ms between two initiations.
_WHITENING = ~(2**24 - 1)

NEVER: Final = bytes(TIMESTAMP_BYTES)  # smaller than any timestamp that is sent


def from_unix_ns(unix_ns: int) -> bytes:
    """Return the 12 bytes for a Unix time in nanoseconds, whitened."""
    seconds, nanoseconds = divmod(unix_ns, _NS_PER_SECOND)
    return (_EPOCH + seconds).to_bytes(8, "big") + (nanoseconds & _WHITENING).to_bytes(4, "big")


def now() -> bytes:
    """Return the 12 bytes for now."""
    return from_unix_ns(time.time_ns())


def to_unix_s(timestamp: bytes) -> float:
    """Return the Unix time of 12 bytes, in seconds."""
    seconds, nanoseconds = (
        int.from_bytes(timestamp[:8], "big"),
        int.from_bytes(timestamp[8:], "big"),
    )
    return seconds - _EPOCH + nanoseconds / _NS_PER_SECOND


def to_text(timestamp: bytes) -> str:
    """Return 12 bytes as UTC, for people.

    Whoever sent them has chosen them: most of what 12 bytes can say is in no calendar.
    """
    try:
        return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(to_unix_s(timestamp)))
    except (OverflowError, OSError, ValueError):
        return "no date"
