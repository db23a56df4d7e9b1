"""Has a tunnel's DNS servers checked: when they were set, with a new link, and after a fault.

A check is a few packets, and none is sent while all is well: a quiet tunnel stays quiet. The result
is in the log once, and in `fastun status` (dns_state.py).
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Final

from fastun import log
from fastun.host.dns import check as dns_check
from fastun.pace import PACE

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterator, Mapping

    from fastun.config.settings import Settings
    from fastun.host.dns.state import DnsState
    from fastun.host.process.gateway_device import GatewayDevice, GatewayNameServers
    from fastun.link.table import Link

LOOK_S: Final = 2.0
# After a fault, in seconds.
_AGAIN_S: Final = (5.0, 30.0, 60.0)

# With a link, until there should be servers: they come with the first push.
_LOOKS_WITHOUT: Final = 3


def dns_checks(
    settings: Settings, device: GatewayDevice, links: Mapping[int, Link]
) -> Iterator[Coroutine[None, None, None]]:
    """Yield what checks DNS, of a client."""
    if settings.role == "connect":
        yield DnsChecks(device.name_servers, settings.interface, links).run(device)


class DnsChecks:
    """Of one client. Event loop only."""

    def __init__(
        self,
        name_servers: GatewayNameServers,
        interface: str,
        links: Mapping[int, Link],
        fault: Callable[[DnsState, str], str] = dns_check.fault,
    ) -> None:
        """Check while there are ``links``; ``fault`` blocks, and says what is wrong."""
        self._name_servers = name_servers
        self._interface = interface
        self._links = links
        self._fault = fault
        self._checked: object = None  # servers and links at the last check
        self._n_faults = 0
        self._due = 0.0
        self._n_without = 0  # looks with a link, without servers
        self._log = log.get("dns")

    async def run(self, device: GatewayDevice) -> None:
        """Check, for ever."""
        while True:
            await PACE.next_look(LOOK_S)
            await self.look(time.monotonic())
            self.say_without(takes_all=device.now.takes_all)

    def say_without(self, *, takes_all: bool) -> None:
        """Say once that names go on being looked up as before, where all else goes inside."""
        is_without = takes_all and bool(self._links) and not self._name_servers.state.servers
        self._n_without = self._n_without + 1 if is_without else 0
        if self._n_without == _LOOKS_WITHOUT:
            self._log.warning(
                "everything goes through the tunnel, but it has no DNS servers: names are looked up"
                " as before, or not at all; set dns, or push.dns on the server"
            )

    async def look(self, now: float) -> None:
        """Check if there is a reason to."""
        state = self._name_servers.state
        links = frozenset(link.id for link in self._links.values())
        if not state.servers or not links:
            return
        present = (state.servers, state.domains, state.manager, links)
        if present == self._checked and not (self._n_faults and now >= self._due):
            return
        if present != self._checked:
            self._n_faults = 0
        self._checked = present
        fault = await asyncio.to_thread(self._fault, state, self._interface)
        after = self._name_servers.state
        if (after.servers, after.domains) == (state.servers, state.domains):
            self._take(after, fault, now)

    def _take(self, state: DnsState, fault: str, now: float) -> None:
        servers = " ".join(state.servers)
        if fault:
            if fault != state.fault:
                self._log.warning("DNS does not work", servers=servers, error=fault)
            self._due = now + _AGAIN_S[min(self._n_faults, len(_AGAIN_S) - 1)]
            self._n_faults += 1
        else:
            if self._n_faults or state.fault:
                self._log.info("DNS works", servers=servers)
            self._n_faults = 0
        self._name_servers.judge(fault)
