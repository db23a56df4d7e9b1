"""Listening on an endpoint, over TCP or UDP: which addresses it means, and what may go wrong."""

from __future__ import annotations

import errno
import socket
from collections.abc import Callable

from fastun import ending
from fastun.endpoint import Endpoint
from fastun.errors import RuntimeFailure

Open = Callable[[int, tuple[object, ...]], socket.socket]


def listen(endpoint: Endpoint, kind: socket.SocketKind, open_one: Open) -> list[socket.socket]:
    """Return what ``open_one`` makes of each family and address that ``endpoint`` resolves to.

    ``[::]`` takes IPv4 as well; on a host without IPv6 it means ``0.0.0.0``. Raises RuntimeFailure.
    """
    host = endpoint.host
    if host == "::" and not socket.has_dualstack_ipv6():
        host = "0.0.0.0"  # noqa: S104 (what [::] asks for)
    try:
        found = ending.unless_asked(
            lambda: socket.getaddrinfo(host, endpoint.port, type=kind, flags=socket.AI_PASSIVE)
        )
        addresses = {(family, address) for family, _, _, _, address in found}
        return [open_one(family, address) for family, address in sorted(addresses)]
    except socket.gaierror as error:
        raise RuntimeFailure(
            f"--listen {endpoint}: the host cannot be resolved ({error.strerror}); "
            "give an address of this host, or [::] for all"
        ) from None
    except OSError as error:
        raise RuntimeFailure(f"--listen {endpoint}: {advice(error)}") from None


def advice(error: OSError) -> str:
    """Return what to do about a refusal to bind."""
    return {
        errno.EADDRINUSE: "the port is in use; stop the other program or choose another port",
        errno.EADDRNOTAVAIL: "no interface of this host has that address; give one that it has",
        errno.EACCES: "ports under 1024 need root",
    }.get(error.errno or 0, error.strerror or str(error))
