"""How often a client applies what a server pushes.

A server that pushes something else all the time would have the kernel and the resolver of its
clients busy without end. So a few changes are applied as they come, and from then on one in a
while: the newest, whatever came in between.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

import msgspec

from fastun import log
from fastun.config.push import Push
from fastun.session import clock

BURST: Final = 10
INTERVAL_S: Final = 30.0


class _Server(msgspec.Struct):
    push: Push
    credit: float = BURST
    counted_s: float = 0.0  # CLOCK_BOOTTIME
    held: Push | None = None
    has_warned: bool = False


class PushPace:
    """Lets pushes pass, in time. Event loop only."""

    def __init__(self, take: Callable[[str, Push], None]) -> None:
        """``take`` gets the server's name and what passes."""
        self._take = take
        self._servers: dict[str, _Server] = {}
        self._log = log.get("push")

    def put(self, name: str, push: Push) -> None:
        """Pass the push on now, or later if no newer one has come by then."""
        now_s = clock.boottime_s()
        server = self._servers.get(name)
        if server is None:
            server = self._servers[name] = _Server(push, counted_s=now_s)
            self._take(name, push)
            return
        server.credit = min(BURST, server.credit + (now_s - server.counted_s) / INTERVAL_S)
        server.counted_s = now_s
        if push == server.push and server.held is None:  # as each new session says it
            self._take(name, push)
        elif server.held is not None:
            server.held = push
        elif server.credit >= 1:
            self._pass(name, server, push)
        else:
            self._hold(name, server, push)

    def _pass(self, name: str, server: _Server, push: Push) -> None:
        self._log.info("the server pushes something else", peer=name)
        server.credit -= 1
        server.push = push
        self._take(name, push)

    def _hold(self, name: str, server: _Server, push: Push) -> None:
        server.held = push
        if not server.has_warned:
            server.has_warned = True
            self._log.warning(
                "the server changes what it pushes too often; it is applied twice a minute",
                peer=name,
            )
        wait_s = (1 - server.credit) * INTERVAL_S
        asyncio.get_running_loop().call_later(wait_s, self._release, name, server)

    def _release(self, name: str, server: _Server) -> None:
        push, server.held = server.held, None
        server.credit, server.counted_s = 1.0, clock.boottime_s()
        if push is not None and push != server.push:
            self._pass(name, server, push)
