"""The routes of a device to what is behind its peers, and the rules that a default route needs.

A default route into the tunnel would take the tunnel's own packets as well. So it stands in a table
of its own, which all packets are led to but those with our mark (ip-rule(8)):

    32764: from all lookup main suppress_prefixlength 0     known networks first, but no default
    32765: not from all fwmark MARK lookup TABLE            what is not our own goes into the tunnel
    32766: from all lookup main                             our own goes on as ever

That is wg-quick(8)'s way. The routes go with the device, however the gateway ends; rules would stay
after a SIGKILL. Leading to an empty table they change nothing, and the next start removes them: a
rule with our protocol number and no route in its table is stale.
"""

from __future__ import annotations

import contextlib
import errno
import os
import socket
from dataclasses import replace
from ipaddress import IPv4Network, ip_address, ip_network
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from pyroute2 import IPRoute
from pyroute2.netlink.exceptions import NetlinkError

from fastun import log
from fastun.errors import RuntimeFailure

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from fastun.config import Settings
    from fastun.endpoint import Endpoint
    from fastun.peers import Network, Peer

# The kernel shows who made a route or a rule; routing daemons leave alone what is not theirs.
PROTOCOL: Final = 99

# WireGuard's port, and the first mark that wg-quick(8) tries.
FIRST_MARK: Final = 51820

_MAIN_TABLE = 254  # linux/rtnetlink.h
_KNOWN_FIRST_PRIORITY = 32764  # Before the main table's rule, which the kernel has at 32766.
_UNMARKED_PRIORITY = 32765
_FIB_RULE_INVERT = 2  # linux/fib_rules.h
_FAMILIES = {4: socket.AF_INET, 6: socket.AF_INET6}
_SYSCTL = Path("/proc/sys/net/ipv4/conf")


# -- before there is a device -----------------------------------------------------------------


def prepared(settings: Settings) -> Settings:
    """Return the settings with a mark and with addresses for names, where the tunnel needs them.

    When all names are looked up through the tunnel, its own endpoints are looked up before: they
    could not be while it is down. Stale rules are removed. Raises RuntimeFailure.
    """
    takes_all = _may_take_all(settings)
    with IPRoute() as netlink, _explained("routing rules"):
        _clear_stale(netlink)
        if takes_all and not settings.fwmark:
            settings = replace(settings, fwmark=_free_mark(netlink))
    if takes_all or settings.dns or "dns" in settings.accept:
        settings = _with_addresses(settings)
    return settings


def _may_take_all(settings: Settings) -> bool:
    """Return whether there may be a default route that is not to take our own packets."""
    if settings.table == "auto" or "routes" in settings.accept:
        prefixes = [prefix for peer in settings.peers for prefix in peer.allowed_ips]
        return any(prefix.prefixlen == 0 for prefix in prefixes)
    return False


def _free_mark(netlink: IPRoute) -> int:
    taken = {rule[name] for rule in _rules(netlink) for name in ("mark", "table")}
    taken |= {route.get_attr("RTA_TABLE") for route in netlink.get_routes()}
    mark = FIRST_MARK
    while mark in taken:
        mark += 1
    return mark


def _with_addresses(settings: Settings) -> Settings:
    known: dict[Endpoint, tuple[Endpoint, ...]] = {}

    def resolved(endpoints: Iterable[Endpoint]) -> tuple[Endpoint, ...]:
        for endpoint in endpoints:
            if endpoint not in known:
                known[endpoint] = _addresses_of(endpoint)
        return tuple(address for endpoint in endpoints for address in known[endpoint])

    def resolved_peer(peer: Peer) -> Peer:
        return replace(peer, endpoints=resolved(peer.endpoints))

    return replace(
        settings,
        endpoints=resolved(settings.endpoints),
        peers=tuple(map(resolved_peer, settings.peers)),
    )


def _addresses_of(endpoint: Endpoint) -> tuple[Endpoint, ...]:
    with contextlib.suppress(ValueError):
        ip_address(endpoint.host)
        return (endpoint,)
    try:
        found = socket.getaddrinfo(endpoint.host, endpoint.port, type=socket.SOCK_DGRAM)
    except OSError as error:
        raise RuntimeFailure(
            f"{endpoint}: the host cannot be resolved ({error.strerror}); "
            "check its spelling and this host's DNS"
        ) from None
    return tuple(replace(endpoint, host=str(address[0])) for *_, address in found)


# -- with the device --------------------------------------------------------------------------


