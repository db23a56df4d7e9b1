"""Says when another program has replaced a tunnel's DNS servers where resolvconf(8) manages them.

They are not set again: whatever manages /etc/resolv.conf would be asked in vain a second time. What
systemd-resolved has, and the file where no program manages it: name_servers.py.
"""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Final

from fastun import log

_FILE: Final = Path("/etc/resolv.conf")
_FILE_MAX_BYTES: Final = 1 << 16


class DnsWatch:
    """Of one device. One thread at a time."""

    def __init__(self, interface: str) -> None:
        """Begin before any server was seen."""
        self._interface = interface
        self._servers: tuple[str, ...] = ()
        self._was_first: bool | None = None  # None: not seen there yet
        self._log = log.get("dns")

    def look(self, servers: tuple[str, ...]) -> None:
        """Compare the host's resolver file with the ``servers`` that were set."""
        if servers != self._servers:
            self._servers, self._was_first = servers, None
        is_first = bool(servers) and _first_server() in servers
        if self._was_first and not is_first:
            self._log.warning(
                f"{_FILE}: another program has replaced the tunnel's DNS servers; names are looked "
                "up elsewhere",
                interface=self._interface,
                servers=" ".join(servers),
            )
        elif self._was_first is False and is_first:
            self._log.info("the tunnel's DNS servers are back", interface=self._interface)
        if is_first or self._was_first is not None:
            self._was_first = is_first


def _first_server() -> str:
    with contextlib.suppress(OSError), _FILE.open(encoding="utf-8", errors="replace") as file:
        for line in file.read(_FILE_MAX_BYTES).splitlines():
            words = line.split()
            if len(words) > 1 and words[0] == "nameserver":
                return words[1]
    return ""
