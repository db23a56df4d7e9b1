"""Where a gateway that forwards leads to: interfaces of this host, and the networks behind them."""

from __future__ import annotations

from ipaddress import ip_network
from pathlib import Path
from typing import TYPE_CHECKING, Final

from fastun.host.netlink.kernel import name_of
from fastun.host.routing.other_networks import is_inside
from fastun.host.routing.prefixes import Prefixes

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from fastun.host.netlink.kernel import FoundRoute
    from fastun.peers.peer import Network

_LOOPBACK_INDEX: Final = 1  # net/core/dev.c: in each network namespace
_KERNEL: Final = 0  # what the kernel answers itself, as of a blackhole
_INTERFACES: Final = Path("/sys/class/net")

# RFC 1918, RFC 4193
_PRIVATE: Final = tuple(
    map(ip_network, ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "fc00::/7"))
)


def interfaces(
    routes: Iterable[FoundRoute], to: tuple[Network, ...], but: int
) -> dict[int, list[int]]:
    """Return by IP version the interfaces that lead ``to`` these networks, all if none are named.

    By their indices, without that of the device, ``but``. ``routes`` are the main table's.
    """
    found: dict[int, set[int]] = {4: set(), 6: set()}
    passable = [each for each in routes if _leads(each, but)]
    if to:
        passable = [*_inside(passable, to), *_around(passable, to)]
    for route in passable:
        found[route.place.network.version] |= route.indices - {but, _LOOPBACK_INDEX, _KERNEL}
    return {version: sorted(indices) for version, indices in found.items()}


def private_networks(routes: Iterable[FoundRoute], but: int) -> list[Network]:
    """Return the private networks that other interfaces lead to: what clients come here for.

    Not those of bridges that have no port on a wire, where containers of this host are.
    """
    found: dict[Network, None] = {}
    is_inner: dict[int, bool] = {}  # by interface, of which there are fewer than routes
    for route in routes:
        network = route.place.network
        if not (_leads(route, but) and any(is_inside(network, each) for each in _PRIVATE)):
            continue
        outside = route.indices - {but, _LOOPBACK_INDEX, _KERNEL}
        for index in outside - is_inner.keys():
            is_inner[index] = _is_inner_bridge(name_of(index))
        if not all(is_inner[index] for index in outside):
            found[network] = None
    return list(found)


def _leads(route: FoundRoute, but: int) -> bool:
    network = route.place.network
    is_usual = not (network.is_link_local or network.is_multicast or network.is_loopback)
    return is_usual and bool(route.indices - {but, _LOOPBACK_INDEX, _KERNEL})


def _inside(routes: Iterable[FoundRoute], to: tuple[Network, ...]) -> Iterator[FoundRoute]:
    """Yield the routes to networks inside these, or equal to them."""
    wanted = Prefixes((network, True) for network in to)
    for route in routes:
        if any(wanted.holding(route.place.network)):
            yield route


def _around(routes: list[FoundRoute], to: tuple[Network, ...]) -> Iterator[FoundRoute]:
    """Yield the longest route around each of these."""
    by_network = Prefixes((route.place.network, route) for route in routes)
    for network in to:
        if (route := next(by_network.holding(network), None)) is not None:
            yield route


def _is_inner_bridge(name: str) -> bool:
    """Return whether an interface is a bridge without a port that is a device of its own."""
    ports = _INTERFACES / name / "brif"
    if not ports.is_dir():
        return False
    return not any((_INTERFACES / port.name / "device").exists() for port in ports.iterdir())
