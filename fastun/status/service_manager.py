"""What a gateway says to systemd: that it is up, what it does, that it lives (sd_notify(3)).

    READY=1          when all is listened on, and the device is there
    STATUS=...       one line of ``systemctl status``
    WATCHDOG=1       while the event loop turns and all workers are at work (WatchdogSec)
    RELOADING=1      from the order to reload until it is in effect, then READY=1
    STOPPING=1       from the request to stop on

A datagram each, to the socket that the environment names. Without one nothing is done.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import time
from typing import TYPE_CHECKING, Final, Self

from fastun import log
from fastun.pace import PACE

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Coroutine

    from fastun.gateway.gateway import Gateway
    from fastun.gateway.reload import Reloaded
    from fastun.gateway.view import Health

    Reloading = Callable[[], Coroutine[None, None, Reloaded]]
    TakeHealth = Callable[[], Health]

# How often the status line is looked at; the watchdog is fed three times in its interval.
_STATUS_S: Final = 5.0
_FEEDS: Final = 3
_START_LOOK_S: Final = 0.02
_US: Final = 1_000_000


class ServiceManager:
    """systemd, or another that speaks its protocol; none is one that hears nothing."""

    def __init__(self, address: str = "", watchdog_s: float = 0.0) -> None:
        """Speak to the socket ``address``; ``watchdog_s``: within how long it wants to hear."""
        self.watchdog_s = watchdog_s
        self._said = ""
        self._socket: socket.socket | None = None
        if address:
            path = "\0" + address[1:] if address.startswith("@") else address
            made = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
            try:
                made.setblocking(False)
                made.connect(path)
            except OSError as error:
                made.close()
                reason = error.strerror or str(error)
                log.get("gateway").warning("the service manager cannot be reached", reason=reason)
            else:
                self._socket = made

    @classmethod
    def of_environment(cls) -> Self:
        """Return the one that has started this process; no child is to take itself for it."""
        address = os.environ.pop("NOTIFY_SOCKET", "")
        interval, pid = (os.environ.pop(f"WATCHDOG_{name}", "") for name in ("USEC", "PID"))
        is_ours = not pid or pid == str(os.getpid())
        watched = int(interval) / _US if is_ours and interval.isdecimal() else 0.0
        return cls(address, watched)

    def close(self) -> None:
        """Speak no more."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def say(self, *assignments: str) -> None:
        """Send them. One who does not listen has missed it."""
        if self._socket is not None:
            with contextlib.suppress(OSError):
                self._socket.send("\n".join(assignments).encode())

    def status(self, line: str) -> None:
        """Show this line, if it is another one."""
        if line != self._said:
            self._said = line
            self.say(f"STATUS={line}")

    def of_reloads(self, reload: Reloading) -> Reloading:
        """Return ``reload``, whose begin and end are said."""

        async def said() -> Reloaded:
            now_us = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
            self.say("RELOADING=1", f"MONOTONIC_USEC={now_us}")
            try:
                return await reload()
            finally:
                self.say("READY=1")

        return said

    @contextlib.asynccontextmanager
    async def following(self, gateway: Gateway, health: TakeHealth) -> AsyncIterator[None]:
        """Tell it of the gateway, from when that is up until the request to stop."""
        if self._socket is None:
            yield
            return
        task = asyncio.create_task(self._follow(gateway, health))
        try:
            yield
        finally:
            task.cancel()
            self.say("STOPPING=1")

    async def _follow(self, gateway: Gateway, health: TakeHealth) -> None:
        await gateway.listening.all_bound.wait()
        # A moment, since the workers start beside the rest; nothing else would need an event of it.
        while health().not_healthy():  # noqa: ASYNC110
            await asyncio.sleep(_START_LOOK_S)
        self.say("READY=1")
        every_s = min(_STATUS_S, self.watchdog_s / _FEEDS or _STATUS_S)
        while True:
            now = health()
            # A worker that ends is back within moments; one that does not come back is a fault that
            # a restart of everything may end.
            if self.watchdog_s and not now.not_healthy():
                self.say("WATCHDOG=1")
            self.status(_line(gateway, now))
            await PACE.next_look(every_s, every_s)  # in the quiet as often: one is waiting for it


def _line(gateway: Gateway, health: Health) -> str:
    links = [link for link in gateway.links.by_slot.values() if link.peer_name]
    if gateway.settings.role == "serve":
        carried = f"{len(links)} peer{'s' * (len(links) != 1)} connected"
    else:
        carried = ", ".join(f"connected to {each.peer_name} by {each.transport}" for each in links)
    wrong = health.not_ready() or health.ready_but()
    return f"{carried}; {wrong}" if carried and wrong else carried or wrong
