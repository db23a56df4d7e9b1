"""What a tunnel needs before its device exists: a mark for our own packets.

It keeps them out of the tunnel.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from fastun.host.netlink.iproute import IPRoute, explained
from fastun.host.routing import outer_addresses, routing_rules, tables
from fastun.host.routing.placing import Caught

if TYPE_CHECKING:
    from fastun.config.settings import Settings
    from fastun.peers.peer import Network


def prepared(settings: Settings) -> Settings:
    """Return the settings with a mark, where the tunnel needs one.

    Removes rules that a killed gateway left. Raises RuntimeFailure.
    """
    with IPRoute() as netlink, explained("routing rules"):
        routing_rules.clear_stale(netlink)
        if not settings.fwmark and _may_catch_ourselves(settings):
            mark = routing_rules.free_mark(netlink, tables.in_use())
            settings = replace(settings, fwmark=mark)
    return settings


def _may_catch_ourselves(settings: Settings) -> bool:
    """Return whether a route may take our own packets, now or later, or a kill switch drop them.

    Sockets have their mark from the start, and a name may come to have an address behind any route.
    The networks of the device's own addresses are looked at as they are.
    """
    if _may_be_routed(settings) or has_kill_switch(settings):
        return True
    outer, is_complete = outer_addresses.of_settings(settings)
    caught = Caught(address.network for address in settings.addresses)
    return bool(settings.addresses) and (not is_complete or bool(caught.by(outer)))


def has_kill_switch(settings: Settings) -> bool:
    """Return whether nothing but our own packets may leave beside the tunnel."""
    return settings.role == "connect" and settings.kill_switch


def _may_be_routed(settings: Settings) -> list[Network]:
    """Return networks that contain every possible route; empty if there can be none."""
    is_pushed_routes = settings.role == "connect" and "routes" in settings.accept
    may_take_all = settings.role == "connect" and "default" in settings.accept
    if settings.table in {"auto", "all"} or is_pushed_routes or may_take_all:
        return [prefix for peer in settings.peers for prefix in peer.allowed_ips]
    return []
