"""The timestamps of our initiations: they only increase, even if the clock is set back.

A responder refuses an initiation whose timestamp is not greater than all before it (whitepaper
section 5.1). If the clock is set back, by an administrator, by NTP, or by an empty battery, its
time alone would be refused until it has caught up. So a timestamp is:

    max(last + step, now)

The last one is kept across restarts in a file of the state directory, for each key pair. The stored
value is RESERVED_NS ahead of what was used, so that it is written at most once a second; being so
little ahead, it does not run away from the clock however often we start. If the file cannot be read
or written, there is one warning, and the handshake goes on.
"""

from __future__ import annotations

import time
from hashlib import blake2s
from typing import TYPE_CHECKING, Final

from fastun import log
from fastun.session import tai64n

if TYPE_CHECKING:
    from collections.abc import Callable

    from fastun.state_file import StateFiles

# The least by which two timestamps differ after whitening.
STEP_NS: Final = 2**24

RESERVED_NS: Final = 10**9

# The year 2200: later values are taken for a damaged file.
_LATEST_NS: Final = 7_258_118_400 * 10**9
_DIGITS_MAX: Final = 19


class Timestamps:
    """Those of one key pair. One thread."""

    def __init__(
        self,
        files: StateFiles | None = None,
        public_key: bytes = b"",
        now_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        """Continue after the value stored in `files` for the key; None stores nothing."""
        self._name = f"initiations-{blake2s(public_key, digest_size=8).hexdigest()}"
        self._files = files
        self._now_ns = now_ns
        self._log = log.get("session")
        self._has_warned = False
        self._reserved_ns = self._read()
        self._last_ns = self._reserved_ns

    def next(self) -> bytes:
        """Return a timestamp for an initiation, greater than all before it."""
        self._last_ns = max(self._last_ns + STEP_NS, self._now_ns())
        if self._last_ns > self._reserved_ns:
            self._reserved_ns = self._last_ns + RESERVED_NS
            self._write()
        return tai64n.from_unix_ns(self._last_ns)

    @property
    def latest_ns(self) -> int:
        """The Unix time that was used or reserved last, 0 if none was."""
        return max(self._last_ns, self._reserved_ns)

    def _read(self) -> int:
        if self._files is None:
            return 0
        try:
            text = self._files.read(self._name, _DIGITS_MAX + 2).decode("latin-1").strip()
        except FileNotFoundError:
            return 0
        except OSError as error:
            self._warn(error.strerror or str(error))
            return 0
        kept_ns = int(text) if text.isascii() and text.isdigit() else 0
        if not 0 < kept_ns < _LATEST_NS:
            self._warn("damaged")
            return 0
        return kept_ns

    def _write(self) -> None:
        """Replace the file; a crash of the host loses at most seconds."""
        if self._files is None:
            return
        try:
            self._files.replace(self._name, f"{self._reserved_ns}\n".encode())
        except OSError as error:
            self._warn(error.strerror or str(error))

    def _warn(self, why: str) -> None:
        if self._files is not None and not self._has_warned:
            self._has_warned = True
            self._log.warning(
                "cannot save the time of the last handshake: if the clock is set back before the"
                " next start, peers reject our handshakes until it has caught up",
                file=self._files.path(self._name),
                error=why,
            )
