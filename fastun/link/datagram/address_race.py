"""Where one handshake is tried: all addresses of a peer, one after the other, the same initiation.

    where it was heard --STEP_S--> a first address --STEP_S--> the next ... until one answers

Where the peer has asked to be left (endpoint_health.py) is the last that is tried.

The responder takes the copy that arrives first and refuses the others as replayed, so there is one
session, and it is where the answer came from (RFC 8305 does so for connections). Two different
initiations would not do: a responder keeps the last one's keys only. The order changes from one
handshake to the next: of the first copy the answer may have been lost.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Sequence
from typing import Final, TypeVar

from fastun.endpoint import Endpoint
from fastun.host.dns.resolved import UnresolvedError
from fastun.host.sockets.address import EndpointAddress
from fastun.link.datagram.peer import UdpPeer
from fastun.link.datagram.sockets import UdpSockets
from fastun.link.endpoint_health import EndpointHealth, Key
from fastun.link.names import Names
from fastun.link.peer_slots import SlottedPeer
from fastun.native import UdpAddress

# As RFC 8305 recommends. Over a satellite, where 0.6 s are usual, a few copies more are sent.
STEP_S: Final = 0.25

T = TypeVar("T")


class AddressRace:
    """The addresses to try. Event loop only."""

    def __init__(self, names: Names, health: EndpointHealth, sockets: UdpSockets) -> None:
        """Look names up by ``names``, to be tried in the order of ``health``, by ``sockets``."""
        self._names = names
        self._health = health
        self._sockets = sockets

    async def addresses(self, udp_peer: UdpPeer, n: int) -> AsyncGenerator[UdpAddress, None]:
        """Yield them for the peer's ``n``th handshake, each host and port once, as names resolve.

        Raises OSError at the end where there was none: UnresolvedError, or no socket reaches any.
        """
        seen: set[tuple[object, int]] = set()
        heard = self._heard(udp_peer, n)
        if heard is not None and n % 2 == 0 and not self._health.is_left(heard.host):
            seen.add((heard.host, heard.port))
            yield heard
        failure: OSError | None = None
        left: list[UdpAddress] = []
        async with contextlib.aclosing(self._found(udp_peer, n)) as places:
            async for place in places:
                if isinstance(place, UnresolvedError):
                    failure = failure or place
                    continue
                if place[:2] in seen:
                    continue
                try:
                    address = self._sockets.address_of(*place, by=udp_peer.port.socket_index)
                except OSError as error:
                    failure = failure or error
                    continue
                seen.add(place[:2])
                if self._health.is_left(place.host):
                    left.append(address)
                else:
                    yield address
        if heard is not None and (heard.host, heard.port) not in seen:
            left.insert(0, heard)
        for address in left:
            yield address
        if failure is not None and not seen and not left:
            raise failure

    def _heard(self, udp_peer: UdpPeer, n: int) -> UdpAddress | None:
        """Return where the peer was heard: from the source that it knows, and next time without.

        That source may be what is wrong.
        """
        address, by = udp_peer.address, udp_peer.port.socket_index
        if address is None or udp_peer.is_guess:
            return None
        if by is not None:
            return self._sockets.address_of(address.host, address.port, address.zone, by=by)
        return address.without_source() if n % 2 else address

    async def _found(
        self, udp_peer: UdpPeer, n: int
    ) -> AsyncGenerator[EndpointAddress | UnresolvedError, None]:
        """Yield where the endpoints are, in the order of trial as far as that does not wait."""
        endpoints = _rotated(endpoints_of(udp_peer.slotted), n)
        lookups = [asyncio.ensure_future(self._names.addresses(each)) for each in endpoints]
        try:
            while lookups:
                await asyncio.wait(lookups, return_when=asyncio.FIRST_COMPLETED)
                done = [each for each in lookups if each.done()]
                lookups = [each for each in lookups if each not in done]
                found: list[EndpointAddress] = []
                for lookup in done:
                    error = lookup.exception()
                    if isinstance(error, UnresolvedError):
                        yield error
                    else:
                        found += _rotated(lookup.result(), n)
                for place in self._health.ordered(udp_peer.slotted.peer, found, udp_key):
                    yield place
        finally:
            for lookup in lookups:
                lookup.cancel()


def udp_key(place: EndpointAddress | UdpAddress) -> Key:
    """Return by what the health of an address is known."""
    return "udp", place.host, place.port


def endpoints_of(slotted: SlottedPeer) -> list[Endpoint]:
    """Return where a peer may be found on UDP."""
    return [endpoint for endpoint in slotted.peer.endpoints if endpoint.scheme == "udp"]


def _rotated(items: Sequence[T], n: int) -> list[T]:
    n %= len(items) or 1
    return [*items[n:], *items[:n]]
