"""What a tunnel needs before its device exists: a mark, and addresses for names.

The mark is for our own packets, which must not go into the tunnel; names could not be looked up
through a tunnel that is not there yet.
"""

from __future__ import annotations

import contextlib
import os
import socket
from dataclasses import replace
from ipaddress import ip_address
from typing import TYPE_CHECKING, Any

from pyroute2 import IPRoute
from pyroute2.netlink.exceptions import NetlinkError

from fastun import ending
from fastun.errors import RuntimeFailure
from fastun.host import outer_addresses, routing_rules
from fastun.host.kernel import tables_in_use
from fastun.host.other_networks import HALF_PREFIX
from fastun.host.placing import Caught

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from fastun.config.settings import Settings
    from fastun.endpoint import Endpoint
    from fastun.peers.peer import Network, Peer


def prepared(settings: Settings) -> Settings:
    """Return the settings with a mark and with addresses for names, where the tunnel needs them.

    Removes rules that a killed gateway left. Raises RuntimeFailure.
    """
    with IPRoute() as netlink, _explained("routing rules"):
        routing_rules.clear_stale(netlink)
        if not settings.fwmark and _may_catch_ourselves(settings):
            mark = routing_rules.free_mark(netlink, tables_in_use())
            settings = replace(settings, fwmark=mark)
    moves_dns = settings.role == "connect" and bool(settings.dns or "dns" in settings.accept)
    return _with_addresses(settings) if _may_take_all(settings) or moves_dns else settings


def _may_take_all(settings: Settings) -> bool:
    """Return whether there may be a default route, or half of one."""
    return any(prefix.prefixlen <= HALF_PREFIX for prefix in _may_be_routed(settings))


def _may_catch_ourselves(settings: Settings) -> bool:
    """Return whether a route may take our own packets, now or later.

    Sockets have their mark from the start, and a name may come to have an address behind any route.
    The networks of the device's own addresses are looked at as they are.
    """
    if _may_be_routed(settings):
        return True
    outer, is_complete = outer_addresses.of_settings(settings)
    caught = Caught(address.network for address in settings.addresses)
    return bool(settings.addresses) and (not is_complete or bool(caught.by(outer)))


def _may_be_routed(settings: Settings) -> list[Network]:
    """Return networks that contain every possible route; empty if there can be none."""
    is_pushed_routes = settings.role == "connect" and "routes" in settings.accept
    if settings.table == "auto" or is_pushed_routes:
        return [prefix for peer in settings.peers for prefix in peer.allowed_ips]
    return []


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

    peers = tuple(map(resolved_peer, settings.peers))
    if settings.role == "serve":
        return replace(settings, peers=peers)
    return replace(settings, peers=peers, endpoints=resolved(settings.endpoints))


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


@contextlib.contextmanager
def _explained(what: str) -> Iterator[None]:
    """Turn the kernel's refusal into one line that begins with ``what``."""
    try:
        yield
    except NetlinkError as error:
        reason: Any = os.strerror(error.code) if error.code else error
        raise RuntimeFailure(f"{what}: the kernel refuses it: {reason}") from None
