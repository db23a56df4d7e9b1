"""Events for systemd's journal as fields, which `journalctl` selects by; a stderr has only text.

    MESSAGE=link      up  peer=laptop        for people, as on stderr, without time and level
    PRIORITY=6
    FASTUN_COMPONENT=link                    journalctl FASTUN_PEER=laptop FASTUN_EVENT=up
    FASTUN_EVENT=up
    FASTUN_PEER=laptop

A datagram each to journald's socket (https://systemd.io/JOURNAL_NATIVE_PROTOCOL), never waited for.
It is connected while this process still may; journald's restart does not change it.
"""

from __future__ import annotations

import os
import re
import socket
import struct
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, Self

_SOCKET: Final = Path("/run/systemd/journal/socket")
_IDENTIFIER: Final = "fastun"

# Numbers as in syslog(3).
_PRIORITIES: Final = {"debug": 7, "info": 6, "warning": 4, "error": 3, "critical": 2}

# What journald takes as a field's name, behind our prefix.
_NOT_OF_NAMES: Final = re.compile(r"[^A-Z0-9_]")
_NAME_CHARACTERS_MAX: Final = 57
_LENGTH: Final = struct.Struct("<Q")


class Journal:
    """journald, connected. Any thread."""

    def __init__(self, path: Path = _SOCKET) -> None:
        """Connect. Raises OSError."""
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
        try:
            self._socket.setblocking(False)
            self._socket.connect(str(path))
        except OSError:
            self._socket.close()
            raise

    @classmethod
    def behind_stderr(cls) -> Self | None:
        """Return it where stderr leads to it; None where not, or where it cannot be reached."""
        try:
            status = os.fstat(sys.stderr.fileno())
            is_journal = os.environ.get("JOURNAL_STREAM") == f"{status.st_dev}:{status.st_ino}"
            return cls() if is_journal else None
        except (AttributeError, OSError, ValueError):  # no stderr, or no socket there
            return None

    def send(self, message: str, event: Mapping[str, Any]) -> bool:
        """Send one event with the text for people; False where it is not taken: stderr is left."""
        try:
            self._socket.send(packed(message, event))
        except OSError:  # its queue is full, or the event is too long
            return False
        return True

    def close(self) -> None:
        """Close."""
        self._socket.close()


def packed(message: str, event: Mapping[str, Any]) -> bytes:
    """Return the datagram of an event."""
    fields = {
        "MESSAGE": message,
        "PRIORITY": str(_PRIORITIES.get(str(event.get("level")), _PRIORITIES["info"])),
        "SYSLOG_IDENTIFIER": _IDENTIFIER,
    }
    for name, value in event.items():
        if name not in ("level", "timestamp") and value is not None:
            plain = _NOT_OF_NAMES.sub("_", name.upper())[:_NAME_CHARACTERS_MAX]
            fields[f"FASTUN_{plain}"] = str(value)
    return b"".join(_field(name, value) for name, value in fields.items())


def _field(name: str, value: str) -> bytes:
    content = value.encode("utf-8", "backslashreplace")
    if b"\n" in content:
        return b"%s\n%s%s\n" % (name.encode(), _LENGTH.pack(len(content)), content)
    return b"%s=%s\n" % (name.encode(), content)
