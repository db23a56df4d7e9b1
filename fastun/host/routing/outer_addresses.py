"""Addresses that the tunnel's own packets go to: a route that contains one loops them back."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from fastun.config.settings import Settings
    from fastun.endpoint import Endpoint

OuterAddress = IPv4Address | IPv6Address


class OuterEndpoint(NamedTuple):
    """Where fastun's own packets go."""

    protocol: str  # tcp or udp
    host: OuterAddress
    port: int


def of_settings(settings: Settings) -> tuple[set[OuterAddress], bool]:
    """Return the addresses among all endpoints, and whether all of them are addresses.

    Names are looked up later; what they resolve to comes by `Device.outer_changed`.
    """
    peers = [endpoint for peer in settings.peers for endpoint in peer.endpoints]
    dialled = settings.endpoints if settings.role == "connect" else ()
    found = [_literal(endpoint) for endpoint in (*dialled, *peers)]
    return {address for address in found if address is not None}, None not in found


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
