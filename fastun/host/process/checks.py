"""What a gateway may ask for, by the settings that the host process has read itself.

A gateway checks the same before it asks, and says what a server pushes in vain
(pushed_settings.py). Here is only what an honest one never asks for, so it is not refused: it ends
the conversation.

Settings change at a reload, and what was asked by the last ones may come a moment later: the two
newest count.
"""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import ip_interface, ip_network
from typing import TYPE_CHECKING, NoReturn

from fastun.config.host import parse_dns
from fastun.config.settings import ConnectSettings, Settings
from fastun.errors import ConfigError, quote
from fastun.host.process.channel import Unasked
from fastun.host.routing import pushable
from fastun.host.routing.outer_addresses import OuterEndpoint, parsed

if TYPE_CHECKING:
    from fastun.host.process.messages import OuterEndpointText, Push, SetDns
    from fastun.host.routing.outer_addresses import OuterAddress
    from fastun.peers.peer import Address, Network


class Checks:
    """Of one host process. Any thread: settings are replaced as a whole."""

    def __init__(self, settings: Settings) -> None:
        """Begin with these."""
        self._newest: tuple[Settings, ...] = (settings,)

    @property
    def newest(self) -> tuple[Settings, ...]:
        """The settings that count."""
        return self._newest

    def adopt(self, settings: Settings) -> None:
        """Go by these, too, and by those of before no longer than until the next."""
        self._newest = (settings, self._newest[0])

    def push(self, push: Push) -> tuple[list[Address], list[Network]]:
        """Return the addresses and the routes of what a server pushes. Raises Unasked."""
        clients = self._clients()
        accepted = {field for each in clients for field in each.accept}
        asked = {
            "addresses": bool(push.addresses),
            "routes": bool(push.routes),
            "mtu": bool(push.mtu),
            "default": push.takes_all,
        }
        for field, is_asked in asked.items():
            if is_asked and field not in accepted:
                raise Unasked(f"{field}, which accept does not list")
        addresses = [_address(text) for text in push.addresses]
        routes = [_network(text) for text in push.routes]
        allowed = [*dict.fromkeys(_allowed(clients))]
        for address in addresses:
            if why := pushable.why_not(address, allowed):
                raise Unasked(f"{address}: {why}")
        for network in routes:
            if not pushable.is_within(network, allowed):
                raise Unasked(f"{network}, which is not in a peer's allowed IPs")
        if "default" not in accepted and not any(each.table == "all" for each in clients):
            networks = {*(each.network for each in addresses), *routes}
            if pushable.no_default(networks) != networks:
                raise Unasked("a default route in pieces, which accept does not list")
        return addresses, routes

    def behind(self, texts: Iterable[str]) -> list[Network]:
        """Return the networks behind peers of a directory. Raises Unasked.

        Whether they are is for the directory to say, which may have changed since it was read.
        """
        if not any(each.role == "serve" and each.table != "off" for each in self._newest):
            raise Unasked("routes to peers of a directory, which there is not")
        return [_network(text) for text in texts]

    def dns(self, asked: SetDns) -> None:
        """Raise Unasked unless these may be set: the configured ones, pushed ones, or none."""
        for each in self._clients():
            if not asked.servers or (asked.servers, asked.domains) == (each.dns, each.dns_search):
                return
            if "dns" in each.accept and not each.dns:
                try:
                    parse_dns((*asked.servers, *asked.domains), "dns", has_zones=False)
                except ConfigError as error:
                    raise Unasked(str(error)) from None
                return
        raise Unasked("DNS servers, which accept does not list")

    def endpoints(self, asked: Iterable[OuterEndpointText]) -> frozenset[OuterEndpoint]:
        """Return where a client's own packets go. Raises Unasked."""
        dialled = {(e.scheme, e.port) for each in self._clients() for e in each.endpoints}
        found = set()
        for each in asked:
            # A server on UDP may answer from another port (the client follows it), one on TCP not.
            if each.protocol == "tcp" and ("tcp", each.port) not in dialled:
                raise Unasked(f"TCP to port {each.port}, which no endpoint has")
            if each.protocol not in {scheme for scheme, _ in dialled}:
                raise Unasked(f"{each.protocol}, which no endpoint has")
            found.add(OuterEndpoint(each.protocol, outer(each.host), each.port))
        return frozenset(found)

    def client(self) -> None:
        """Raise Unasked for what only clients have."""
        self._clients()

    def _clients(self) -> list[ConnectSettings]:
        clients = [each for each in self._newest if isinstance(each, ConnectSettings)]
        if not clients:
            raise Unasked("something of a client")
        return clients


def outer(text: str) -> OuterAddress:
    """Return the address. Raises Unasked."""
    try:
        return parsed(text)
    except ValueError:
        _refuse(text)


def _allowed(clients: Iterable[ConnectSettings]) -> Iterable[Network]:
    for each in clients:
        for peer in each.peers:
            yield from peer.allowed_ips


def _address(text: str) -> Address:
    try:
        address = ip_interface(text)
    except ValueError:
        _refuse(text)
    if "%" in text:  # a zone, which may be any text
        _refuse(text)
    return address


def _network(text: str) -> Network:
    try:
        return ip_network(text)
    except ValueError:
        _refuse(text)


def _refuse(text: str) -> NoReturn:
    raise Unasked(f"{quote(text)}, which is not an address or a network")
