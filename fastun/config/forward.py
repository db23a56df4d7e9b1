"""`[forward]`: this host as a router between its peers and the networks that it is in."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from fastun.config.interface import parse_interface_name
from fastun.config.networks import parse_networks
from fastun.config.ranges import FORWARDED_NETWORKS_MAX, MASQUERADED_INTERFACES_MAX
from fastun.errors import ConfigError

if TYPE_CHECKING:
    from fastun.config.document import ForwardSection
    from fastun.config.sources import Sources
    from fastun.config.vocabulary import Mode
    from fastun.peers.peer import Network


class Forward(msgspec.Struct, frozen=True, kw_only=True):
    """What is forwarded, and how it leaves.

    `masquerade`: as from this host, by whichever interface it leaves, or by these interfaces only.
    `peers`: also from one peer to another. `to`: only to and from these networks, none for all.
    """

    masquerade: bool | tuple[str, ...] = False
    peers: bool = True
    to: tuple[Network, ...] = ()

    @property
    def networks(self) -> tuple[Network, ...]:
        """What a client is given a route to; all of an IP version is for it to ask for."""
        return tuple(each for each in self.to if each.prefixlen)


def forward(sources: Sources, mode: Mode) -> Forward | None:
    """Return what is forwarded, None for nothing; raise ConfigError."""
    options, section = sources.options, sources.document.forward
    is_on = options.forward or (section is not None and section.enabled)
    if not is_on:
        if options.masquerade:
            raise ConfigError("--masquerade: nothing is forwarded; add --forward")
        return None
    if section is None:
        return Forward(masquerade=options.masquerade)
    if mode == "tap" and not section.peers:
        place = sources.where("forward.peers")
        raise ConfigError(
            f"{place}: on a TAP device frames from peer to peer are not forwarded by this host;"
            " remove it, or use mode tun"
        )
    return Forward(
        masquerade=options.masquerade or _masquerade(sources, section),
        peers=section.peers,
        to=_to(sources, section),
    )


def _masquerade(sources: Sources, section: ForwardSection) -> bool | tuple[str, ...]:
    value, place = section.masquerade, sources.where("forward.masquerade")
    if isinstance(value, bool):
        return value
    names = tuple(dict.fromkeys(parse_interface_name(name, place) for name in value))
    if not 1 <= len(names) <= MASQUERADED_INTERFACES_MAX:
        raise ConfigError(
            f"{place}: {len(names)} interfaces; name 1 to {MASQUERADED_INTERFACES_MAX}, or write"
            " true for whichever a packet leaves by, or false"
        )
    return names


def _to(sources: Sources, section: ForwardSection) -> tuple[Network, ...]:
    if section.to is None:
        return ()
    place = sources.where("forward.to")
    if not 1 <= len(section.to) <= FORWARDED_NETWORKS_MAX:
        raise ConfigError(
            f"{place}: {len(section.to)} networks; list 1 to {FORWARDED_NETWORKS_MAX}, or remove it"
            " to forward to all"
        )
    return parse_networks(section.to, place)
