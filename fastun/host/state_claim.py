"""One server a state directory: two would count, remember and announce over one another.

A lock on a file that no other user can open, from when the peer directory is opened to the end of
the host process, however that comes. Clients have no part in it: several may have the default one.
"""

from __future__ import annotations

import contextlib
import os
import time
from typing import TYPE_CHECKING, Final

from fastun import ending, service_user
from fastun.errors import RuntimeFailure
from fastun.host import run_directory

if TYPE_CHECKING:
    from pathlib import Path

NAME: Final = ".serving"

# One that has been killed lets go as soon as its host process knows.
_WAIT_S: Final = 3.0
_LOOK_S: Final = 0.05


class StateClaim:
    """That of one gateway. Close it."""

    def __init__(self, state_dir: Path) -> None:
        """Take it; wait a moment for one that ends. Raises RuntimeFailure, AskedToStop.

        Where no file can be made, there is none, and nothing that two could spoil.
        """
        self._path = state_dir / NAME
        self._descriptor = -1
        until_s = time.monotonic() + _WAIT_S
        try:
            state_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
            while (descriptor := run_directory.take_lock(self._path)) is None:
                if time.monotonic() >= until_s:
                    raise RuntimeFailure(
                        f"--state {state_dir}: another gateway serves from it; stop that one, or"
                        " choose another --state"
                    )
                ending.check()
                time.sleep(_LOOK_S)
        except OSError:
            return
        self._descriptor = descriptor
        service_user.give(descriptor, state_dir)

    def close(self) -> None:
        """Let the next have it."""
        if self._descriptor >= 0:
            with contextlib.suppress(OSError):  # read-only since
                self._path.unlink()
            os.close(self._descriptor)
            self._descriptor = -1
