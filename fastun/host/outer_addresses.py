"""Addresses that the tunnel's own packets go to: a route that contains one loops them back."""

from __future__ import annotations

import socket
import threading
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from fastun.config.settings import Settings
    from fastun.endpoint import Endpoint

OuterAddress = IPv4Address | IPv6Address

# A resolver that answers does so within tens of milliseconds; a start waits for one that does not
# no longer than a person would notice.
_LOOKUP_S: Final = 2.0


def of_settings(settings: Settings) -> tuple[set[OuterAddress], bool]:
    """Return the addresses of all endpoints, and whether each name among them was resolved.

    Blocks for _LOOKUP_S at most.
    """
    peers = [endpoint for peer in settings.peers for endpoint in peer.endpoints]
    dialled = settings.endpoints if settings.role == "connect" else ()
    found: set[OuterAddress] = set()
    names: set[str] = set()
    for endpoint in (*dialled, *peers):
        address = _literal(endpoint)
        if address is None:
            names.add(endpoint.host)
        else:
            found.add(address)
    looked_up, is_complete = _lookup(names)
    return found | looked_up, is_complete


def parsed(host: str) -> OuterAddress:
    """Return the address that a socket gives, without zone; IPv4's where it is mapped to IPv6."""
    address = ip_address(host.partition("%")[0])
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return mapped or address


def _literal(endpoint: Endpoint) -> OuterAddress | None:
    try:
        return parsed(endpoint.host)
    except ValueError:
        return None


def _lookup(names: set[str]) -> tuple[set[OuterAddress], bool]:
    """Resolve in a thread, abandoned when it takes too long: getaddrinfo has no time limit."""
    found: set[OuterAddress] = set()
    resolved: set[str] = set()

    def resolve() -> None:
        for name in names:
            try:
                answers = socket.getaddrinfo(name, None, type=socket.SOCK_DGRAM)
            except OSError:
                continue
            found.update(parsed(str(address[0])) for *_, address in answers)
            resolved.add(name)

    if names:
        thread = threading.Thread(target=resolve, daemon=True)
        thread.start()
        thread.join(_LOOKUP_S)
    return set(found), resolved == names
