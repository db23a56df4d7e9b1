"""Drops packets for the device's addresses that arrive on another interface.

    a neighbour on the LAN --eth0--> 10.9.0.2, which is fastun0's      dropped here
    a peer ----------------fastun0-> 10.9.0.2                          accepted
    a program of this host -----lo-> 10.9.0.2                          accepted

Linux accepts packets for any of its addresses on any interface (the weak host model, RFC 1122
section 3.3.4.2). So a neighbour can probe for a host's address in the tunnel, infer connections
through it and inject into them (CVE-2019-14899), and reach what listens on that address alone.
These rules are the strong host model for the device's addresses, as wg-quick(8) makes it, and also
cover forged packets from one of our own addresses, which Linux drops for IPv4 only:

    table inet fastun_fastun0 {
        chain prerouting {
            type filter hook prerouting priority raw; policy accept;
            iifname != "fastun0" ip daddr { 10.9.0.2 } fib saddr type != local counter drop
            iifname != { "fastun0", "lo" } ip daddr { 10.9.0.2 } counter drop
            iifname != "fastun0" ip6 daddr { fd00:9::2 } fib saddr type != local counter drop
            iifname != { "fastun0", "lo" } ip6 daddr { fd00:9::2 } counter drop
        }
    }

A host that forwards is a router for others, and they may reach it by any of its addresses: there
it is off by default. Evaluated at the start and with every push; the table is replaced as a whole.
A device that was renamed keeps its table, whose rules then have the new name.
"""

from __future__ import annotations

import contextlib
import ipaddress
import socket
from pathlib import Path
from typing import TYPE_CHECKING, Final

from fastun import log
from fastun.host.firewall import nft
from fastun.host.firewall.nft import Chain, NftRefused, Table, table_name
from fastun.host.netlink.kernel import Kernel

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from fastun.config.vocabulary import StrongHost as Wanted
    from fastun.host.firewall.nft import Rule, Statement
    from fastun.host.firewall.own_tables import Tables
    from fastun.peers.peer import Network

_SYSCTL: Final = Path("/proc/sys/net")
_PROTOCOLS: Final = {4: "ip", 6: "ip6"}

_LOOPBACK: Final = "lo"
_LOOPBACK_INDEX: Final = 1  # net/core/dev.c: in each network namespace

Guarded = dict[int, tuple[str, ...]]  # addresses by IP version


class StrongHost:
    """The nft table of one device. Blocks: not on the event loop's thread."""

    def __init__(self, interface: str, wanted: Wanted, tables: Tables) -> None:
        """Prepare; `follow` makes the table, and the journal's end removes it."""
        self._interface = interface
        self.index = 0  # which it keeps when it is renamed, but not where it is moved
        self._table_name = table_name(interface)
        self._wanted = wanted
        self._tables = tables
        self._has_said_forwarding = False
        self._log = log.get("device")

    def follow(self) -> None:
        """Update the table to the device's current addresses and routes.

        A failure is a warning: a tunnel that carries packets is not ended for it. Raises
        AskedToStop, and OSError where the interface is not there any more.
        """
        self.index = self.index or socket.if_nametoindex(self._interface)
        name = socket.if_indextoname(self.index)
        guarded = self._to_guard()
        try:
            if guarded:
                rules = tuple(_rules(name, self.index, guarded))
                chain = Chain(name="prerouting", hook="prerouting", priority=nft.RAW, rules=rules)
                self._tables.have(
                    Table(name=self._table_name, interface=self._interface, chains=(chain,))
                )
            elif self._table_name in self._tables.names:
                self._tables.remove(self._table_name)
        except NftRefused as error:
            self._log.warning(
                "no nft table: other hosts on the network can reach the tunnel's addresses",
                interface=self._interface,
                error=str(error),
            )

    def _to_guard(self) -> Guarded:
        if self._wanted is False:
            return {}
        with Kernel(self.index) as kernel:
            addresses = _addresses(kernel, self.index)
            if self._wanted is True or not addresses:
                return addresses
            if not kernel.may_take_all() or not has_default(_routes(kernel)):
                return {}
        kept = {version: addresses[version] for version in addresses if not forwards(version)}
        if kept != addresses and not self._has_said_forwarding:
            self._has_said_forwarding = True
            self._log.info(
                "this host forwards, so other interfaces accept packets for the tunnel's addresses;"
                " strong_host = true drops them",
                interface=self._interface,
            )
        return kept


def _rules(name: str, index: int, guarded: Guarded) -> Iterator[Rule]:
    """Yield the rules of a device with this name and index, two for each IP version."""
    interface, device = nft.interface_key("i", name, index)
    loopback = _LOOPBACK if device == name else _LOOPBACK_INDEX
    for version, addresses in guarded.items():
        yield from _rules_of(_PROTOCOLS[version], interface, (device, loopback), addresses)


def _rules_of(
    protocol: str, interface: Statement, inputs: tuple[str | int, ...], addresses: Sequence[str]
) -> Iterator[Rule]:
    """Yield wg-quick's rule, and one for packets from our own addresses, allowed on lo only."""
    source_type = {"fib": {"result": "type", "flags": ["saddr"]}}
    for_us = nft.match(nft.header(protocol, "daddr"), addresses)
    drop = (nft.COUNTER, nft.DROP)
    by_others = nft.match(interface, inputs[0], "!=")
    yield by_others, for_us, nft.match(source_type, "local", "!="), *drop
    by_wire = nft.match(interface, inputs, "!=")
    yield by_wire, for_us, *drop


def forwards(version: int) -> bool:
    """Return whether this host forwards packets of an IP version between any two interfaces."""
    directory = _SYSCTL / f"ipv{version}" / "conf"
    for path in (*directory.glob("*/forwarding"), *directory.glob("*/force_forwarding")):
        with contextlib.suppress(OSError):  # an interface that has just gone
            if path.parent.name != "default" and path.read_text(encoding="ascii").strip() != "0":
                return True
    return False


def has_default(routes: Iterable[Network]) -> bool:
    """Return whether the routes take all packets of an IP version, in halves or as a whole."""
    by_version: dict[int, set[Network]] = {4: set(), 6: set()}
    for route in routes:
        by_version[route.version].add(route)
    return any(map(_is_everything, by_version.values()))


def _is_everything(networks: set[Network]) -> bool:
    """Return whether they hold each address of their version."""
    width = max((network.max_prefixlen for network in networks), default=0)
    n_addresses = sum(1 << width - network.prefixlen for network in networks)
    if not networks or n_addresses < 1 << width:
        return False
    merged = ipaddress.collapse_addresses(networks)  # type: ignore[type-var]
    return any(network.prefixlen == 0 for network in merged)


def _addresses(kernel: Kernel, index: int) -> Guarded:
    """Return the device's addresses that no other interface has, in their order."""
    found = kernel.addresses()
    others = {each.local.ip for each in found if each.index != index}
    own = {each.local.ip for each in found if each.index == index} - others
    return {
        version: tuple(str(each) for each in addresses)
        for version in _PROTOCOLS
        if (
            addresses := sorted(
                (each for each in own if each.version == version and not each.is_link_local),
                key=int,
            )
        )
    }


def _routes(kernel: Kernel) -> Iterator[Network]:
    """Yield the prefixes of the device in all tables, of both IP versions."""
    return (route.place.network for route in kernel.own_routes())
