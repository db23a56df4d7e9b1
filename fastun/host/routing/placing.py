"""Where the device's routes go: the main table, or one that our own packets do not use.

A route whose network holds an address that our own packets go to would lead them back into the
tunnel. It is put into the mark's table, with rules for its length (routing_rules.py). The route
that the kernel makes to an address's own network is treated alike: where it would catch our
packets, the address is made without it, and the route is ours.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import msgspec

from fastun.host.netlink.kernel import Place
from fastun.host.routing.other_networks import HALF_PREFIX
from fastun.host.routing.prefixes import Prefixes
from fastun.host.routing.rule_kinds import MAIN_TABLE, Kind, Level, table_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from fastun.config.vocabulary import Table
    from fastun.host.routing.outer_addresses import OuterAddress
    from fastun.peers.peer import Address, Network


class Way(NamedTuple):
    """What is configured of it: the table, and the mark of our own packets, 0 for none."""

    table: Table
    fwmark: int

    @property
    def marked_table(self) -> int:
        """The table that our own packets do not use, 0 where there is none."""
        is_users = isinstance(self.table, int)
        return 0 if is_users or not self.fwmark else table_of(self.fwmark)


class Caught:
    """Which networks hold an address that our own packets go to."""

    def __init__(self, networks: Iterable[Network]) -> None:
        """Index ``networks``."""
        self._prefixes = Prefixes((network, network) for network in networks)

    def by(self, outer: Iterable[OuterAddress]) -> frozenset[Network]:
        """Return those that hold an address of ``outer``."""
        return frozenset(
            network for address in outer for network in self._prefixes.holding_address(address)
        )


class Placed(msgspec.Struct):
    """What the device is to have; `addresses` say whether the kernel makes a route to the network.

    `caught` knows which networks may catch our own packets; `levels` need rules. `unmarked` cannot
    be had: they would catch them.
    """

    caught: Caught
    addresses: dict[Address, bool] = msgspec.field(default_factory=dict)
    routes: dict[Place, None] = msgspec.field(default_factory=dict)
    levels: set[Kind] = msgspec.field(default_factory=set)
    unmarked: list[Network] = msgspec.field(default_factory=list)


def placed(
    addresses: Sequence[Address],
    networks: Sequence[Network],
    outer: Iterable[OuterAddress],
    way: Way,
) -> Placed:
    """Return where everything goes while our own packets go to ``outer``."""
    catching = Caught((*networks, *(address.network for address in addresses)))
    caught = catching.by(outer)
    found = Placed(catching)
    more: list[Network] = []
    for address in addresses:
        network = address.network
        found.addresses[address] = has_route = _has_route(network, caught, way)
        if not has_route and network.prefixlen > HALF_PREFIX:
            more.append(network)
    for network in (*networks, *more):
        needs_rules = network.prefixlen <= HALF_PREFIX or (bool(caught) and network in caught)
        if isinstance(way.table, int):
            found.routes[Place(network, way.table)] = None
        elif not needs_rules:
            found.routes[Place(network, MAIN_TABLE)] = None
        elif way.marked_table:
            found.routes[Place(network, way.marked_table)] = None
            found.levels.add(Level(network.version, network.prefixlen))
        else:
            found.unmarked.append(network)
    return found


def _has_route(network: Network, caught: frozenset[Network], way: Way) -> bool:
    """Return whether the kernel may make a route to an address's network.

    An address of length 0 or 1 says nothing of its network; a default route is asked for elsewhere.
    """
    if network.prefixlen == network.max_prefixlen:
        return True
    return network.prefixlen > HALF_PREFIX and not (way.marked_table and network in caught)
