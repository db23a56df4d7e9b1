"""Initiations on UDP: to where the peer was last heard, then to what its names resolve to."""

from __future__ import annotations

import asyncio

from fastun import log
from fastun.endpoint import Endpoint
from fastun.host.resolved import UnresolvedError
from fastun.link.datagram.peer import UdpPeer
from fastun.link.datagram.peers import UdpPeers
from fastun.link.datagram.sockets import UdpSockets
from fastun.link.inside import LeadsInsideError
from fastun.link.local_end import LocalEnd
from fastun.link.peer_slots import SlottedPeer
from fastun.session import clock

# Initiations in a row without an answer, 5 s apart, after which it is logged.
SILENT_ATTEMPTS = 2


class Initiator:
    """Sends one initiation each time it is asked to. Event loop only."""

    def __init__(self, end: LocalEnd, peers: UdpPeers, sockets: UdpSockets) -> None:
        """Send by ``sockets``; ``peers`` keeps the index by which the answer will come."""
        self._exchange = end.exchange
        self._inside = end.inside
        self._names = end.names
        self._peers = peers
        self._sockets = sockets
        self._tasks: dict[int, asyncio.Task[None]] = {}  # by slot
        self._log = log.get("session")

    def initiate(self, udp_peer: UdpPeer) -> None:
        """Send an initiation to the peer, unless the last one still waits for its name."""
        slot = udp_peer.slotted.slot
        if slot in self._tasks:
            return
        self._tasks[slot] = task = asyncio.create_task(self._initiate(udp_peer))
        task.add_done_callback(lambda _: self._tasks.pop(slot))

    async def _initiate(self, udp_peer: UdpPeer) -> None:
        peer = udp_peer.slotted.peer.name
        try:
            await self._find_address(udp_peer)
            # It may have been removed while its name was resolved.
            if udp_peer.address is None or not self._peers.is_present(udp_peer):
                return
            initiation, state = self._exchange.initiate(
                udp_peer.slotted, udp_peer.jar.current(clock.boottime_s())
            )
            self._peers.wait_for_response(udp_peer, state)
            udp_peer.jar.remember_sent(initiation)
            self._sockets.send(initiation, udp_peer.address)
            self._inside.note(peer, str(udp_peer.address), is_inside=False)
            self._log.debug("initiation sent", peer=peer, to=str(udp_peer.address))
            self._warn_of_tap(udp_peer)
        except LeadsInsideError:
            address = udp_peer.address
            if address is None or not self._inside.keep_out(address.host):
                self._inside.note(peer, str(address), is_inside=True)
        except UnresolvedError:
            pass  # the log has it (names.py)
        except OSError as error:
            self._log.warning("cannot reach", peer=peer, error=error.strerror or str(error))

    def _warn_of_tap(self, udp_peer: UdpPeer) -> None:
        """Say, once until it answers, why a peer with a TAP device may be silent."""
        slotted = udp_peer.slotted
        is_tap = self._exchange.hello_for(slotted).mode == "tap"
        if is_tap and udp_peer.n_attempts == SILENT_ATTEMPTS:
            self._log.warning(
                "no answer; another peer may be using its TAP device, which takes only one",
                peer=slotted.peer.name,
                remote=str(udp_peer.address),
            )

    async def _find_address(self, udp_peer: UdpPeer) -> None:
        attempt, endpoints = udp_peer.n_attempts, endpoints_of(udp_peer.slotted)
        udp_peer.n_attempts += 1
        if not endpoints or (attempt == 0 and udp_peer.address is not None):
            return
        endpoint = endpoints[attempt % len(endpoints)]
        found = await self._names.addresses(endpoint)
        host, port, zone = found[(attempt // len(endpoints)) % len(found)]
        udp_peer.address = self._sockets.address_of(host, port, zone)


def endpoints_of(slotted: SlottedPeer) -> list[Endpoint]:
    """Return where a peer may be found on UDP."""
    return [endpoint for endpoint in slotted.peer.endpoints if endpoint.scheme == "udp"]
