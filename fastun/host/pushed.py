"""Pushed addresses, routes and MTU of a device, replaced as a whole by the next push.

Only what a push has created is removed, and only if it is still as the push left it: what the
configuration or an administrator has set on the device stays.
"""

from __future__ import annotations

import contextlib
import os
import socket
from typing import TYPE_CHECKING

from fastun import log
from fastun.host import other_networks, outer_addresses
from fastun.host.iproute import IPRoute, NetlinkError
from fastun.peers.peer import one_host

if TYPE_CHECKING:
    from collections.abc import Iterable

    from fastun.config.settings import Settings
    from fastun.host.other_networks import OtherNetwork
    from fastun.host.outer_addresses import OuterAddress
    from fastun.host.routes import HostRoutes
    from fastun.peers.peer import Address, Network


class AppliedPush:
    """Of one device. Not on the event loop's thread: pyroute2 brings its own."""

    def __init__(self, interface: str, settings: Settings, routes: HostRoutes) -> None:
        """Begin with nothing pushed."""
        self._interface = interface
        self._settings = settings
        self._routes = routes
        self._named = {prefix for peer in settings.peers for prefix in peer.allowed_ips}
        self._addresses: set[Address] = set()
        self._mtu = 0
        self._said: dict[str, list[str]] = {}
        self._log = log.get("push")

    def replace(
        self,
        addresses: Iterable[Address],
        routes: Iterable[Network],
        mtu: int,
        in_use: Iterable[OuterAddress],
    ) -> int:
        """Replace the last push; return the MTU, in bytes, that the device has now.

        `in_use`: the addresses that our own packets go to at the moment. Raises OSError if the
        interface no longer exists.
        """
        outer = outer_addresses.of_settings(self._settings)[0] | set(in_use)
        with IPRoute() as netlink:
            index = socket.if_nametoindex(self._interface)
            now = self._replace_mtu(netlink, index, mtu)
            others = other_networks.of_others(netlink, but=index)
            self._replace_addresses(netlink, index, addresses, (others, outer))
        allowed, refused = self._allowed(routes, others)
        refused |= self._routes.replace_pushed(allowed, outer)
        self._warn("pushed route refused", refused)
        return now

    def _replace_mtu(self, netlink: IPRoute, index: int, mtu: int) -> int:
        """Set the pushed MTU; without one, a previously pushed MTU is reset to the configured."""
        is_now = int(netlink.get_links(index)[0].get_attr("IFLA_MTU"))
        wanted = mtu or (self._settings.mtu if is_now == self._mtu else is_now)
        self._mtu = mtu
        if wanted == is_now:
            return is_now
        try:
            netlink.link("set", index=index, mtu=wanted)
        except NetlinkError as error:
            self._mtu = 0
            self._log.warning("pushed MTU refused", mtu=wanted, error=_said(error))
            return is_now
        return wanted

    def _replace_addresses(
        self,
        netlink: IPRoute,
        index: int,
        addresses: Iterable[Address],
        known: tuple[list[OtherNetwork], set[OuterAddress]],
    ) -> None:
        wanted: list[Address] = []
        refused: dict[object, str] = {}
        for address in addresses:
            if why := self._why_no_address(address, *known):
                refused[address] = why
            else:
                wanted.append(address)
        for address in self._addresses - set(wanted):
            with contextlib.suppress(NetlinkError):  # removed or changed since
                netlink.addr("del", index=index, **_fields(address))
        self._addresses &= set(wanted)
        # Read only now: removing an IPv4 address also removes later ones in its network.
        present = _addresses_of(netlink, index)
        for address in wanted:
            if _key(address) in present:
                continue
            try:
                netlink.addr("add", index=index, **_fields(address))
            except NetlinkError as error:
                refused[address] = f"the kernel refuses it: {_said(error)}"
            else:
                self._addresses.add(address)
        self._warn("pushed address refused", refused)

    def _why_no_address(
        self, address: Address, others: list[OtherNetwork], outer: set[OuterAddress]
    ) -> str:
        """Return why the device should not have an address, nor the route that comes with it."""
        if outer_addresses.catches(address.network, outer):
            return "its network contains the server's own address"
        host = one_host(address)
        if any(other.network == host for other in others):
            return "another interface of this host has it"
        if host in self._named:
            return ""
        is_named = address.network in self._named
        for other in others:
            # A named network may lie inside another one, but the address may not lie in one of the
            # networks inside the named one.
            is_meant = is_named and other_networks.is_inside(address.network, other.network)
            if not is_meant and other_networks.beaten_by(host, [other]):
                return _beats(other)
        return ""

    def _allowed(
        self, routes: Iterable[Network], others: list[OtherNetwork]
    ) -> tuple[list[Network], dict[Network, str]]:
        allowed: list[Network] = []
        refused: dict[Network, str] = {}
        for network in dict.fromkeys(routes):
            other = other_networks.beaten_by(network, others)
            if network in self._named:
                allowed.append(network)
            elif network.is_multicast or network.is_link_local or network.is_loopback:
                refused[network] = "a multicast, link-local or loopback network"
            elif other is not None:
                refused[network] = _beats(other)
            else:
                allowed.append(network)
        return allowed, refused

    def _warn(self, what: str, refused: dict[Network, str] | dict[object, str]) -> None:
        """Warn once about what is refused, and again when that has changed."""
        said = [f"{one}: {why}" for one, why in refused.items()]
        if said and said != self._said.get(what):
            first, _, why = said[0].partition(": ")
            kind = "address" if "address" in what else "route"
            self._log.warning(what, **{kind: first}, reason=why, others=len(said) - 1)
        self._said[what] = said


def _beats(other: OtherNetwork) -> str:
    return (
        f"it would divert packets for {other.network} on {other.owner}; to allow it, add"
        " exactly this prefix to allowed_ips"
    )


def _fields(address: Address) -> dict[str, object]:
    return {"address": str(address.ip), "prefixlen": address.network.prefixlen}


def _key(address: Address) -> tuple[str, int]:
    return str(address.ip), address.network.prefixlen


def _addresses_of(netlink: IPRoute, index: int) -> set[tuple[str, int]]:
    return {
        (address.get_attr("IFA_LOCAL") or address.get_attr("IFA_ADDRESS"), address["prefixlen"])
        for address in netlink.get_addr(index=index)
    }


def _said(error: NetlinkError) -> str:
    return os.strerror(error.code) if error.code else str(error)
