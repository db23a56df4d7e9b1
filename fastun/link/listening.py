"""What a serving side listens on: bound at once, or as soon as it is known where.

    an address        at once, and freely (binding.py): no interface need have it yet
    a name, a zone    when the name resolves, or the interface is there (names.py); a name is looked
                      up again, and what it resolves to then is bound as well
    a port in use     ends the gateway, before it says that it is up

An address that no interface has is warned of, and the gateway is not ready until it is there. It
may go again later: that is the same. What is listened on may change: what is new is bound before
what is not wanted any more is closed.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Final

from fastun import log
from fastun.endpoint import Endpoint, format_host_port
from fastun.errors import RuntimeFailure
from fastun.host.dns.resolved import UnresolvedError
from fastun.host.sockets import binding
from fastun.host.sockets.address import EndpointAddress
from fastun.host.sockets.maker import OWN, SocketMaker
from fastun.link.names import RETRY_S, Names, literal
from fastun.link.stream import sockets as stream
from fastun.pace import PACE

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
        leave_udp: Callable[[Sequence[socket.socket]], Awaitable[None]] | None = None,
        sockets: SocketMaker = OWN,
    ) -> None:
        """Prepare to listen on ``endpoints``.

        ``take_udp`` is given each bound socket of UDP, ``leave_udp`` those that are to be closed;
        the first raises RuntimeFailure or OSError for one that it cannot use.
        ``sockets`` makes them.
        """
        # Listeners of TCP, for the acceptor, which sets what is called before one is closed.
        self.streams: asyncio.Queue[socket.socket] = asyncio.Queue()
        self.leave_stream: Callable[[socket.socket], None] = lambda _: None
        self.all_bound = asyncio.Event()
        self._names = names
        self._take_udp = take_udp
        self._leave_udp = leave_udp
        self._sockets = sockets
        self._unbound = list(endpoints)
        self._following: set[asyncio.Task[None]] = set()  # names that were added later
        self._bound: dict[Endpoint, dict[EndpointAddress, socket.socket]] = {}
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
        for task in self._following:
            task.cancel()
        for sockets in self._bound.values():
            for each in sockets.values():
                each.close()

    def bind_known(self) -> None:
        """Bind all endpoints that are addresses. Raises RuntimeFailure: a port that is in use."""
        for endpoint in tuple(self._unbound):
            try:
                found = _written(endpoint)
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
        while endpoint in self._unbound:
            try:
                found = await self._names.addresses(endpoint)
            except UnresolvedError:
                await asyncio.sleep(RETRY_S)
                continue
            self._bind(endpoint, found)
            if not self._unbound:
                self.all_bound.set()
        await self._follow(endpoint)

    async def _follow(self, endpoint: Endpoint) -> None:
        """Bind what the name comes to resolve to; the sockets of before stay, but may be absent."""
        field, bound = _field(endpoint), list(self._bound.get(endpoint, ()))
        while endpoint in self._bound and not _is_literal(endpoint):
            await asyncio.sleep(NAMES_INTERVAL_S)
            with contextlib.suppress(UnresolvedError):
                found = await self._names.addresses(endpoint)
                if endpoint not in self._bound:  # it is not listened on any more
                    return
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
        with contextlib.ExitStack() as unless_taken:
            try:
                opened = self._open(endpoint, address, unless_taken)
                self._take(endpoint, {address: opened})
            except RuntimeFailure as error:
                self._log.warning(
                    f"{_field(endpoint)}: cannot listen on {address.host}, which {endpoint.host} "
                    "resolves to now; restart fastun when the port is free there",
                    error=str(error),
                )
                return
            unless_taken.pop_all()

    def _bind(self, endpoint: Endpoint, found: Iterable[EndpointAddress]) -> None:
        with contextlib.ExitStack() as unless_taken:
            opened = {address: self._open(endpoint, address, unless_taken) for address in found}
            self._take(endpoint, opened)
            unless_taken.pop_all()
        self._unbound.remove(endpoint)

    def _open(
        self,
        endpoint: Endpoint,
        address: EndpointAddress,
        stack: contextlib.ExitStack,
        *,
        is_beside: bool = False,
    ) -> socket.socket:
        """Return a bound socket, which ``stack`` closes. Raises RuntimeFailure."""
        try:
            if endpoint.scheme == "tcp":
                opened = stream.listen(address, self._sockets, is_beside=is_beside)
            else:
                opened = self._sockets.datagrams(address, is_beside=is_beside)
        except OSError as error:
            raise RuntimeFailure(f"--listen {endpoint}: {binding.advice(error)}") from None
        return stack.enter_context(opened)

    def _take(self, endpoint: Endpoint, opened: dict[EndpointAddress, socket.socket]) -> None:
        """Use the sockets of an endpoint. RuntimeFailure: there are too many, or open files."""
        for address, each in opened.items():
            text = format_host_port(str(address.host), address.port)
            if endpoint.scheme == "tcp":
                self.streams.put_nowait(each)
            else:
                try:
                    self._take_udp(each)
                except OSError as error:
                    raise RuntimeFailure(f"--listen {endpoint}: {binding.advice(error)}") from None
            self._log.info("listening", address=text, transport=endpoint.scheme)
            self._bound.setdefault(endpoint, {})[address] = each
            self.watch(_field(endpoint), address)

    # -- changing -------------------------------------------------------------------------------

    async def change(self, endpoints: tuple[Endpoint, ...]) -> None:
        """Listen on these instead. RuntimeFailure: on what was listened on, as before."""
        added = [each for each in endpoints if each not in (*self._bound, *self._unbound)]
        gone = [each for each in self._bound if each not in endpoints]
        found = {endpoint: await self._addresses(endpoint) for endpoint in added}
        retiring = [each for endpoint in gone for each in self._bound[endpoint].values()]
        with contextlib.ExitStack() as unless_taken:
            with binding.overlapping(retiring):
                opened = {
                    endpoint: {
                        address: self._open(endpoint, address, unless_taken, is_beside=True)
                        for address in addresses
                    }
                    for endpoint, addresses in found.items()
                }
            await self._take_all(opened)
            unless_taken.pop_all()
        for endpoint in added:
            self._following.add(task := asyncio.create_task(self._follow(endpoint)))
            task.add_done_callback(self._following.discard)
        await self._leave({endpoint: self._bound.pop(endpoint) for endpoint in gone})
        self._unbound = [each for each in self._unbound if each in endpoints]
        if not self._unbound:
            self.all_bound.set()

    async def _take_all(self, opened: dict[Endpoint, dict[EndpointAddress, socket.socket]]) -> None:
        """Use the sockets of all these, or of none: RuntimeFailure, as `_take`.

        UDP first, which alone may refuse one. Those before it are left while they are open: their
        owner knows them by what they are bound to.
        """
        try:
            for endpoint in sorted(opened, key=lambda each: each.scheme == "tcp"):
                self._take(endpoint, opened[endpoint])
        except RuntimeFailure:
            await self._leave(
                {each: self._bound.pop(each) for each in opened if each in self._bound}
            )
            raise

    async def _addresses(self, endpoint: Endpoint) -> tuple[EndpointAddress, ...]:
        try:
            return _written(endpoint) or await self._names.addresses(endpoint)
        except UnresolvedError as error:
            raise RuntimeFailure(
                f"--listen {endpoint}: {error}; give an address of this host"
            ) from None

    async def _leave(self, gone: dict[Endpoint, dict[EndpointAddress, socket.socket]]) -> None:
        """Close the sockets of endpoints. Connections that were accepted there live on."""
        of_udp = [
            each
            for endpoint, sockets in gone.items()
            if endpoint.scheme == "udp"
            for each in sockets.values()
        ]
        try:
            if of_udp and self._leave_udp is not None:
                await self._leave_udp(of_udp)
        finally:
            for endpoint, sockets in gone.items():
                self._close(endpoint, sockets)

    def _close(self, endpoint: Endpoint, sockets: dict[EndpointAddress, socket.socket]) -> None:
        for address, each in sockets.items():
            if endpoint.scheme == "tcp":
                self.leave_stream(each)
            each.close()
            self.forget(_field(endpoint), address)
            text = format_host_port(str(address.host), address.port)
            self._log.info("no longer listening", address=text, transport=endpoint.scheme)

    # -- watching -------------------------------------------------------------------------------

    async def _watch(self) -> None:
        while True:
            await PACE.next_look(LOOK_INTERVAL_S)
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

    def forget(self, field: str, address: EndpointAddress) -> None:
        """Watch an address no more."""
        self._is_present.pop((field, address), None)


def _written(endpoint: Endpoint) -> tuple[EndpointAddress, ...]:
    """Return the addresses of an endpoint that is one; none where it is a name. UnresolvedError."""
    host = endpoint.host
    if host == "::" and not socket.has_dualstack_ipv6():
        host = _ANY_IPV4
    return tuple(literal(host, endpoint.port))


def _is_literal(endpoint: Endpoint) -> bool:
    try:
        return bool(literal(endpoint.host, endpoint.port))
    except UnresolvedError:  # its interface has gone again
        return True


def _field(endpoint: Endpoint) -> str:
    return f"listen.{endpoint.scheme}"
