"""The routes of a device to what is behind its peers; a default route with what it needs besides.

What the settings of a tunnel that takes all packets need before there is a device is prepared here
as well: a mark for its own, and addresses for the names that could not be looked up through it.
"""

from __future__ import annotations

import contextlib
import errno
import os
import socket
from dataclasses import replace
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from pyroute2 import IPRoute
from pyroute2.netlink.exceptions import NetlinkError

from fastun import ending, log
from fastun.errors import RuntimeFailure
from fastun.host import routing_rules
from fastun.host.changes import SRC_VALID_MARK, RoutingRules
from fastun.host.routing_rules import FAMILIES, MAIN_TABLE, PROTOCOL

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from fastun.config.settings import Settings
    from fastun.endpoint import Endpoint
    from fastun.host.journal import Journal
    from fastun.peers.peer import Network, Peer

_SYSCTL: Final = Path("/proc/sys/net/ipv4/conf")
_STRICT = "1"  # Documentation/networking/ip-sysctl.rst, rp_filter

_DEFAULT_ROUTES = {4: "0.0.0.0", 6: "::"}  # noqa: S104 (where packets go, not what is bound)


# -- before there is a device -----------------------------------------------------------------


def prepared(settings: Settings) -> Settings:
    """Return the settings with a mark and with addresses for names, where the tunnel needs them.

    Removes rules that a killed gateway left. Raises RuntimeFailure.
    """
    takes_all = _may_take_all(settings)
    with IPRoute() as netlink, _explained("routing rules"):
        routing_rules.clear_stale(netlink)
        if takes_all and not settings.fwmark:
            settings = replace(settings, fwmark=routing_rules.free_mark(netlink))
    if takes_all or settings.dns or "dns" in settings.accept:
        settings = _with_addresses(settings)
    return settings


def _may_take_all(settings: Settings) -> bool:
    """Return whether there may be a default route that is not to take our own packets."""
    if settings.table == "auto" or "routes" in settings.accept:
        prefixes = [prefix for peer in settings.peers for prefix in peer.allowed_ips]
        return any(prefix.prefixlen == 0 for prefix in prefixes)
    return False


def _with_addresses(settings: Settings) -> Settings:
    """Look up the endpoints' names: while the tunnel is down, nothing could be looked up."""
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
        found = ending.unless_asked(
            lambda: socket.getaddrinfo(endpoint.host, endpoint.port, type=socket.SOCK_DGRAM)
        )
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

    def __init__(self, interface: str, settings: Settings, journal: Journal) -> None:
        """Prepare; `add` and `add_configured` make routes, and rules that ``journal`` undoes."""
        self._interface = interface
        self._settings = settings
        self._journal = journal
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
            index = socket.if_nametoindex(self._interface)
            for network in networks:
                self._add_one(netlink, index, network)

    def _add_one(self, netlink: IPRoute, index: int, network: Network) -> None:
        settings = self._settings
        table = settings.table if isinstance(settings.table, int) else MAIN_TABLE
        takes_all = network.prefixlen == 0 and table == MAIN_TABLE
        if takes_all:
            table = routing_rules.table_of(settings.fwmark)
        if any(_covers(route, network) for route in _routes(netlink, index, table, network)):
            return
        try:
            netlink.route("add", dst=str(network), oif=index, proto=PROTOCOL, table=table)
        except NetlinkError as error:
            raise RuntimeFailure(f"route {network}: {_why_not(error)}") from None
        if takes_all:
            with self._journal.changing(RoutingRules(settings.fwmark)):
                routing_rules.lead_all(netlink, network.version, settings.fwmark)
            if network.version == 4:  # noqa: PLR2004
                self._check_source_validation()

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
                "strict source validation drops what comes from the peer; set rp_filter to 2",
                interfaces=" ".join(sorted(strict)),
            )


def _covers(route: Network, network: Network) -> bool:
    return network.subnet_of(route)  # type: ignore[arg-type]


def _routes(netlink: IPRoute, index: int, table: int, like: Network) -> Iterator[Network]:
    """Yield the prefixes that the device has in a table, of one IP version."""
    for route in netlink.get_routes(family=FAMILIES[like.version], table=table):
        if (route.get_attr("RTA_OIF"), route.get_attr("RTA_TABLE")) == (index, table):
            address = route.get_attr("RTA_DST") or _DEFAULT_ROUTES[like.version]
            yield ip_network(f"{address}/{route['dst_len']}")


def _why_not(error: NetlinkError) -> str:
    if error.code == errno.EEXIST:
        return (
            "this host has it already on another interface; take it out of the allowed IPs, or"
            " switch the table off"
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
