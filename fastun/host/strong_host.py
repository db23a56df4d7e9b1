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
import json
import re
import socket
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from fastun import ending, log
from fastun.host import programs
from fastun.host.changes import NftTable
from fastun.host.kernel import Kernel
from fastun.host.programs import ProgramKilled, ProgramRefused

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from fastun.config.vocabulary import StrongHost as Wanted
    from fastun.host.journal import Journal
    from fastun.peers.peer import Network

_SYSCTL: Final = Path("/proc/sys/net")
_LIMIT_S: Final = 5.0  # nft takes some 20 ms
_RAW_PRIORITY: Final = -300  # NF_IP_PRI_RAW: before connections are tracked
_PROTOCOLS: Final = {4: "ip", 6: "ip6"}
_RULES_EACH: Final = 2  # of an IP version
_MISSING: Final = "nft is missing; install the package nftables"

# Names that nft takes literally: it reads * as a wildcard, @ as a set.
_PLAIN_NAME = re.compile(r"[A-Za-z0-9_.=+-]+")

_LOOPBACK: Final = "lo"
_LOOPBACK_INDEX: Final = 1  # net/core/dev.c: in each network namespace

Guarded = dict[int, tuple[str, ...]]  # addresses by IP version


class Inputs(NamedTuple):
    """How nft matches the interfaces: by name (`iifname`) or by index (`iif`)."""

    key: str
    device: str | int
    loopback: str | int


class StrongHost:
    """The nft table of one device. Blocks: not on the event loop's thread."""

    def __init__(self, interface: str, wanted: Wanted, journal: Journal) -> None:
        """Prepare; `follow` makes the table, and the journal's end removes it."""
        self._interface = interface
        self.index = 0  # which it keeps when it is renamed, but not where it is moved
        self._change = NftTable(table_name(interface), interface)
        self._wanted = wanted
        self._journal = journal
        self._made: tuple[str, Guarded] = "", {}  # for which name, which addresses
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
        if (name, guarded) == self._made or not (guarded or self._made[1]):
            return
        document = json.dumps(table(self._change.name, self._inputs(name), guarded))
        try:
            _nft(document, "-c")
            with self._journal.changing(self._change):
                _nft(document)
        except (ProgramRefused, ProgramKilled) as error:
            ending.check()
            self._log.warning(
                "no nft table: other hosts on the network can reach the tunnel's addresses",
                interface=self._interface,
                error=str(error),
            )
            return
        self._made = name, guarded

    def is_changed(self) -> bool:
        """Return whether another program has removed the table, or rules of it."""
        if not self._made[1]:
            return False
        try:
            listing = programs.run(
                ("nft", "-j", "list", "table", "inet", self._change.name), limit_s=_LIMIT_S
            )
        except (ProgramRefused, ProgramKilled):  # ending.py may have cut it
            return not ending.is_asked()
        n_rules = sum("rule" in each for each in json.loads(listing).get("nftables", ()))
        return n_rules != _RULES_EACH * len(self._made[1])

    def forget(self) -> None:
        """Have `follow` make the table again, whatever is there."""
        self._made = "", self._made[1]

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

    def _inputs(self, name: str) -> Inputs:
        """Return how to match the device's packets: by name, or by index if nft cannot parse it."""
        if _PLAIN_NAME.fullmatch(name):
            return Inputs("iifname", name, _LOOPBACK)
        return Inputs("iif", self.index, _LOOPBACK_INDEX)


def _nft(document: str, *options: str) -> None:
    if not programs.find("nft"):
        raise ProgramRefused(_MISSING)
    programs.run(("nft", *options, "-j", "-f", "-"), document, limit_s=_LIMIT_S)


def table_name(interface: str) -> str:
    """Return the table's name: letters, digits and underscores, another for each interface."""
    return "fastun_" + re.sub("[^A-Za-z0-9]", lambda odd: f"_{ord(odd.group()):02x}", interface)


def table(name: str, inputs: Inputs, guarded: Guarded) -> dict[str, Any]:
    """Return the transaction, in nft's JSON, that replaces the table; or removes it: no addresses.

    `inputs` says how to match packets from the device and from the host itself.
    """
    whole = {"table": {"family": "inet", "name": name}}
    commands: list[dict[str, Any]] = [{"add": whole}, {"delete": whole}]  # it need not be there
    if guarded:
        chain = {
            "family": "inet",
            "table": name,
            "name": "prerouting",
            "type": "filter",
            "hook": "prerouting",
            "prio": _RAW_PRIORITY,
            "policy": "accept",
        }
        commands += [{"add": whole}, {"add": {"chain": chain}}]
        for version, addresses in guarded.items():
            for expression in _expressions(_PROTOCOLS[version], inputs, addresses):
                rule = {
                    "family": "inet",
                    "table": name,
                    "chain": chain["name"],
                    "expr": expression,
                }
                commands.append({"add": {"rule": rule}})
    return {"nftables": commands}


def _expressions(
    protocol: str, inputs: Inputs, addresses: Sequence[str]
) -> Iterator[list[dict[str, Any]]]:
    """Yield wg-quick's rule, and one for packets from our own addresses, allowed on lo only."""
    interface = {"meta": {"key": inputs.key}}
    destination = {"payload": {"protocol": protocol, "field": "daddr"}}
    source_type = {"fib": {"result": "type", "flags": ["saddr"]}}
    for_us = _match("==", destination, {"set": list(addresses)})
    drop: list[dict[str, Any]] = [{"counter": None}, {"drop": None}]
    by_others = _match("!=", interface, inputs.device)
    yield [by_others, for_us, _match("!=", source_type, "local"), *drop]
    by_wire = _match("!=", interface, {"set": [inputs.device, inputs.loopback]})
    yield [by_wire, for_us, *drop]


def _match(operator: str, left: dict[str, Any], right: object) -> dict[str, Any]:
    return {"match": {"op": operator, "left": left, "right": right}}


def forwards(version: int) -> bool:
    """Return whether this host forwards packets of an IP version between any two interfaces."""
    for path in (_SYSCTL / f"ipv{version}" / "conf").glob("*/forwarding"):
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
