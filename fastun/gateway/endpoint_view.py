"""Where a client's servers may be, and why each is used or is not: a part of the view."""

from __future__ import annotations

import contextlib
import time
from ipaddress import ip_address
from typing import TYPE_CHECKING, Literal, Protocol

import msgspec

from fastun.endpoint import format_host_port
from fastun.host.sockets.address import EndpointAddress
from fastun.session import clock

if TYPE_CHECKING:
    from fastun.config.settings import Settings
    from fastun.link.endpoint_health import Key
    from fastun.link.outside import Outside
    from fastun.link.table import Link, LinkTable

State = Literal["used", "ready", "silent", "drained", "unresolved"]


class EndpointView(msgspec.Struct, frozen=True):
    """An address of an endpoint, empty where its name has none yet.

    ``state``: a link leads there; it may be tried at any time; it was tried in vain, or has asked
    to be left, and is tried last until ``until``, Unix time; or its name has no address.
    """

    endpoint: str
    address: str
    state: State
    until: float = 0.0


class Dialling(Protocol):
    """The gateway, as far as it dials."""

    settings: Settings
    links: LinkTable
    outside: Outside


def read(owner: Dialling) -> tuple[EndpointView, ...]:
    """Return those of a client that has several; none of a server. Any thread."""
    settings, outside = owner.settings, owner.outside
    if settings.role != "connect":
        return ()
    used = {_place_of(link) for link in list(owner.links.by_slot.values())}
    found: list[EndpointView] = []
    for endpoint in settings.endpoints:
        places = outside.names.known(endpoint)
        if not places:
            found.append(EndpointView(str(endpoint), "", "unresolved"))
        for place in places:
            key = endpoint.scheme, place.host, place.port
            address = format_host_port(str(place.host), place.port)
            state, until_s = _state_of(outside, key, is_used=key in used)
            until = time.time() + until_s - clock.boottime_s() if until_s else 0.0
            found.append(EndpointView(str(endpoint), address, state, until))
    return tuple(found) if len(found) > 1 else ()


def _state_of(outside: Outside, key: Key, *, is_used: bool) -> tuple[State, float]:
    if is_used:
        return "used", 0.0
    if until_s := outside.health.left_until_s(key[1]):
        return "drained", until_s
    if until_s := outside.health.backed_off_until_s(key):
        return "silent", until_s
    return "ready", 0.0


def _place_of(link: Link) -> Key | None:
    with contextlib.suppress(OSError, ValueError):  # it is ending
        if link.connection is not None:
            host, port, _ = EndpointAddress.of_peer(link.connection)
            return "tcp", host, port
        name, _, number = link.remote.rpartition(":")
        return "udp", ip_address(name.strip("[]").partition("%")[0]), int(number)
    return None
