"""Lists of networks: one rule for all that a file, a command line or a command has."""

from __future__ import annotations

import contextlib
from ipaddress import ip_address, ip_network
from typing import TYPE_CHECKING, Final

from fastun.errors import ConfigError, quote
from fastun.peers import prefixes

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from fastun.peers.peer import Network


# Where the lengths of networks usually are.
_STEPS: Final = {4: 8, 6: 64}


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


def remarks(texts: Iterable[str], where: str) -> Iterator[str]:
    """Yield a line for each that is one host, as in WireGuard's files, but hardly meant as one."""
    for text in texts:
        network = _meant(text)
        if network is not None:
            host = ip_network(text)
            yield f"{where}: {text} is one host, {host}; for a network write {network}"


def _meant(text: str) -> Network | None:
    """Return the network that an address without a length looks like; None where it is a host.

    A network's address ends in 0 octets, in IPv6 in 64 bits of 0.
    """
    if not text.endswith((".0", ":0", "::")):  # most of a hundred thousand are done with here
        return None
    with contextlib.suppress(ValueError):
        address = ip_address(text)
        value, n_bits, step = int(address), address.max_prefixlen, _STEPS[address.version]
        n_zeros = (value & -value).bit_length() - 1 if value else n_bits
        if n_zeros >= step:
            return ip_network(f"{address}/{n_bits - n_zeros // step * step}")
    return None


def split(texts: Iterable[str]) -> tuple[str, ...]:
    """Return the parts of what may be repeated and may have commas, as options may."""
    return tuple(part.strip() for text in texts for part in text.split(","))
