"""The compiled C library, and what its ways of saying "no" become: only fastun.native uses this.

``ffi`` and ``lib`` are Any: the types begin behind this wall.
"""

from __future__ import annotations

import os
from typing import Any

from fastun.native._fastun import ffi as _ffi
from fastun.native._fastun import lib as _lib

ffi: Any = _ffi
lib: Any = _lib


def checked(result: int) -> int:
    """Return a count; -errno becomes OSError."""
    if result < 0:
        raise OSError(-result, os.strerror(-result))
    return result


def checked_pointer(pointer: Any) -> Any:
    """Return a pointer; NULL becomes OSError, by errno."""
    if pointer == ffi.NULL:
        raise OSError(ffi.errno, os.strerror(ffi.errno))
    return pointer
