"""Where modules are imported from, for a process that changes its user and goes on importing."""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple


class _Place(NamedTuple):
    """A directory of a loaded package, and where it is written."""

    directory: str
    written_in: list[str]
    i: int


def directories() -> set[str]:
    """Return those from which something may be imported."""
    return {
        *(each for each in sys.path if each and Path(each).is_dir()),
        *(each.directory for each in _places()),
    }


def open_to_others() -> bool:
    """Have imports work as well for a user that may not enter the directories above them.

    Those of such an installation (of root, in its home) are named by descriptors from now on, which
    stay open. False: only the user that runs this may read what is in them.
    """
    wanted = directories()
    if all(map(_is_reached_by_all, wanted)):
        return True
    if not all(map(_is_open_to_all, wanted)):
        return False
    names: dict[str, str] = {}
    for directory in sorted(wanted):  # what is below another one comes after it
        above = next((each for each in names if directory.startswith(f"{each}/")), None)
        if above is None:
            opened = os.open(directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
            names[directory] = f"/proc/self/fd/{opened}"
        else:
            names[directory] = names[above] + directory.removeprefix(above)
    sys.path[:] = [names.get(each, each) for each in sys.path]
    for place in [*_places()]:
        place.written_in[place.i] = names[place.directory]
    return True


def _places() -> Iterator[_Place]:
    for module in [*sys.modules.values()]:
        paths = getattr(module, "__path__", None)
        if isinstance(paths, list):
            for i, path in enumerate(paths):
                if isinstance(path, str) and Path(path).is_dir():
                    yield _Place(path, paths, i)


def _is_open_to_all(directory: str | Path) -> bool:
    wanted = stat.S_IROTH | stat.S_IXOTH
    return Path(directory).stat().st_mode & wanted == wanted


def _is_reached_by_all(directory: str) -> bool:
    place = Path(directory).resolve()
    return _is_open_to_all(place) and all(
        each.stat().st_mode & stat.S_IXOTH for each in place.parents
    )
