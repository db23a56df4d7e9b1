"""Where the clients on UDP were last, kept over a restart of the server, so that it finds them.

    while it runs    their addresses go to STATE/endpoints-*: of new ones soon, else every 30 s, and
                     at the end
    at the start     each is sent one initiation, a limited number each second

A client that is idle does not notice that its server was restarted, and so does not call; plain
WireGuard answers an initiation as fastun does. One that does not answer is called again when there
is traffic for it. Peers on TCP dial again by themselves; those with an endpoint in the
configuration are called there.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import socket
import time
from hashlib import blake2s
from ipaddress import ip_address
from typing import Annotated, Final

import msgspec

from fastun import codec, log
from fastun.link.datagram.address_race import endpoints_of
from fastun.link.datagram.handshakes import DatagramHandshakes
from fastun.link.datagram.peer import UdpPeer
from fastun.link.datagram.peers import UdpPeers
from fastun.link.datagram.sockets import UdpSockets
from fastun.link.local_end import LocalEnd
from fastun.native import PEER_SLOTS, UdpAddress
from fastun.pace import PACE
from fastun.session import clock
from fastun.session.protocol import KEY_BYTES
from fastun.session.refusal import HandshakeError
from fastun.state_file import OwnFiles

WRITE_INTERVAL_S: Final = 30.0
_LOOK_INTERVAL_S: Final = 2.0

# An initiation costs some 300 us, so this is a twentieth of a core; 1,024 clients take 5 s.
CALLS_PER_TURN: Final = 20
TURN_S: Final = 0.1

# A client that has not been here for so long is called no more: its address is another's by now.
KEPT_DAYS: Final = 30
_DAY_S: Final = 86_400

# One takes some 150 bytes.
_FILE_BYTES_MAX: Final = 400 * PEER_SLOTS

_Host = Annotated[str, msgspec.Meta(max_length=45)]
_Port = Annotated[int, msgspec.Meta(ge=1, le=65535)]


class _Place(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where a peer was, and on which day since 1970 last.

    ``via`` is the port of our socket that it knows, ``local`` our address.
    """

    key: Annotated[bytes, msgspec.Meta(min_length=KEY_BYTES, max_length=KEY_BYTES)]
    host: _Host
    port: _Port
    interface: Annotated[str, msgspec.Meta(max_length=15)] = ""
    via: _Port = 1
    local: _Host = ""
    day: int = 0


