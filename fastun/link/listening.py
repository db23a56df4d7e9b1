"""What a serving side listens on: bound at once, or as soon as it is known where.

    an address        at once, and freely (binding.py): no interface need have it yet
    a name, a zone    when the name resolves, or the interface is there (names.py); a name is looked
                      up again, and what it resolves to then is bound as well
    a port in use     ends the gateway, before it says that it is up

An address that no interface has is warned of, and the gateway is not ready until it is there. It
may go again later: that is the same.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Callable, Iterable
from typing import Final

from fastun import log
from fastun.endpoint import Endpoint, format_host_port
from fastun.errors import RuntimeFailure
from fastun.host.resolved import UnresolvedError
from fastun.link import binding
from fastun.link.names import RETRY_S, EndpointAddress, Names, literal
from fastun.link.stream import sockets as stream

LOOK_INTERVAL_S: Final = 1.0
NAMES_INTERVAL_S: Final = 30.0
ADDRESSES_MAX: Final = 8  # of one name, since the start

_ANY_IPV4: Final = "0.0.0.0"  # noqa: S104 (what [::] asks for on a host without IPv6)


class Listening:
    """The listening sockets of a gateway. Event loop only."""

    def __init__(
        self,
        endpoints: tuple[Endpoint, ...],
        names: Names,
        take_udp: Callable[[socket.socket], None],
        fwmark: int = 0,
    ) -> None:
        """Prepare to listen on ``endpoints``; ``take_udp`` is given each bound socket of UDP.

        ``fwmark`` goes on every packet, 0 is none.
        """
        # Listeners of TCP, for the acceptor.
        self.streams: asyncio.Queue[socket.socket] = asyncio.Queue()
        self.all_bound = asyncio.Event()
        self._names = names
        self._take_udp = take_udp
        self._fwmark = fwmark
        self._unbound = list(endpoints)
        self._sockets: list[socket.socket] = []
        self._is_present: dict[tuple[str, EndpointAddress], bool] = {}  # by field and address
        self._log = log.get("link")

    def waits_for(self) -> tuple[str, ...]:
        """Return what is not there yet: endpoints without an address, addresses. Any thread."""
        unbound = [f"{_field(endpoint)} {endpoint.host}" for endpoint in list(self._unbound)]
        watched = list(self._is_present.items())
        absent = [
            f"{field} {address.host}" for (field, address), is_there in watched if not is_there
        ]
        return (*unbound, *absent)

    def close(self) -> None:
        """Close all sockets."""
        for each in self._sockets:
            each.close()

    def bind_known(self) -> None:
        """Bind all endpoints that are addresses. Raises RuntimeFailure: a port that is in use."""
        for endpoint in tuple(self._unbound):
            host = endpoint.host
            if host == "::" and not socket.has_dualstack_ipv6():
                host = _ANY_IPV4
            try:
                found = literal(host, endpoint.port)
            except UnresolvedError:  # its interface is missing
                continue
            if found:
                self._bind(endpoint, found)
        if not self._unbound:
            self.all_bound.set()

    async def run(self) -> None:
        """Bind the others when they are known, and watch for addresses that come and go.

        Raises RuntimeFailure as `bind_known`.
        """
        await asyncio.gather(self._watch(), *map(self._bind_later, tuple(self._unbound)))

    # -- binding --------------------------------------------------------------------------------

    async def _bind_later(self, endpoint: Endpoint) -> None:
        found: tuple[EndpointAddress, ...] = ()
        while endpoint in self._unbound:
            try:
                found = await self._names.addresses(endpoint)
            except UnresolvedError:
                await asyncio.sleep(RETRY_S)
                continue
            self._bind(endpoint, found)
            if not self._unbound:
                self.all_bound.set()
        if not _is_literal(endpoint):
            await self._follow(endpoint, [*found])

    async def _follow(self, endpoint: Endpoint, bound: list[EndpointAddress]) -> None:
        """Bind what the name comes to resolve to; the sockets of before stay, but may be absent."""
        field = _field(endpoint)
        while True:
            await asyncio.sleep(NAMES_INTERVAL_S)
            with contextlib.suppress(UnresolvedError):
                found = await self._names.addresses(endpoint)
                for address in set(found) - set(bound):
                    if len(bound) < ADDRESSES_MAX:
                        bound.append(address)
                        self._open_too(endpoint, address)
                for each in bound:
                    if each in found:
                        self.watch(field, each)
                    else:
                        self._is_present.pop((field, each), None)

    def _open_too(self, endpoint: Endpoint, address: EndpointAddress) -> None:
        try:
            self._open(endpoint, address)
        except (OSError, RuntimeFailure) as error:
            self._log.warning(
                f"{_field(endpoint)}: cannot listen on {address.host}, which {endpoint.host} "
                "resolves to now; restart fastun when the port is free there",
                error=getattr(error, "strerror", None) or str(error),
            )

    def _bind(self, endpoint: Endpoint, found: Iterable[EndpointAddress]) -> None:
        for address in found:
            try:
                self._open(endpoint, address)
            except OSError as error:
                raise RuntimeFailure(f"--listen {endpoint}: {binding.advice(error)}") from None
            self.watch(_field(endpoint), address)
        self._unbound.remove(endpoint)

    def _open(self, endpoint: Endpoint, address: EndpointAddress) -> None:
        text = format_host_port(str(address.host), address.port)
        if endpoint.scheme == "tcp":
            listener = stream.listen(address, self._fwmark)
            self._sockets.append(listener)
            self.streams.put_nowait(listener)
            self._log.info("listening", address=text)
        else:
            bound = binding.bound(address, socket.SOCK_DGRAM)
            self._sockets.append(bound)
            self._take_udp(bound)
            self._log.info("listening", address=text, transport="udp")

    # -- watching -------------------------------------------------------------------------------

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(LOOK_INTERVAL_S)
            for field, address in tuple(self._is_present):
                self.watch(field, address)

    def watch(self, field: str, address: EndpointAddress) -> None:
        """Say that an address, of that field of the configuration, has come or gone.

        Once it was called, that is said from then on.
        """
        key = field, address
        was_present, is_present = self._is_present.get(key), binding.is_present(address)
        self._is_present[key] = is_present
        if is_present == was_present:
            return
        where = f"{field}: {address.host}"
        if not is_present:
            is_late = was_present is None
            what = "is not on any interface yet" if is_late else "is not on any interface any more"
            self._log.warning(f"{where} {what}; waiting for it")
        elif was_present is False:
            self._log.info(f"{where} is on an interface now")


def _is_literal(endpoint: Endpoint) -> bool:
    try:
        return bool(literal(endpoint.host, endpoint.port))
    except UnresolvedError:  # its interface has gone again
        return True


def _field(endpoint: Endpoint) -> str:
    return f"listen.{endpoint.scheme}"
