"""What a server may push of addresses and routes, whatever a configuration accepts.

The gateway leaves out what is more, and says so; the host process, which is asked for the rest,
ends the conversation with one that asks for more all the same.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from fastun.host.routing.other_networks import is_inside, short_of_most

if TYPE_CHECKING:
    from collections.abc import Iterable

    from fastun.peers.peer import Address, Network

# 10.0.0.0/8 and fd00::/8 are the widest private networks. An address with a shorter prefix
# would be a default route, of a client that may be pushed addresses and no routes.
WIDEST_PREFIX: Final = 8


def why_not(address: Address, allowed: Iterable[Network]) -> str:
    """Return why a device should not have the address; empty where it may."""
    if address.ip.is_multicast or address.ip.is_unspecified or address.ip.is_loopback:
        return "a multicast, unspecified or loopback address"
    if address.network.prefixlen < WIDEST_PREFIX:
        return f"its network is wider than /{WIDEST_PREFIX}"
    if not is_within(address.network, allowed):
        return "its network is not within the peer's allowed IPs"
    return ""


def is_within(network: Network, allowed: Iterable[Network]) -> bool:
    """Return whether it is inside one of the allowed IPs: it must not attract more."""
    return any(is_inside(network, each) for each in allowed)


def no_default(networks: Iterable[Network]) -> set[Network]:
    """Return the networks without those that make a default route in pieces.

    They are those of all routes and addresses, and of all servers: an address brings a route to its
    network, and 32 networks of IPv6 that are /8 hold its whole internet.
    """
    return set(short_of_most(dict.fromkeys(networks)))
