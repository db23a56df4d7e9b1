"""The readable memory of a process, searched for bytes as a debugger would."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

_PART_BYTES = 4 * 1024 * 1024


def mappings_with(pid: int, needles: Iterable[bytes]) -> set[str]:
    """Return the names of mappings in which one of the needles is; "anonymous" has no name.

    What cannot be read (memory by memfd_secret) is passed over.
    """
    wanted = list(needles)
    longest = max(map(len, wanted))
    found = set()
    with Path(f"/proc/{pid}/mem").open("rb", buffering=0) as memory:
        for begin, end, name in _readable(pid):
            before = b""
            for at in range(begin, end, _PART_BYTES):
                try:
                    memory.seek(at)
                    part = memory.read(min(_PART_BYTES, end - at))
                except (OSError, ValueError, OverflowError):
                    break
                if any(needle in before + part for needle in wanted):
                    found.add(name)
                before = part[-longest:]
    return found


def _readable(pid: int) -> Iterator[tuple[int, int, str]]:
    for line in Path(f"/proc/{pid}/maps").read_text(encoding="utf-8").splitlines():
        span, mode, _, _, _, *name = line.split(None, 5)
        if mode.startswith("r"):
            begin, end = (int(text, 16) for text in span.split("-"))
            yield begin, end, name[0] if name else "anonymous"