class RememberedEndpoints:
    """Calls the peers that are remembered, and remembers those that are here. Event loop only."""

    def __init__(
        self,
        end: LocalEnd,
        peers: UdpPeers,
        sockets: UdpSockets,
        handshakes: DatagramHandshakes,
    ) -> None:
        """Remember ``peers`` in the state directory, in a file for each of our keys."""
        digest = blake2s(end.exchange.own.public, digest_size=8).hexdigest()
        self._name = f"endpoints-{digest}"
        self._files = end.files or OwnFiles(end.settings.state_dir)
        self._links = end.links
        self._peer_slots = end.exchange.peer_slots
        self._peers = peers
        self._sockets = sockets
        self._handshakes = handshakes
        self._restored: list[UdpPeer] = []
        self._days: dict[bytes, int] = {}  # by key, when they were here, before the last restart
        self._written = _digest(codec.pack([]))  # of what is in the file
        self._written_keys: set[bytes] = set()
        self._written_s = float("-inf")
        self._has_warned = False
        self._log = log.get("session")

    async def run(self) -> None:
        """Call the remembered peers, and then keep the file up to date, for ever."""
        self._restore(self._read())
        try:
            await self._call()
            while True:
                await PACE.next_look(_LOOK_INTERVAL_S)
                self._write_if_due()
        finally:
            self.write()

    # -- at the start -------------------------------------------------------------------------

    def _read(self) -> list[_Place]:
        try:
            packed = self._files.read(self._name, _FILE_BYTES_MAX + 1)
            places = codec.unpack(packed, list[_Place], _FILE_BYTES_MAX)
        except FileNotFoundError:
            pass
        except OSError as error:
            self._warn("cannot read where clients were", str(error.strerror))
        except codec.CodecError as error:
            self._warn("the file of the clients' addresses is damaged", str(error)[:100])
        else:
            self._written = _digest(packed)  # what is too old in it goes
            return places
        return []

    def _restore(self, places: list[_Place]) -> None:
        """Take the addresses of peers that may still connect and have not been heard elsewhere."""
        today = _today()
        for place in places:
            if not today - KEPT_DAYS <= place.day <= today + 1:  # our clock may have been set back
                continue
            self._days[place.key] = place.day
            slotted = self._peer_slots.holder_of(place.key)
            if slotted is None or endpoints_of(slotted) or slotted.slot in self._links.by_slot:
                continue
            try:
                udp_peer = self._peers.at(self._peer_slots.in_slot(slotted))
            except HandshakeError:  # others have connected meanwhile, and no slot is free
                break
            if udp_peer.address is None:
                udp_peer.address = self._address(place)
                if udp_peer.address is not None:
                    self._restored.append(udp_peer)

    def _address(self, place: _Place) -> UdpAddress | None:
        """Return the address, if it is one that a peer can have, and a socket reaches it."""
        try:
            host = ip_address(place.host)
            local = ip_address(place.local) if place.local else None
            zone = socket.if_nametoindex(place.interface) if place.interface else 0
            by = self._socket_with(place.via)
            found = self._sockets.address_of(host, place.port, zone, by)
        except (OSError, ValueError):
            return None
        if host.is_multicast or host.is_unspecified or (local and local.version != host.version):
            return None
        return UdpAddress(host, place.port, found.socket_index, zone, local)

    def _socket_with(self, port: int) -> int | None:
        """Return the socket that the peer knows: through a NAT nothing else may reach it."""
        return self._sockets.of_port(port)

    async def _call(self) -> None:
        """Send each an initiation, unless it has called by then."""
        if self._restored:
            n_clients = len(self._restored)
            self._log.info("calling the clients that were here before", n_clients=n_clients)
        rest = iter(self._restored)
        while turn := list(itertools.islice(rest, CALLS_PER_TURN)):
            for udp_peer in turn:
                is_idle = udp_peer.current is None and not udp_peer.timers.is_trying()
                if is_idle and self._peers.is_present(udp_peer):
                    self._call_once(udp_peer)
            await asyncio.sleep(TURN_S)

    def _call_once(self, udp_peer: UdpPeer) -> None:
        """Send an initiation that is not repeated; packets for the peer send the next one."""
        self._handshakes.initiate(udp_peer)
        udp_peer.timers.on_initiation_sent(clock.boottime_s())
        udp_peer.timers.on_sessions_dropped()  # there is none; and no attempt that goes on

    # -- while it runs ------------------------------------------------------------------------

    def _write_if_due(self) -> None:
        is_old = clock.boottime_s() - self._written_s >= WRITE_INTERVAL_S
        if is_old or not {place.key for place in self._places()} <= self._written_keys:
            self.write()

    def write(self) -> None:
        """Write the file, if anything has changed."""
        places = self._places()
        packed = codec.pack(places)
        digest = _digest(packed)
        if digest == self._written:
            return
        self._written_s = clock.boottime_s()
        self._written_keys = {place.key for place in places}
        try:
            self._files.replace(self._name, packed)
            self._written = digest
        except OSError as error:
            self._warn("cannot save where clients are", str(error.strerror))

    def _places(self) -> list[_Place]:
        known = [peer for slot, peer in self._peers.by_slot.items() if self._is_kept(slot, peer)]
        places = [self._place(peer) for peer in known]
        # One without a port, its own or of a socket that is closed, would spoil the whole file.
        return [place for place in places if place.port and place.via]

    def _place(self, udp_peer: UdpPeer) -> _Place:
        address, key = udp_peer.address, udp_peer.slotted.peer.public_key
        assert address is not None  # noqa: S101 (a peer that was here came from somewhere)
        if udp_peer.handshake_s > 0:
            ago_s = clock.boottime_s() - udp_peer.handshake_s
            self._days[key] = int((time.time() - ago_s) // _DAY_S)
        interface = ""
        with contextlib.suppress(OSError):  # it has gone
            interface = socket.if_indextoname(address.zone) if address.zone else ""
        local = "" if address.local is None else str(address.local)
        via, day = self._sockets.port_of(address.socket_index), self._days.get(key, 0)
        return _Place(key, str(address.host), address.port, interface, via, local, day)

    def _is_kept(self, slot: int, udp_peer: UdpPeer) -> bool:
        """Return whether it was here by UDP last, now or before the last restart."""
        link = self._links.by_slot.get(slot)
        if link is not None and link.transport == "tcp":
            return False
        was_here = udp_peer.handshake_s > 0 or udp_peer in self._restored
        return was_here and not endpoints_of(udp_peer.slotted)

    def _warn(self, what: str, why: str) -> None:
        """Say it once: it is tried again all the time."""
        if not self._has_warned:
            self._has_warned = True
            self._log.warning(
                f"{what}; idle clients are reachable after a restart of this server only when they "
                "send something",
                file=self._files.path(self._name),
                error=why,
            )


def _digest(packed: bytes) -> bytes:
    return blake2s(packed).digest()


def _today() -> int:
    return int(time.time() // _DAY_S)