class HostRoutes:
    """The routes of one device, for settings that are `prepared`.

    Not on the event loop's thread: pyroute2 brings its own.
    """

    def __init__(self, interface: str, settings: Settings) -> None:
        """Prepare; `add` and `add_configured` make routes, `remove_rules` is for the end."""
        self._interface = interface
        self._settings = settings
        self._rules: list[dict[str, Any]] = []
        self._log = log.get("routes")

    def add_configured(self) -> None:
        """Make the routes to what is behind the peers, where the settings ask for them."""
        if self._settings.table != "off":
            self.add([prefix for peer in self._settings.peers for prefix in peer.allowed_ips])

    def add(self, prefixes: Sequence[Network | str]) -> None:
        """Make routes through the device but where it has one that covers the prefix.

        Raises RuntimeFailure, also where another device has the same route: it is not replaced.
        """
        networks = sorted(map(ip_network, prefixes), key=lambda network: -network.prefixlen)
        with IPRoute() as netlink, _explained(f"interface {self._interface}"):
            index = netlink.link_lookup(ifname=self._interface)[0]
            for network in networks:
                self._add_one(netlink, index, network)

    def remove_rules(self) -> None:
        """Remove the rules; the routes go with the device."""
        if not self._rules:
            return
        with contextlib.suppress(NetlinkError, OSError), IPRoute() as netlink:
            for rule in self._rules:
                with contextlib.suppress(NetlinkError):  # Somebody else removed it.
                    netlink.rule("del", **rule)
            _clear_stale(netlink)
        self._rules.clear()

    def _add_one(self, netlink: IPRoute, index: int, network: Network) -> None:
        settings = self._settings
        table = settings.table if isinstance(settings.table, int) else _MAIN_TABLE
        takes_all = network.prefixlen == 0 and table == _MAIN_TABLE
        if takes_all:
            table = _table_of(settings.fwmark)
        if any(_covers(route, network) for route in _routes(netlink, index, table, network)):
            return
        try:
            netlink.route("add", dst=str(network), oif=index, proto=PROTOCOL, table=table)
        except NetlinkError as error:
            if error.code != errno.EEXIST:
                raise RuntimeFailure(
                    f"route {network}: the kernel refuses it: {os.strerror(error.code)}"
                ) from None
            raise RuntimeFailure(
                f"route {network}: this host has it already on another interface;"
                " take it out of the allowed IPs, or switch the table off"
            ) from None
        if takes_all:
            self._lead_all_to(netlink, table, network)

    def _lead_all_to(self, netlink: IPRoute, table: int, network: Network) -> None:
        family = _FAMILIES[network.version]
        for rule in (
            {
                "priority": _UNMARKED_PRIORITY,
                "flags": _FIB_RULE_INVERT,
                "fwmark": self._settings.fwmark,
                "table": table,
            },
            {
                "priority": _KNOWN_FIRST_PRIORITY,
                "table": _MAIN_TABLE,
                "FRA_SUPPRESS_PREFIXLEN": 0,
            },
        ):
            rule |= {"family": family, "FRA_PROTOCOL": PROTOCOL}
            with _unless_there():
                netlink.rule("add", **rule)
            if rule["table"] == table:  # The other is shared; it is stale when all these are gone.
                self._rules.append(rule)
        if isinstance(network, IPv4Network):
            self._check_source_validation()

    def _check_source_validation(self) -> None:
        """Let the kernel take marks into account, and warn where it would drop all answers."""
        try:
            (_SYSCTL / "all" / "src_valid_mark").write_text("1")
            strict = [
                path.parent.name
                for path in _SYSCTL.glob("*/rp_filter")
                if path.read_text().strip() == "1" and path.parent.name != self._interface
            ]
        except OSError as error:
            self._log.warning("source validation is not known", error=error.strerror)
            return
        if strict:
            self._log.warning(
                "strict source validation drops what comes from the peer; set rp_filter to 2",
                interfaces=" ".join(sorted(strict)),
            )


def _table_of(mark: int) -> int:
    """Return the table for a mark: the same number, but where the kernel or people have theirs."""
    return mark if mark >= FIRST_MARK else FIRST_MARK + mark


def _covers(route: Network, network: Network) -> bool:
    return network.subnet_of(route)  # type: ignore[arg-type]


def _routes(netlink: IPRoute, index: int, table: int, like: Network) -> Iterator[Network]:
    """Yield the prefixes that the device has in a table, of one family."""
    for route in netlink.get_routes(family=_FAMILIES[like.version], table=table):
        if (route.get_attr("RTA_OIF"), route.get_attr("RTA_TABLE")) == (index, table):
            default = "0.0.0.0" if like.version == 4 else "::"  # noqa: PLR2004, S104
            yield ip_network(f"{route.get_attr('RTA_DST') or default}/{route['dst_len']}")


# -- rules ------------------------------------------------------------------------------------


def _rules(netlink: IPRoute) -> Iterator[dict[str, Any]]:
    """Yield all rules, of both families."""
    for family in _FAMILIES.values():
        for rule in netlink.get_rules(family=family):
            yield {
                "family": family,
                "priority": rule.get_attr("FRA_PRIORITY") or 0,
                "protocol": rule.get_attr("FRA_PROTOCOL"),
                "mark": rule.get_attr("FRA_FWMARK") or 0,
                "table": rule.get_attr("FRA_TABLE"),
            }


def _clear_stale(netlink: IPRoute) -> None:
    """Remove the rules of gateways that are gone."""
    ours = [
        rule
        for rule in _rules(netlink)
        if rule["protocol"] == PROTOCOL
        and rule["priority"] in (_KNOWN_FIRST_PRIORITY, _UNMARKED_PRIORITY)
    ]
    for family in _FAMILIES.values():
        same = [rule for rule in ours if rule["family"] == family]
        living = [
            rule
            for rule in same
            if rule["mark"] and list(netlink.get_routes(family=family, table=rule["table"]))
        ]
        for rule in same:
            if rule not in living and (rule["mark"] or not living):
                _remove(netlink, rule)


def _remove(netlink: IPRoute, rule: dict[str, Any]) -> None:
    with contextlib.suppress(NetlinkError):
        netlink.rule(
            "del",
            family=rule["family"],
            priority=rule["priority"],
            table=rule["table"],
            FRA_PROTOCOL=PROTOCOL,
        )


@contextlib.contextmanager
def _unless_there() -> Iterator[None]:
    try:
        yield
    except NetlinkError as error:
        if error.code != errno.EEXIST:
            raise


@contextlib.contextmanager
def _explained(what: str) -> Iterator[None]:
    """Turn the kernel's refusal into one line that begins with ``what``."""
    try:
        yield
    except NetlinkError as error:
        reason: Any = os.strerror(error.code) if error.code else error
        raise RuntimeFailure(f"{what}: the kernel refuses it: {reason}") from None
