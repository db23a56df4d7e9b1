"""The routes of a device to the networks behind its peers; for a default route also rules.

A tunnel that may take our own packets needs a mark for them before the device exists.
"""

from __future__ import annotations

import contextlib
import errno
import os
import socket
from dataclasses import replace
from ipaddress import ip_network
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from fastun import log
from fastun.errors import RuntimeFailure
from fastun.host import outer_addresses, routing_rules
from fastun.host.changes import SRC_VALID_MARK, RoutingRules
from fastun.host.iproute import IPRoute, NetlinkError
from fastun.host.other_networks import HALF_PREFIX
from fastun.host.routing_rules import FAMILIES, MAIN_TABLE, PROTOCOL

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator

    from fastun.config.settings import Settings
    from fastun.host.journal import Journal
    from fastun.host.outer_addresses import OuterAddress
    from fastun.peers.peer import Network

_SYSCTL: Final = Path("/proc/sys/net/ipv4/conf")
_STRICT = "1"  # Documentation/networking/ip-sysctl.rst, rp_filter

_DEFAULT_ROUTES = {4: "0.0.0.0", 6: "::"}  # noqa: S104 (where packets go, not what is bound)


# -- before there is a device -----------------------------------------------------------------


def prepared(settings: Settings) -> Settings:
    """Return the settings with a mark, where the tunnel needs one.

    Removes rules that a killed gateway left. Raises RuntimeFailure.
    """
    needs_mark = _may_take_all(settings) or _may_catch_ourselves(settings)
    with IPRoute() as netlink, _explained("routing rules"):
        routing_rules.clear_stale(netlink)
        if needs_mark and not settings.fwmark:
            settings = replace(settings, fwmark=routing_rules.free_mark(netlink))
    return settings


def _may_take_all(settings: Settings) -> bool:
    """Return whether there may be a default route, or half of one."""
    return any(prefix.prefixlen <= HALF_PREFIX for prefix in _may_be_routed(settings))


def _may_catch_ourselves(settings: Settings) -> bool:
    """Return whether a route may take our own packets; also true if that cannot be determined."""
    prefixes = _may_be_routed(settings)
    if not prefixes:
        return False
    outer, is_complete = outer_addresses.of_settings(settings)
    return not is_complete or any(outer_addresses.catches(prefix, outer) for prefix in prefixes)


def _may_be_routed(settings: Settings) -> list[Network]:
    """Return networks that contain every possible route; empty if there can be none."""
    is_pushed_routes = settings.role == "connect" and "routes" in settings.accept
    if settings.table == "auto" or is_pushed_routes:
        return [prefix for peer in settings.peers for prefix in peer.allowed_ips]
    return []


# -- with the device --------------------------------------------------------------------------


class _Place(NamedTuple):
    """A route of the device: its prefix and its table."""

    network: Network
    table: int


