"""Routing tables by the names that iproute2 gives them, as in `ip route show table main`."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Final

# Later ones add to and replace what earlier ones say (ip-route(8); iproute2's lib/rt_names.c).
_FILES: Final = ("/usr/share/iproute2/rt_tables", "/etc/iproute2/rt_tables")
_FOLDERS: Final = ("/usr/share/iproute2/rt_tables.d", "/etc/iproute2/rt_tables.d")
_MAX_BYTES: Final = 65536  # A line is a number and a name.

# Those that the kernel has itself (linux/rtnetlink.h), where iproute2 is not installed.
_KERNEL: Final = {"default": 253, "main": 254, "local": 255}


def number_of(name: str) -> int | None:
    """Return the number of the table of that name, None where this host has none."""
    return _tables().get(name)


def _tables() -> dict[str, int]:
    tables = dict(_KERNEL)
    files = [Path(file) for file in _FILES]
    files += [file for folder in _FOLDERS for file in sorted(Path(folder).glob("*.conf"))]
    for file in files:
        with contextlib.suppress(OSError), file.open(encoding="ascii", errors="replace") as lines:
            for line in lines.read(_MAX_BYTES).splitlines():
                words = line.partition("#")[0].split()
                with contextlib.suppress(ValueError):
                    number, name = words
                    tables[name] = int(number, 0)
    return tables
