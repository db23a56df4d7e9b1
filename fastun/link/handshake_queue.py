"""Handshake messages from UDP on their way to the sessions: a bounded queue, a toll under load.

Anybody can send them, and an answer costs some hundred microseconds. The queue's length tells when
they come faster than they are worked off; from then on a sender has to prove its address by a
cookie first (whitepaper section 5.3). What is refused is counted and never answered but by that.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable

from fastun import log
from fastun._native import UdpAddress
from fastun.link.greeting import SealedGreeter
from fastun.link.udp import UdpSockets
from fastun.session import clock, messages
from fastun.session.cookies import CookieChecker
from fastun.session.limiter import SourceLimiter
from fastun.session.load import LoadGauge
from fastun.session.messages import MessageType
from fastun.session.refusal import HandshakeError, Refusal

# Messages that wait. Worked off at some 3,000 a second, so the last one waits 0.2 s; from an eighth
# of it on, cookies are asked for.
QUEUE_MAX = 512

# How long the event loop may be kept from everything else by handshakes.
TURN_S = 0.005

Deliver = Callable[[MessageType, UdpAddress, bytes], None]


class HandshakeQueue:
    """Gives each message that may cost something to ``deliver``, which may raise HandshakeError."""

    def __init__(
        self, own_public: bytes, greeter: SealedGreeter, sockets: UdpSockets, deliver: Deliver
    ) -> None:
        """Begin empty. ``greeter`` counts what is refused."""
        self._greeter = greeter
        self._sockets = sockets
        self._deliver = deliver
        self._checker = CookieChecker(own_public, SourceLimiter())
        self._gauge = LoadGauge(QUEUE_MAX)
        self._queue: deque[tuple[UdpAddress, bytes]] = deque()
        self._is_working = False
        self._log = log.get("session")

    def put(self, address: UdpAddress, message: bytes) -> None:
        """Take a handshake message of anybody."""
        if len(self._queue) >= QUEUE_MAX:
            self._greeter.results[Refusal.QUEUE_FULL] += 1
            return
        self._queue.append((address, message))
        self._go_on()

    def _go_on(self) -> None:
        if self._queue and not self._is_working:
            self._is_working = True
            asyncio.get_running_loop().call_soon(self._work)

    def _work(self) -> None:
        """Work off some of the queue; the rest after others have had their turn."""
        self._is_working = False  # whatever happens below, the next message begins anew
        until_s = time.monotonic() + TURN_S
        is_loaded = self._gauge.observe(len(self._queue), clock.boottime_s())
        while self._queue and time.monotonic() < until_s:
            address, message = self._queue.popleft()
            try:
                kind = messages.type_of(message)
                if self._may_cost(kind, address, message, under_load=is_loaded):
                    self._deliver(kind, address, message)
            except HandshakeError as error:
                self._log.debug("handshake refused", remote=str(address), reason=str(error))
            except OSError as error:
                self._log.debug("cannot answer", remote=str(address), error=error.strerror)
        self._go_on()

    def _may_cost(
        self, kind: MessageType, address: UdpAddress, message: bytes, *, under_load: bool
    ) -> bool:
        """Return whether to go on; under load a stranger to its address gets a cookie first."""
        if kind is MessageType.COOKIE_REPLY:  # has no macs, and is cheap to refuse
            return True
        now_s = clock.boottime_s()
        try:
            with self._greeter.counting():
                self._checker.check(
                    message, address.host, address.port, now_s, under_load=under_load
                )
        except HandshakeError as error:
            if error.reason is not Refusal.BAD_MAC2:
                raise
            reply = self._checker.reply(message, address.host, address.port, now_s)
            self._sockets.send(reply, address)
            return False
        return True
