"""Code of an attacker's that runs in every worker of a gateway: what it has tried, and what came.

`attempts.c` is built once and put in front of libc in a gateway and all that it starts.
"""

from __future__ import annotations

import ctypes
import mmap
import subprocess
from pathlib import Path

_SOURCE = Path(__file__).with_suffix(".c")
_CSRC = Path(__file__).parents[2] / "csrc"
_ROLES, _NAME_BYTES, _ATTEMPTS_MAX, _CALLS = 4, 32, 64, 480

#: The filter has ended the attempt.
TRAPPED = -1000


class _Results(ctypes.Structure):
    """As `struct results`."""

    _fields_ = (
        ("role", ctypes.c_char * _NAME_BYTES),
        ("n", ctypes.c_uint32),
        ("is_done", ctypes.c_uint32),
        ("names", ctypes.c_char * _NAME_BYTES * _ATTEMPTS_MAX),
        ("results", ctypes.c_int64 * _ATTEMPTS_MAX),
        ("not_listed", ctypes.c_uint8 * _CALLS),
    )


class Attempts:
    """Those of one gateway."""

    def __init__(self, directory: Path) -> None:
        """Build the library, and make what all share."""
        self._library = directory / "attempts.so"
        options = ("-O1", "-shared", "-fPIC", "-Wall", "-Werror", f"-I{_CSRC}")
        subprocess.run(("gcc", *options, "-o", self._library, _SOURCE, "-ldl"), check=True)
        self._file = directory / "attempts"
        self._file.write_bytes(bytes(_ROLES * ctypes.sizeof(_Results)))
        self._file.chmod(0o666)
        with self._file.open("r+b") as opened:
            self._memory = mmap.mmap(opened.fileno(), 0)
        self._results = (_Results * _ROLES).from_buffer(self._memory)

    @property
    def environment(self) -> tuple[str, str]:
        """What the gateway is started with."""
        return f"LD_PRELOAD={self._library}", f"ATTEMPTS={self._file}"

    def are_done(self) -> bool:
        """Whether all workers have tried everything."""
        return all(each.is_done for each in self._results)

    def of(self, role: str) -> dict[str, int]:
        """Return what came of each attempt in a worker: a result, a negative errno, TRAPPED."""
        found = self._of(role)
        return {found.names[i].value.decode(): found.results[i] for i in range(found.n)}

    def not_listed(self, role: str) -> set[int]:
        """Return the numbers of calls that a worker can make, and that calls.h does not say so."""
        return {number for number, may in enumerate(self._of(role).not_listed) if may}

    def _of(self, role: str) -> _Results:
        return next(each for each in self._results if role in each.role.decode())
