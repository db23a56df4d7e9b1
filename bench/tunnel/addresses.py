"""The addresses of a case's two hosts: on the wire between them, and inside the tunnel."""

from __future__ import annotations

from typing import NamedTuple


class Addresses(NamedTuple):
    """One end's addresses, as CIDR texts."""

    v4: str
    v6: str

    @property
    def bare_v4(self) -> str:
        """The IPv4 address alone."""
        return self.v4.partition("/")[0]

    @property
    def bare_v6(self) -> str:
        """The IPv6 address alone."""
        return self.v6.partition("/")[0]


class Ends(NamedTuple):
    """The addresses of both ends."""

    server: Addresses
    client: Addresses


OUTER = Ends(Addresses("10.0.0.1/24", "fd00::1/64"), Addresses("10.0.0.2/24", "fd00::2/64"))
INNER = Ends(Addresses("10.99.0.1/24", "fd99::1/64"), Addresses("10.99.0.2/24", "fd99::2/64"))
