"""A kernel of dictionaries, as far as fastun.host asks it: links, addresses, routes and rules."""

from __future__ import annotations

import errno
import socket
from contextlib import contextmanager
from ipaddress import ip_interface, ip_network
from typing import TYPE_CHECKING, Any, Self

import pytest
from pyroute2.netlink.exceptions import NetlinkError

from fastun.host import reconcile, settings_of_host
from fastun.host.netlink.kernel import FoundAddress, FoundRoute, Link, Place, SetAddress, SetLink
from fastun.host.netlink.netlink import Fault
from fastun.host.routing import routing_rules
from fastun.host.routing.routing_rules import PROTOCOL

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from fastun.host.netlink.kernel import Step

MAIN = 254
FT0, ETH0, LAN = 7, 2, 3
NAMES = {"ft0": FT0, "eth0": ETH0, "lan": LAN}
FAMILY = {4: socket.AF_INET, 6: socket.AF_INET6}


class Entry(dict[str, Any]):
    """What pyroute2 gives."""

    def get_attr(self, name: str) -> Any:
        return self.get(name)


def found_route(entry: Entry) -> FoundRoute:
    hops = [hop["oif"] for hop in entry.get("RTA_MULTIPATH", ())] or [entry["RTA_OIF"] or 0]
    anywhere = "0.0.0.0" if entry["family"] == socket.AF_INET else "::"  # noqa: S104
    network = ip_network(f"{entry.get('RTA_DST', anywhere)}/{entry['dst_len']}")
    place = Place(network, entry["RTA_TABLE"])
    return FoundRoute(place, frozenset(hops), is_ours=entry["proto"] == PROTOCOL)


