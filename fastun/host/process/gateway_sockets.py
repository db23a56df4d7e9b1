"""The sockets of a gateway that the host process makes."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import AsyncIterator, Sequence
from typing import TYPE_CHECKING, Literal

from fastun.host.process import supply_messages as messages
from fastun.host.process.supply_messages import Made, Started
from fastun.host.sockets.maker import OWN
from fastun.vocabulary import Transport

if TYPE_CHECKING:
    from fastun.host.process.client import HostClient
    from fastun.host.process.messages import Message
    from fastun.host.sockets.address import EndpointAddress
    from fastun.host.sockets.icmp_filter import Kind
    from fastun.host.sockets.maker import Purpose


class GatewaySockets:
    """A SocketMaker. It waits for the host process, which takes a fraction of a millisecond."""

    def __init__(self, host: HostClient) -> None:
        """Ask that one."""
        self._host = host

    def listener(
        self, at: EndpointAddress, purpose: Purpose = "links", *, is_beside: bool = False
    ) -> socket.socket:
        """As SocketMaker."""
        host, port, zone = at
        return self._made(
            messages.MakeListener(
                host=str(host), port=port, zone=zone, purpose=purpose, is_beside=is_beside
            )
        )

    def datagrams(self, at: EndpointAddress, *, is_beside: bool = False) -> socket.socket:
        """As SocketMaker."""
        host, port, zone = at
        return self._made(
            messages.MakeDatagrams(host=str(host), port=port, zone=zone, is_beside=is_beside)
        )

    def outgoing(self, family: int, kind: int) -> socket.socket:
        """As SocketMaker."""
        protocol: Transport = "tcp" if kind == socket.SOCK_STREAM else "udp"
        return self._made(messages.MakeOutgoing(family=_version(family), kind=protocol))

    def icmp(self, kind: Kind, family: int, ports: list[int]) -> socket.socket:
        """As SocketMaker."""
        return self._made(messages.MakeIcmp(kind=kind, family=_version(family), ports=tuple(ports)))

    def turn_away(self, listener: socket.socket, sources: Sequence[bytes]) -> None:
        """As SocketMaker, in a moment: the event loop does not wait for it."""
        asked = messages.TurnAway(descriptor=listener.fileno(), sources=tuple(sources))
        self._host.tell(asked)

    def channel(self) -> tuple[socket.socket, socket.socket]:
        """As SocketMaker.

        Where the host process does not answer, with buffers as large as this process may have
        them: a worker's replacement is not to wait until it goes on.
        """
        try:
            ours, theirs = self._sockets(messages.MakeChannel(), 2)
        except TimeoutError:
            return OWN.channel()
        return ours, theirs

    def fleet(self) -> socket.socket:
        """Return the channel of a new process of the fleet. Blocks; raises FastunError, OSError."""
        _, descriptors = self._host.call_for_descriptors(messages.StartFleet(), Started)
        (channel,) = map(_socket, descriptors)
        return channel

    @contextlib.asynccontextmanager
    async def control(self) -> AsyncIterator[socket.socket]:
        """Yield the control socket, and have it removed at the end. Raises RuntimeFailure."""
        import asyncio  # noqa: PLC0415 (not for the host process's sake)

        # It waits for other starts.
        _, descriptors = await asyncio.to_thread(
            self._host.call_for_descriptors, messages.MakeControl(), Made
        )
        (listener,) = map(_socket, descriptors)
        try:
            yield listener
        finally:
            listener.close()
            self._host.tell(messages.RemoveControl())

    def start_template(self) -> tuple[int, socket.socket]:
        """Return the process ID of a template, and its channel (fastun/lane/template.py)."""
        is_up = self._host.now is not None  # else it is still importing
        ask = self._host.call_soon if is_up else self._host.call_for_descriptors
        started, descriptors = ask(messages.StartTemplate(), Started)
        (channel,) = map(_socket, descriptors)
        return started.pid, channel

    def _made(self, request: Message) -> socket.socket:
        (made,) = self._sockets(request, 1)
        made.setblocking(False)
        return made

    def _sockets(self, request: Message, n: int) -> list[socket.socket]:
        _, descriptors = self._host.call_soon(request, Made)
        sockets = [*map(_socket, descriptors)]
        if len(sockets) != n:
            for each in sockets:
                each.close()
            raise OSError(0, "the host process has sent other descriptors")
        return sockets


def _socket(descriptor: int) -> socket.socket:
    return socket.socket(fileno=descriptor)


def _version(family: int) -> Literal[4, 6]:
    return 6 if family == socket.AF_INET6 else 4
