"""A device that was moved to another network namespace, and is managed there.

    ip link set fastun0 netns office

This makes the tunnel the way out for what runs in `office`, while the tunnel's own packets go from
here on as ever. They cannot get into the device there, so all its routes are in the main table,
without marks and rules. DNS, nft and settings there are the administrator's.
"""

from __future__ import annotations

import dataclasses
import os
import socket
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeVar

from fastun.host import tun
from fastun.host.routing.routing_rules import MAIN_TABLE

if TYPE_CHECKING:
    from collections.abc import Callable

    from fastun.config.settings import Settings

Result = TypeVar("Result")

_CLONE_NEWNET: Final = 0x40000000  # linux/sched.h


class Namespace:
    """The one that a device is in. Not on the event loop's thread."""

    def __init__(self, fd: int) -> None:
        """Enter it once, for the device's index. Raises OSError, as without CAP_SYS_ADMIN."""
        self._namespace = tun.namespace(fd)
        try:
            self.index = self.run(lambda: socket.if_nametoindex(tun.name(fd)))
        except OSError:
            self.close()
            raise

    def close(self) -> None:
        """Let it go."""
        os.close(self._namespace)

    def is_here(self) -> bool:
        """Return whether it is this thread's own: the device was moved back."""
        here = Path("/proc/thread-self/ns/net").stat()
        return os.path.samestat(here, os.fstat(self._namespace))

    def run(self, function: Callable[[], Result]) -> Result:
        """Call a function in a thread that has entered it. Raises OSError."""
        import ctypes  # noqa: PLC0415 (0.7 MiB, for a device that was moved)

        def entered() -> Result:
            libc = ctypes.CDLL(None, use_errno=True)
            if libc.setns(self._namespace, _CLONE_NEWNET) != 0:
                code = ctypes.get_errno()
                raise OSError(code, os.strerror(code))
            return function()

        with ThreadPoolExecutor(max_workers=1) as thread:
            return thread.submit(entered).result()


def settings_there(settings: Settings) -> Settings:
    """Return what holds of the device in another namespace than our own packets'."""
    table = settings.table if isinstance(settings.table, int) else MAIN_TABLE
    # For a TAP nothing is set below /proc/sys.
    return dataclasses.replace(settings, table=table, fwmark=0, mode="tap")