class FakeKernel:
    """It refuses what is there already and what is not there, as Linux does."""

    def __init__(self) -> None:
        self.mtu = 1420
        self.entries: list[Entry] = []
        self.routes: list[Entry] = []
        self.rules: list[Entry] = []
        self.refused_mtu = 0
        self.refuses_rules = 0  # with this errno
        self.is_up = True

    def __call__(self, index: int = FT0) -> Self:  # in the place of the classes IPRoute and Kernel
        assert index == FT0
        return self

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    # -- what a test has and sees ---------------------------------------------------------------

    def have_route(self, text: str, index: int, *, table: int = MAIN, proto: int = 3) -> None:
        network = ip_network(text)
        fields: dict[str, Any] = {"RTA_OIF": index or None, "RTA_TABLE": table}
        if network.prefixlen:
            fields["RTA_DST"] = str(network.network_address)
        self.routes.append(
            Entry(family=FAMILY[network.version], dst_len=network.prefixlen, proto=proto, **fields)
        )

    def have_rule(self, family: int, priority: int, mark: int | None, table: int, by: int) -> None:
        self.rules.append(
            Entry(
                family=family,
                FRA_PRIORITY=priority,
                FRA_FWMARK=mark,
                FRA_TABLE=table,
                FRA_PROTOCOL=by,
                FRA_DST=None,
                dst_len=0,
                action=1,
            )
        )

    def have_address(self, text: str, index: int) -> None:
        address = ip_interface(text)
        name = str(address.ip)
        self.entries.append(
            Entry(
                index=index,
                prefixlen=address.network.prefixlen,
                IFA_LOCAL=name,
                IFA_ADDRESS=name,
            )
        )

    def routes_of(self, index: int = FT0) -> set[tuple[str, int]]:
        return {
            (f"{route.get('RTA_DST', 'default')}/{route['dst_len']}", route["RTA_TABLE"])
            for route in self.routes
            if route["RTA_OIF"] == index
        }

    def addresses_of(self, index: int = FT0) -> set[str]:
        return {
            f"{entry['IFA_LOCAL']}/{entry['prefixlen']}"
            for entry in self.entries
            if entry["index"] == index
        }

    # -- what is asked of it --------------------------------------------------------------------

    def link(self) -> Link:
        return Link("ft0", self.mtu, self.is_up)

    def addresses(self) -> list[FoundAddress]:
        return [
            FoundAddress(
                entry["index"],
                ip_interface(f"{entry['IFA_LOCAL']}/{entry['prefixlen']}"),
                ip_interface(f"{entry['IFA_ADDRESS']}/{entry['prefixlen']}"),
                has_route=entry.get("has_route", True),
                is_ours=False,
            )
            for entry in self.entries
        ]

    def own_routes(self) -> list[FoundRoute]:
        return [found for found in map(found_route, self.routes) if found.indices == {FT0}]

    def main_routes(self) -> list[FoundRoute]:
        return [found for found in map(found_route, self.routes) if found.place.table == MAIN]

    def change(self, steps: Sequence[Step]) -> dict[int, Fault]:
        refused = {}
        for number, step in enumerate(steps):
            try:
                self._take(step)
            except NetlinkError as error:
                refused[number] = Fault(error.code, "")
        return refused

    def _take(self, step: Step) -> None:
        if isinstance(step, SetLink):
            if step.mtu and step.mtu == self.refused_mtu:
                raise NetlinkError(errno.EINVAL)
            self.mtu, self.is_up = step.mtu or self.mtu, step.is_up or self.is_up
            return
        command = "del" if step.is_removal else "add"
        if isinstance(step, SetAddress):
            address, length = str(step.address.ip), step.address.network.prefixlen
            self.addr(command, index=FT0, address=address, prefixlen=length)
            if not step.is_removal:
                self.entries[-1]["has_route"] = step.has_route
            return
        network, table = step.place
        self.route(command, dst=str(network), oif=FT0, proto=PROTOCOL, table=table)

    def addr(self, command: str, *, index: int, address: str, prefixlen: int) -> None:
        text = f"{address}/{prefixlen}"
        if command == "add":
            if text in self.addresses_of(index):
                raise NetlinkError(errno.EEXIST)
            self.have_address(text, index)
            return
        if text not in self.addresses_of(index):
            raise NetlinkError(errno.EADDRNOTAVAIL)
        self.entries = [
            entry
            for entry in self.entries
            if (entry["index"], entry["IFA_LOCAL"], entry["prefixlen"])
            != (index, address, prefixlen)
        ]

    def has_routes(self, family: int, table: int) -> bool:
        return bool(self.get_routes(family, table))

    def get_routes(self, family: int | None = None, table: int | None = None) -> list[Entry]:
        return [
            route
            for route in self.routes
            if family in (None, route["family"]) and table in (None, route["RTA_TABLE"])
        ]

    def route(self, command: str, *, dst: str, oif: int, proto: int, table: int) -> None:
        network = ip_network(dst)
        alike = [
            route
            for route in self.get_routes(FAMILY[network.version], table)
            if route["dst_len"] == network.prefixlen
            and route.get("RTA_DST", str(network.network_address)) == str(network.network_address)
        ]
        if command == "add":
            if alike:
                raise NetlinkError(errno.EEXIST)
            self.have_route(dst, oif, table=table, proto=proto)
            return
        ours = [r for r in alike if (r["RTA_OIF"], r["proto"]) == (oif, proto)]
        if not ours:
            raise NetlinkError(errno.ESRCH)
        self.routes.remove(ours[0])

    def get_rules(self, family: int) -> list[Entry]:
        return [rule for rule in self.rules if rule["family"] == family]

    def rule(self, command: str, **fields: Any) -> None:
        if self.refuses_rules:
            raise NetlinkError(self.refuses_rules)
        rule = Entry(
            family=fields["family"],
            FRA_PRIORITY=fields["priority"],
            FRA_FWMARK=fields.get("fwmark"),
            FRA_TABLE=fields["table"],
            FRA_PROTOCOL=fields["FRA_PROTOCOL"],
            FRA_DST=fields.get("dst"),
            dst_len=fields.get("dst_len", 0),
            action=fields["action"],
        )
        if command == "add":
            if rule in self.rules:
                raise NetlinkError(errno.EEXIST)
            self.rules.append(rule)
            return
        named = ("family", "FRA_PRIORITY", "FRA_TABLE", "FRA_PROTOCOL", "FRA_DST", "action")
        found = [r for r in self.rules if all(r[name] == rule[name] for name in named)]
        if not found:
            raise NetlinkError(errno.ENOENT)
        self.rules.remove(found[0])


@contextmanager
def reconciled_with(kernel: FakeKernel) -> Iterator[None]:
    """Have a Reconciler ask this kernel, and change it."""
    with pytest.MonkeyPatch.context() as patched:
        for name in ("IPRoute", "Kernel"):
            patched.setattr(reconcile, name, kernel)
        patched.setattr(routing_rules, "has_routes", kernel.has_routes)
        patched.setattr(settings_of_host, "apply", lambda *_: ())
        yield
