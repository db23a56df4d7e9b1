"""Lists of networks: one rule for all that a file, a command line or a command has."""

from __future__ import annotations

from ipaddress import ip_network
from typing import TYPE_CHECKING

from fastun.errors import ConfigError, quote
from fastun.peers import prefixes

if TYPE_CHECKING:
    from collections.abc import Iterable

    from fastun.peers.peer import Network


def parse_networks(texts: Iterable[str], where: str) -> tuple[Network, ...]:
    """Return the networks; an address without a prefix length is that one host."""
    networks: dict[Network, None] = {}  # An ordered set.
    for text in texts:
        network = _network(text, where)
        if network in networks:
            raise ConfigError(f"{where}: {network} is listed twice; remove one")
        networks[network] = None
    return tuple(networks)


def _network(text: str, where: str) -> Network:
    try:
        prefix = prefixes.parse(text)
    except ValueError:
        raise ConfigError(
            f"{where}: {quote(text)} is not a prefix; write it as in 10.9.0.2/32 or fd00:9::/64"
        ) from None
    if prefix != prefix.without_host():
        host = ip_network(text.partition("/")[0])
        raise ConfigError(
            f"{where}: {text} has bits set beyond its prefix length; write {prefix.network()} for"
            f" the network, or {host} for this host"
        )
    return prefix.network()


def split(texts: Iterable[str]) -> tuple[str, ...]:
    """Return the parts of what may be repeated and may have commas, as options may."""
    return tuple(part.strip() for text in texts for part in text.split(","))
