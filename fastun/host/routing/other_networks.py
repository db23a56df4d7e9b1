"""The networks on a host's other interfaces, which the tunnel's routes must not override.

A longer prefix wins over a shorter one, and of two equal ones the lower metric. So a route takes
packets away from another interface if it equals one of its networks, or lies inside one; if it only
covers one, that network's own route still wins.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec

from fastun.host.netlink.kernel import name_of
from fastun.host.routing.prefixes import Prefixes
from fastun.peers.peer import one_host

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from fastun.host.netlink.kernel import FoundAddress, FoundRoute
    from fastun.peers.peer import Network

# Default routes, halves of them as other tunnels make them, and 2000::/3, which contains all
# addresses of today's IPv6 internet, do not claim the networks inside them.
HALF_PREFIX: Final = 1
_NEARLY_ALL: Final = {4: HALF_PREFIX, 6: 3}
# As many addresses as half of those.
_MOST: Final = {4: 1 << 31, 6: 1 << 124}


class OtherNetwork(msgspec.Struct, frozen=True):
    """A network, and its owner: an interface's name, or the kernel for a blackhole."""

    network: Network
    owner: str


class OtherNetworks:
    """Those of a host, by what they hold."""

    def __init__(self, others: Iterable[OtherNetwork]) -> None:
        """Index them."""
        self._prefixes = Prefixes((other.network, other) for other in others)

    def holding(self, network: Network) -> Iterator[OtherNetwork]:
        """Yield those that a route to ``network`` would take packets from."""
        for other in self._prefixes.holding(network):
            is_all = other.network.prefixlen <= _NEARLY_ALL[network.version]
            if other.network == network or not is_all:
                yield other

    def equal_to(self, network: Network) -> OtherNetwork | None:
        """Return the one that is the same network."""
        other = next(self._prefixes.holding(network), None)
        return other if other is not None and other.network == network else None


def short_of_most(networks: Iterable[Network]) -> list[Network]:
    """Return the networks without the widest that make them most of an IP version's addresses.

    So they are no default route, whether in one piece or in two hundred.
    """
    kept: list[Network] = []
    n_addresses = {4: 0, 6: 0}
    for network in sorted(networks, key=lambda each: each.num_addresses):
        n_addresses[network.version] += network.num_addresses
        if n_addresses[network.version] < _MOST[network.version]:
            kept.append(network)
    return kept


def is_inside(inner: Network, outer: Network) -> bool:
    """Return whether all of `inner` lies in `outer`."""
    return inner.version == outer.version and inner.subnet_of(outer)  # type: ignore[arg-type]


def of_others(
    routes: Iterable[FoundRoute], addresses: Iterable[FoundAddress], but: int
) -> OtherNetworks:
    """Return the networks of all interfaces except that of index `but`: main routes and addresses.

    Addresses count as well: the interface may be down at the moment, or have no route to its
    network in the main table. Default routes do not count, nor do link-local networks, which every
    interface has.
    """
    owners: dict[int, str] = {}
    found = [*_of_routes(routes, but), *_of_addresses(addresses, but)]
    return OtherNetworks(
        OtherNetwork(network, owners.setdefault(index, name_of(index)))
        for network, index in found
        if network.prefixlen and not network.is_link_local and not network.is_multicast
    )


def _of_routes(routes: Iterable[FoundRoute], but: int) -> Iterator[tuple[Network, int]]:
    for route in routes:
        if others := route.indices - {but}:
            yield route.place.network, min(others)


def _of_addresses(addresses: Iterable[FoundAddress], but: int) -> Iterator[tuple[Network, int]]:
    for address in addresses:
        if address.index != but:
            yield address.peer.network, address.index
            yield one_host(address.local), address.index
