"""Where a socket is bound, or connects to."""

from __future__ import annotations

import socket
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import NamedTuple, Self


class EndpointAddress(NamedTuple):
    """Where an endpoint may be. ``zone`` is an interface's index, of a link-local address."""

    host: IPv4Address | IPv6Address
    port: int
    zone: int

    @classmethod
    def of(cls, bound: socket.socket) -> Self:
        """Return where a socket is bound. Raises OSError."""
        return cls._of(bound.getsockname())

    @classmethod
    def of_peer(cls, connection: socket.socket) -> Self:
        """Return where a connection leads. OSError, ValueError: nowhere, or it is ending."""
        return cls._of(connection.getpeername())

    @classmethod
    def _of(cls, name: tuple[str, int] | tuple[str, int, int, int]) -> Self:
        host, port, *more = name
        return cls(ip_address(host.partition("%")[0]), port, more[1] if more else 0)

    @property
    def family(self) -> socket.AddressFamily:
        """AF_INET or AF_INET6."""
        return socket.AF_INET if isinstance(self.host, IPv4Address) else socket.AF_INET6

    def sockaddr(self) -> tuple[str, int] | tuple[str, int, int, int]:
        """Return it as the socket calls take it."""
        if isinstance(self.host, IPv4Address):
            return (str(self.host), self.port)
        return (str(self.host), self.port, 0, self.zone)