class HostRoutes:
    """The routes of one device, for settings that are `prepared`.

    Not on the event loop's thread: pyroute2 brings its own.
    """

    def __init__(self, interface: str, settings: Settings, journal: Journal) -> None:
        """Prepare; the others make routes, and rules that ``journal`` undoes."""
        self._interface = interface
        self._settings = settings
        self._journal = journal
        self._pushed: set[_Place] = set()  # made for a push, and for nothing else
        self._log = log.get("routes")

    def add_configured(self) -> None:
        """Make the routes to what is behind the peers, where the settings ask for them.

        Raises RuntimeFailure, also where another device has the same route: it is not replaced.
        """
        if self._settings.table == "off":
            return
        prefixes = [prefix for peer in self._settings.peers for prefix in peer.allowed_ips]
        outer, _ = outer_addresses.of_settings(self._settings)
        with IPRoute() as netlink, _explained(f"interface {self._interface}"):
            index = socket.if_nametoindex(self._interface)
            for prefix in prefixes:
                self._add_one(netlink, index, self._place(prefix, outer))

    def replace_pushed(
        self, networks: Iterable[Network], outer: Collection[OuterAddress]
    ) -> dict[Network, str]:
        """Replace the routes of the last push; return those that were refused, and why.

        `outer`: the addresses that our own packets go to. A route that contains one is put in the
        mark's table, with rules that keep our packets out of it, or is refused. Routes that others
        have added to the device stay.
        """
        refused: dict[Network, str] = {}
        wanted: list[_Place] = []
        for network in networks:
            place = self._place(network, outer)
            if place.table == MAIN_TABLE and self._needs_rules(network, outer):
                refused[network] = (
                    "it contains the server's address, and our packets have no mark; set fwmark"
                )
            else:
                wanted.append(place)
        with IPRoute() as netlink, _explained(f"interface {self._interface}"):
            index = socket.if_nametoindex(self._interface)
            self._remove_pushed(netlink, index, self._pushed - set(wanted))
            for place in wanted:
                try:
                    if self._add_one(netlink, index, place):
                        self._pushed.add(place)
                except RuntimeFailure as error:
                    refused[place.network] = str(error).partition(": ")[2]
        return refused

    def _place(self, network: Network, outer: Iterable[OuterAddress]) -> _Place:
        """Return a route's table: not the main one if it would take our own packets.

        The main table is asked for these, too.
        """
        settings = self._settings
        if isinstance(settings.table, int):
            return _Place(network, settings.table)
        if settings.fwmark and self._needs_rules(network, outer):
            return _Place(network, routing_rules.table_of(settings.fwmark))
        return _Place(network, MAIN_TABLE)

    @staticmethod
    def _needs_rules(network: Network, outer: Iterable[OuterAddress]) -> bool:
        is_default = network.prefixlen <= HALF_PREFIX
        return is_default or outer_addresses.catches(network, outer)

    def _add_one(self, netlink: IPRoute, index: int, place: _Place) -> bool:
        """Make a route, with the rules that it needs; return False where the device has it."""
        network, table = place
        if network in _routes(netlink, index, table, network):
            return False
        try:
            netlink.route("add", dst=str(network), oif=index, proto=PROTOCOL, table=table)
        except NetlinkError as error:
            raise RuntimeFailure(f"route {network}: {_why_not(error)}") from None
        if self._is_led(table):
            with self._journal.changing(RoutingRules(self._settings.fwmark)):
                routing_rules.install(netlink, network.version, self._settings.fwmark)
            if network.version == 4:  # noqa: PLR2004
                self._check_source_validation()
        return True

    def _is_led(self, table: int) -> bool:
        """Return whether it is the mark's table, to which rules lead."""
        mark = self._settings.fwmark
        is_ours = not isinstance(self._settings.table, int)
        return is_ours and mark != 0 and table == routing_rules.table_of(mark)

    def _remove_pushed(self, netlink: IPRoute, index: int, gone: set[_Place]) -> None:
        """Remove routes that a push had made, where they are still as it made them."""
        for place in gone:
            # Without these the kernel would take the first route that has the prefix.
            as_made = {"oif": index, "proto": PROTOCOL, "table": place.table}
            with contextlib.suppress(NetlinkError):  # removed or changed since
                netlink.route("del", dst=str(place.network), **as_made)
        self._pushed -= gone
        if any(self._is_led(place.table) for place in gone):
            routing_rules.clear_stale(netlink)

    def _check_source_validation(self) -> None:
        """Let the kernel take marks into account, and warn where it would drop all answers."""
        try:
            self._journal.set_sysctl(SRC_VALID_MARK, "1")
        except OSError as error:
            self._log.warning("cannot set src_valid_mark", error=error.strerror)
        try:
            strict = [
                path.parent.name
                for path in _SYSCTL.glob("*/rp_filter")
                if path.read_text().strip() == _STRICT and path.parent.name != self._interface
            ]
        except OSError as error:
            self._log.warning("cannot read rp_filter", error=error.strerror)
            return
        if strict:
            self._log.warning(
                "strict rp_filter drops packets from the peer; set rp_filter to 2",
                interfaces=" ".join(sorted(strict)),
            )


def _routes(netlink: IPRoute, index: int, table: int, like: Network) -> Iterator[Network]:
    """Yield the prefixes that the device has in a table, of one IP version."""
    for route in netlink.get_routes(family=FAMILIES[like.version], table=table):
        if (route.get_attr("RTA_OIF"), route.get_attr("RTA_TABLE")) == (index, table):
            address = route.get_attr("RTA_DST") or _DEFAULT_ROUTES[like.version]
            yield ip_network(f"{address}/{route['dst_len']}")


def _why_not(error: NetlinkError) -> str:
    if error.code == errno.EEXIST:
        return (
            "another interface of this host has it already; remove it from the allowed IPs, or"
            " set table to off"
        )
    return f"the kernel refuses it: {os.strerror(error.code)}"


@contextlib.contextmanager
def _explained(what: str) -> Iterator[None]:
    """Turn the kernel's refusal into one line that begins with ``what``."""
    try:
        yield
    except NetlinkError as error:
        reason: Any = os.strerror(error.code) if error.code else error
        raise RuntimeFailure(f"{what}: the kernel refuses it: {reason}") from None
