"""What a tunnel has set of a host's DNS, as a value: for status, and for what watches it."""

from __future__ import annotations

import msgspec

from fastun.host.dns import resolver
from fastun.host.dns.resolver import Manager


class DnsState(msgspec.Struct, frozen=True):
    """`fault` says why names are not looked up as they should be, empty where they are.

    `is_checked`: the servers were asked. `signature` is systemd-resolved's (resolver.py).
    """

    servers: tuple[str, ...]
    domains: tuple[str, ...]
    manager: Manager
    fault: str = ""
    is_checked: bool = False
    signature: object = None

    @property
    def is_split(self) -> bool:
        """Whether only names inside some domains are meant for the servers."""
        return bool(self.split_domains) and resolver.ALL_NAMES not in self.domains

    @property
    def split_domains(self) -> tuple[str, ...]:
        """Those domains, without their mark."""
        marked = (each for each in self.domains if each != resolver.ALL_NAMES)
        return tuple(
            each.removeprefix(resolver.ROUTING_ONLY)
            for each in marked
            if each.startswith(resolver.ROUTING_ONLY)
        )

    @property
    def words(self) -> str:
        """What manages the resolver, for people."""
        return resolver.WORDS[self.manager]


#: No server is set.
NOTHING = DnsState((), (), "file")
