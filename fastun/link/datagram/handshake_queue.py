"""Handshake messages from UDP on their way to the sessions: a bounded queue.

The link-reader has decided which of them get here (csrc/inbound/handshake_gate.h). But an answer
costs some hundred microseconds, and what else the gateway does is not to wait for all of them. A
message that finds no room is counted.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter, deque
from collections.abc import Callable

from fastun import log
from fastun.link.key_exchange import KeyExchange
from fastun.link.source_limits import source_of_address
from fastun.native import UdpAddress
from fastun.session import messages
from fastun.session.messages import MessageType
from fastun.session.refusal import HandshakeError, Refusal

# Messages that wait: as many as the gate lets through at once of sources that have shown no cookie.
# Worked off at some 3,000 a second, so the last one waits 0.2 s.
QUEUE_MAX = 512

# And of one source: an eighth, so that it takes eight to keep the others out.
QUEUE_PER_SOURCE_MAX = QUEUE_MAX // 8

# How long the event loop may be kept from everything else by handshakes.
TURN_S = 0.005

Deliver = Callable[[MessageType, UdpAddress, bytes], None]


class HandshakeQueue:
    """Gives each message to ``deliver``, which may raise HandshakeError or OSError."""

    def __init__(self, exchange: KeyExchange, deliver: Deliver) -> None:
        """Begin empty. ``exchange`` counts what is refused."""
        self._exchange = exchange
        self._deliver = deliver
        self._queue: deque[tuple[UdpAddress, bytes]] = deque()
        self._n_of_source: Counter[bytes] = Counter()  # that wait
        self._is_working = False
        self._log = log.get("session")

    def put(self, address: UdpAddress, message: bytes) -> None:
        """Queue a handshake message, from any host."""
        source = source_of_address(address.host)
        if len(self._queue) >= QUEUE_MAX or self._n_of_source[source] >= QUEUE_PER_SOURCE_MAX:
            self._exchange.results[Refusal.QUEUE_FULL] += 1
            return
        self._n_of_source[source] += 1
        self._queue.append((address, message))
        self._go_on()

    def _count_down(self, source: bytes) -> None:
        self._n_of_source[source] -= 1
        if not self._n_of_source[source]:
            del self._n_of_source[source]

    def _go_on(self) -> None:
        if self._queue and not self._is_working:
            self._is_working = True
            asyncio.get_running_loop().call_soon(self._work)

    def _work(self) -> None:
        """Work off some of the queue; the rest after others have had their turn."""
        self._is_working = False
        until_s = time.monotonic() + TURN_S
        try:
            while self._queue and time.monotonic() < until_s:
                self._work_off(*self._queue.popleft())
        finally:  # whatever has happened: none of the others waits for the next that comes
            self._go_on()

    def _work_off(self, address: UdpAddress, message: bytes) -> None:
        self._count_down(source_of_address(address.host))
        try:
            self._deliver(messages.type_of(message), address, message)
        except HandshakeError as error:
            self._log.debug("handshake refused", remote=str(address), reason=str(error))
        except OSError as error:
            self._log.debug("cannot answer", remote=str(address), error=error.strerror)
