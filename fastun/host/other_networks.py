"""The networks on a host's other interfaces, which pushed settings must not override.

A longer prefix wins over a shorter one, and of two equal ones the lower metric. So a pushed route
takes packets away from another interface if it equals one of its networks, or lies inside one; if
it only covers one, that network's own route still wins.
"""

from __future__ import annotations

import contextlib
import socket
from dataclasses import dataclass
from ipaddress import ip_interface, ip_network
from typing import TYPE_CHECKING, Any, Final

from fastun.host.routing_rules import FAMILIES, MAIN_TABLE
from fastun.peers.peer import one_host

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from fastun.host.iproute import IPRoute
    from fastun.peers.peer import Network

_ANYWHERE: Final = {4: "0.0.0.0", 6: "::"}  # noqa: S104 (where packets go, not what is bound)

# Default routes, halves of them as other tunnels make them, and 2000::/3, which contains all
# addresses of today's IPv6 internet, do not claim the networks inside them.
HALF_PREFIX: Final = 1
_NEARLY_ALL: Final = {4: HALF_PREFIX, 6: 3}


@dataclass(frozen=True, slots=True)
class OtherNetwork:
    """A network, and its owner: an interface's name, or the kernel for a blackhole."""

    network: Network
    owner: str


def beaten_by(network: Network, others: Iterable[OtherNetwork]) -> OtherNetwork | None:
    """Return which network a route to `network` would take packets from, None where none."""
    for other in others:
        if other.network == network:
            return other
        is_all = other.network.prefixlen <= _NEARLY_ALL[network.version]
        if not is_all and is_inside(network, other.network):
            return other
    return None


def is_inside(inner: Network, outer: Network) -> bool:
    """Return whether all of `inner` lies in `outer`."""
    return inner.version == outer.version and inner.subnet_of(outer)  # type: ignore[arg-type]


def of_others(netlink: IPRoute, but: int) -> list[OtherNetwork]:
    """Return the networks of all interfaces except that of index `but`: routes and addresses.

    Addresses count as well: the interface may be down at the moment, or have no route to its
    network in the main table. Default routes do not count, nor do link-local networks, which every
    interface has.
    """
    found = [*_routes(netlink, but), *_addresses(netlink, but)]
    return [
        OtherNetwork(network, _name(index))
        for network, index in found
        if network.prefixlen and not network.is_link_local and not network.is_multicast
    ]


def _routes(netlink: IPRoute, but: int) -> Iterator[tuple[Network, int]]:
    for version, family in FAMILIES.items():
        for route in netlink.get_routes(family=family, table=MAIN_TABLE):
            indices = _ways_out(route)
            if route.get_attr("RTA_TABLE") == MAIN_TABLE and indices != {but}:
                address = route.get_attr("RTA_DST") or _ANYWHERE[version]
                yield ip_network(f"{address}/{route['dst_len']}"), min(indices - {but})


def _ways_out(route: Any) -> set[int]:
    """Return the interfaces of a route; 0 is the kernel, which answers or drops by itself."""
    hops = route.get_attr("RTA_MULTIPATH")
    return {hop["oif"] for hop in hops} if hops else {route.get_attr("RTA_OIF") or 0}


def _addresses(netlink: IPRoute, but: int) -> Iterator[tuple[Network, int]]:
    for address in netlink.get_addr():
        if address["index"] == but:
            continue
        # IFA_ADDRESS is the other end's on a point-to-point link.
        for name in ("IFA_ADDRESS", "IFA_LOCAL"):
            if text := address.get_attr(name):
                network = ip_interface(f"{text}/{address['prefixlen']}")
                is_own = name == "IFA_LOCAL"
                yield (one_host(network) if is_own else network.network), address["index"]


def _name(index: int) -> str:
    with contextlib.suppress(OSError):
        return socket.if_indextoname(index) if index else "the kernel"
    return f"interface {index}"
