"""Which of the wanted addresses and routes a device may have, beside what the host has already.

What is configured is refused only where it would replace another interface's; what a server pushes
must not take a single packet from another interface, unless the configuration names that prefix.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from fastun.host.routing import other_networks
from fastun.host.wanted import Refusal
from fastun.peers.peer import one_host

if TYPE_CHECKING:
    from collections.abc import Container, Iterable

    from fastun.host.routing.other_networks import OtherNetwork, OtherNetworks
    from fastun.host.routing.outer_addresses import OuterAddress
    from fastun.peers.peer import Address, Network

_TAKEN = "another interface of this host has it"
_REMOVE = "remove it from the allowed IPs, or set table to off"


def configured_addresses(
    addresses: Iterable[Address], taken: Container[OuterAddress]
) -> tuple[list[Address], list[Refusal]]:
    """Return those that may be had, and the others; ``taken`` are those of other interfaces.

    Of full length an address may be on several interfaces, and a link-local one is each link's own.
    """
    allowed: list[Address] = []
    refused: list[Refusal] = []
    for address in addresses:
        is_full = address.network.prefixlen == address.max_prefixlen
        if address.ip in taken and not is_full and not address.ip.is_link_local:
            reason = "already assigned to another interface"
            advice = "choose a free one with --address, or give it its full length"
            refused.append(Refusal("address", str(address), reason, advice))
        else:
            allowed.append(address)
    return allowed, refused


def configured_routes(
    networks: Iterable[Network], others: OtherNetworks
) -> tuple[list[Network], list[Refusal]]:
    """Return those that may be made, and the others: whatever the metrics, none is replaced."""
    allowed: list[Network] = []
    refused: list[Refusal] = []
    for network in networks:
        if (other := others.equal_to(network)) is not None:
            refused.append(Refusal("route", str(network), *has_it(other.owner)))
        else:
            allowed.append(network)
    return allowed, refused


def has_it(owner: str = "") -> tuple[str, str]:
    """Return reason and advice where another interface has a route to the same network."""
    return f"{_TAKEN} already" + (f": {owner}" if owner else ""), _REMOVE


def pushed_routes(
    networks: Iterable[Network], named: Container[Network], others: OtherNetworks
) -> tuple[list[Network], list[Refusal]]:
    """Return those that may be made, and the others; the configuration has ``named`` some."""
    allowed: list[Network] = []
    refused: list[Refusal] = []
    for network in networks:
        reason = advice = ""
        if (other := others.equal_to(network)) is not None and network in named:
            reason, advice = has_it(other.owner)
        elif network in named:
            pass
        elif network.is_multicast or network.is_link_local or network.is_loopback:
            reason = "a multicast, link-local or loopback network"
        elif (other := next(others.holding(network), None)) is not None:
            reason, advice = _beats(other)
        if reason:
            refused.append(Refusal("route", str(network), reason, advice, is_pushed=True))
        else:
            allowed.append(network)
    return allowed, refused


def pushed_addresses(
    addresses: Iterable[Address],
    named: Container[Network],
    others: OtherNetworks,
    outer: Iterable[OuterAddress],
) -> tuple[list[Address], list[Refusal]]:
    """Return those that the device may have, and the others."""
    allowed: list[Address] = []
    refused: list[Refusal] = []
    for address in addresses:
        reason, advice = _why_no_address(address, named, others, outer)
        if reason:
            refused.append(Refusal("address", str(address), reason, advice, is_pushed=True))
        else:
            allowed.append(address)
    return allowed, refused


def _why_no_address(
    address: Address,
    named: Container[Network],
    others: OtherNetworks,
    outer: Iterable[OuterAddress],
) -> tuple[str, str]:
    """Return why the device should not have an address, nor the route that comes with it."""
    network, host = address.network, one_host(address)
    if any(each.version == network.version and each in network for each in outer):
        return "its network contains the server's own address", "have the server push another"
    if others.equal_to(host) is not None:
        return _TAKEN, "remove it there, or have the server push another"
    if host in named:
        return "", ""
    for other in others.holding(host):
        # A named network may lie inside another one, but the address may not lie in one of the
        # networks inside the named one.
        is_meant = network in named and other_networks.is_inside(network, other.network)
        if not is_meant:
            return _beats(other)
    return "", ""


def _beats(other: OtherNetwork) -> tuple[str, str]:
    reason = f"it would divert packets for {other.network} on {other.owner}"
    return reason, "to allow it, add exactly this prefix to allowed_ips"
