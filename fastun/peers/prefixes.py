"""Prefixes from text, quickly: a file may list a hundred thousand of them.

What `ipaddress` takes, in a quarter of the time, because the C library reads the address.
"""

from __future__ import annotations

import re
import socket
from ipaddress import IPv4Network, IPv6Network
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from fastun.peers.peer import Network

_LENGTH = re.compile("[0-9]{1,3}")


class Prefix(NamedTuple):
    """A prefix as it was written: its bits, some of them perhaps beyond its length."""

    version: int
    address: int
    length: int

    def without_host(self) -> Prefix:
        """Return it without bits beyond its length."""
        n_host_bits = (32 if self.version == 4 else 128) - self.length  # noqa: PLR2004
        first = self.address >> n_host_bits << n_host_bits
        return self if first == self.address else self._replace(address=first)

    def network(self) -> Network:
        """Return the network that it is in."""
        kind = IPv4Network if self.version == 4 else IPv6Network  # noqa: PLR2004
        return slim(kind((self.without_host().address, self.length)))


def slim(network: Network) -> Network:
    """Return it without the `hosts` that `ipaddress` gives to a network of one address or two.

    That is a function of 250 bytes, which nothing here calls, and a server has one a peer.
    """
    if network.prefixlen >= network.max_prefixlen - 1:
        del network.hosts
    return network


def parse(text: str) -> Prefix:
    """Return the prefix; an address without a length is that one host. Raises ValueError.

    It has neither a zone nor a netmask.
    """
    host, slash, length = text.partition("/")
    if slash and not _LENGTH.fullmatch(length):
        raise ValueError(f"no prefix length: {text}")
    family, version, n_bits = (socket.AF_INET6, 6, 128) if ":" in host else (socket.AF_INET, 4, 32)
    try:
        packed = socket.inet_pton(family, host)
    except (OSError, ValueError):
        raise ValueError(f"no address: {text}") from None
    n_prefix_bits = int(length) if slash else n_bits
    if n_prefix_bits > n_bits:
        raise ValueError(f"longer than an address: {text}")
    return Prefix(version, int.from_bytes(packed, "big"), n_prefix_bits)
