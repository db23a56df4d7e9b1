"""A kernel of dictionaries, as far as fastun.host asks it: links, addresses, routes and rules."""

from __future__ import annotations

import errno
import socket
from ipaddress import ip_interface, ip_network
from typing import Any, Self

from pyroute2.netlink.exceptions import NetlinkError

MAIN = 254
FT0, ETH0, LAN = 7, 2, 3
NAMES = {"ft0": FT0, "eth0": ETH0, "lan": LAN}
FAMILY = {4: socket.AF_INET, 6: socket.AF_INET6}


class Entry(dict[str, Any]):
    """What pyroute2 gives."""

    def get_attr(self, name: str) -> Any:
        return self.get(name)


class FakeKernel:
    """It refuses what is there already and what is not there, as Linux does."""

    def __init__(self) -> None:
        self.mtu = 1420
        self.addresses: list[Entry] = []
        self.routes: list[Entry] = []
        self.rules: list[Entry] = []
        self.refused_mtu = 0
        self.refuses_rules = 0  # with this errno

    def __call__(self) -> Self:  # in the place of the class IPRoute
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
            )
        )

    def have_address(self, text: str, index: int) -> None:
        address = ip_interface(text)
        name = str(address.ip)
        self.addresses.append(
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
            for entry in self.addresses
            if entry["index"] == index
        }

    # -- what is asked of it --------------------------------------------------------------------

    def get_links(self, index: int) -> list[Entry]:
        assert index == FT0
        return [Entry(IFLA_MTU=self.mtu)]

    def link(self, command: str, *, index: int, mtu: int) -> None:
        assert (command, index) == ("set", FT0)
        if mtu == self.refused_mtu:
            raise NetlinkError(errno.EINVAL)
        self.mtu = mtu

    def get_addr(self, index: int | None = None) -> list[Entry]:
        return [entry for entry in self.addresses if index in (None, entry["index"])]

    def addr(self, command: str, *, index: int, address: str, prefixlen: int) -> None:
        text = f"{address}/{prefixlen}"
        if command == "add":
            if text in self.addresses_of(index):
                raise NetlinkError(errno.EEXIST)
            self.have_address(text, index)
            return
        if text not in self.addresses_of(index):
            raise NetlinkError(errno.EADDRNOTAVAIL)
        self.addresses = [
            entry
            for entry in self.addresses
            if (entry["index"], entry["IFA_LOCAL"], entry["prefixlen"])
            != (index, address, prefixlen)
        ]

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
        )
        if command == "add":
            if rule in self.rules:
                raise NetlinkError(errno.EEXIST)
            self.rules.append(rule)
            return
        named = ("family", "FRA_PRIORITY", "FRA_TABLE", "FRA_PROTOCOL")
        found = [r for r in self.rules if all(r[name] == rule[name] for name in named)]
        if not found:
            raise NetlinkError(errno.ENOENT)
        self.rules.remove(found[0])
