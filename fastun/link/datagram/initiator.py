"""Initiations on UDP: one a handshake, sent to all addresses of the peer until it answers."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING

import msgspec

from fastun import log
from fastun.host.dns.resolved import UnresolvedError
from fastun.link.attempts import Way, named
from fastun.link.datagram.address_race import STEP_S, AddressRace, endpoints_of, udp_key
from fastun.link.datagram.peer import UdpPeer
from fastun.link.datagram.peers import UdpPeers
from fastun.link.datagram.sockets import UdpSockets
from fastun.link.inside import LeadsInsideError
from fastun.link.local_end import LocalEnd
from fastun.native import UdpAddress
from fastun.session import clock

if TYPE_CHECKING:
    from collections.abc import Iterable


class _Attempt(msgspec.Struct):
    """One initiation on its way to the peer's addresses."""

    udp_peer: UdpPeer
    n: int  # since the last answer
    task: asyncio.Task[None] | None = None
    message: bytes = b""  # until it is sent for the first time: none
    index: int = 0  # ours, of the handshake
    is_sent: bool = False  # to some address
    failure: OSError | None = None

    @property
    def is_awaited(self) -> bool:
        """Whether its answer would still be taken."""
        initiator = self.udp_peer.initiator
        return initiator is not None and initiator.local_index == self.index


class Initiator:
    """Begins one handshake each time it is asked to. Event loop only."""

    def __init__(self, end: LocalEnd, peers: UdpPeers, sockets: UdpSockets) -> None:
        """Send by ``sockets``; ``peers`` keeps the index by which the answer will come."""
        self._exchange = end.exchange
        self._lane = end.lane
        self._inside = end.outside.inside
        self._health = end.outside.health
        self._race = AddressRace(end.outside.names, end.outside.health, sockets)
        self._outcomes = end.outside.attempts
        self._peers = peers
        self._sockets = sockets
        self._attempts: dict[int, _Attempt] = {}  # by slot
        self._sent_to: dict[int, list[tuple[UdpAddress, float]]] = {}  # by slot: the last, and when
        self._rekey_after_s = end.constants.rekey_after_time_s
        self._log = log.get("session")

    def initiate(self, udp_peer: UdpPeer) -> None:
        """Send an initiation to the peer, unless the last one still waits for its name."""
        slot = udp_peer.slotted.slot
        last = self._attempts.get(slot)
        if last is not None and last.task is not None:
            if last.udp_peer is udp_peer and not last.message:
                return
            last.task.cancel()
        before = self._sent_to.pop(slot, [])
        if udp_peer.n_attempts > 0:
            self._note_silent(address for address, _ in before)
        self._attempts[slot] = attempt = _Attempt(udp_peer, udp_peer.n_attempts)
        udp_peer.n_attempts += 1
        attempt.task = asyncio.create_task(self._run(attempt))
        attempt.task.add_done_callback(lambda _: self._end(slot, attempt))

    def answered(self, udp_peer: UdpPeer, address: UdpAddress) -> None:
        """Take note of where the last one was answered; those before it had their time."""
        self._health.answered(udp_key(address))
        silent: list[UdpAddress] = []
        for each, sent_s in self._sent_to.pop(udp_peer.slotted.slot, []):
            if udp_key(each) == udp_key(address):
                udp_peer.liveness.on_round_trip(clock.boottime_s() - sent_s)
                self._note_silent(silent)
                return
            silent.append(each)

    def _note_silent(self, addresses: Iterable[UdpAddress]) -> None:
        for address in addresses:
            if self._health.failed(udp_key(address)) == 1:
                self._log.info("no answer; tried last for a while", address=str(address))

    def _end(self, slot: int, attempt: _Attempt) -> None:
        if self._attempts.get(slot) is attempt:
            del self._attempts[slot]

    async def _run(self, attempt: _Attempt) -> None:
        udp_peer = attempt.udp_peer
        peer = udp_peer.slotted.peer.name
        try:
            addresses = self._race.addresses(udp_peer, attempt.n)
            async with contextlib.aclosing(addresses):
                async for address in addresses:
                    if attempt.is_sent and self._is_rekey(attempt):
                        return
                    if attempt.is_sent:
                        await asyncio.sleep(STEP_S)
                    # It may have been removed, or have answered.
                    if not self._peers.is_present(udp_peer) or (
                        attempt.message and not attempt.is_awaited
                    ):
                        return
                    self._send(attempt, address)
            if attempt.failure is not None and not attempt.is_sent:
                raise attempt.failure
        except UnresolvedError as error:  # the log has it (names.py)
            self._outcomes.unresolved(udp_peer.slotted, error.why)
        except OSError as error:
            self._log.warning("cannot reach", peer=peer, error=error.strerror or str(error))

    def _is_rekey(self, attempt: _Attempt) -> bool:
        """Return whether a session is only to be renewed: one lost message makes no one move."""
        udp_peer = attempt.udp_peer
        is_old = clock.boottime_s() - udp_peer.handshake_s >= self._rekey_after_s
        address = None if udp_peer.current is None else udp_peer.address
        if address is None or udp_peer.liveness.is_doubted or attempt.n > 0:
            return False
        return is_old and not self._health.is_left(address.host)

    def _send(self, attempt: _Attempt, address: UdpAddress) -> None:
        udp_peer = attempt.udp_peer
        peer = udp_peer.slotted.peer.name
        if udp_peer.address is None or udp_peer.is_guess:
            udp_peer.address, udp_peer.is_guess = address, True
        if not attempt.message:
            self._make(attempt)
        self._note(udp_peer, address)
        try:
            self._sockets.send(attempt.message, address)
        except LeadsInsideError as error:
            self._note(udp_peer, address, error)
            if not self._inside.keep_out(address.host):
                self._inside.note(peer, str(address), is_inside=True)
            return
        except OSError as error:  # the other addresses may be reached
            attempt.failure = error
            self._note(udp_peer, address, error)
            self._log.debug("cannot send", peer=peer, to=str(address), error=error.strerror)
            return
        if endpoints_of(udp_peer.slotted):
            to = address, clock.boottime_s()
            self._sent_to.setdefault(udp_peer.slotted.slot, []).append(to)
        self._inside.note(peer, str(address), is_inside=False)
        self._log.debug("initiation sent", peer=peer, to=str(address))
        if not attempt.is_sent:
            attempt.is_sent = True
            udp_peer.port.n_silent += 1

    def _note(self, udp_peer: UdpPeer, address: UdpAddress, error: OSError | None = None) -> None:
        """Take note of what is tried. A peer without endpoints is to call us: we only help."""
        slotted = udp_peer.slotted
        if not endpoints_of(slotted):
            return
        way = _way_to(udp_peer, address)
        if error is None:
            self._outcomes.tried(slotted, way)
        else:
            self._outcomes.failed(slotted, way, error)

    def _make(self, attempt: _Attempt) -> None:
        udp_peer = attempt.udp_peer
        attempt.message, state = self._exchange.initiate(
            udp_peer.slotted,
            udp_peer.jar.current(clock.boottime_s()),
            self._lane.new_index(udp_peer.slotted.slot),
        )
        attempt.index = state.local_index
        self._peers.wait_for_response(udp_peer, state)
        udp_peer.jar.remember_sent(attempt.message)


def _way_to(udp_peer: UdpPeer, address: UdpAddress) -> Way:
    """Return how the peer is tried at ``address``, with the name that it may be of."""
    names = (each.host for each in endpoints_of(udp_peer.slotted) if each.port == address.port)
    name = next((name for name in names if named(address.host, name)), "")
    return Way("udp", address.host, address.port, name)
