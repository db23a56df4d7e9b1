"""Clients on TCP whose own address is in a network that is routed to the device.

The kernel's answer to their SYN goes into the tunnel, so there is no connection that we could
accept or refuse. Half-open connections are looked at now and then; where the route to one leads
inside, routes make way for its network (inside.py), and an answer that the kernel sends again,
after 1, 3 and 7 s, arrives. On UDP a client's first message gets here and does the same; there it
is a known peer's. A SYN proves nothing: what it can cause is that each network that is routed to
the device makes way for our own packets, once.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Collection
from typing import Final

from fastun import log
from fastun.host.netlink import half_open
from fastun.link.inside import Inside
from fastun.link.source_limits import source_of_address

# A look takes some 1.5 ms: the kernel goes through all of the host's connections.
LOOK_INTERVAL_S: Final = 2.0

# Of how many sources the routes are looked up in a look, some 15 us each: SYNs that are never
# followed by anything may be of thousands, whose addresses are made up. Which, is drawn by lot.
LOOKED_AT: Final = 64


async def make_way(
    inside: Inside, ports: Callable[[], Collection[int]], has_routes: Callable[[], bool]
) -> None:
    """Look at connections to ``ports`` at intervals, for ever, while the device ``has_routes``."""
    while True:
        await asyncio.sleep(LOOK_INTERVAL_S)
        if has_routes():
            try:
                _look(inside, half_open.sources(ports()))
            except OSError as error:  # a kernel without sock_diag
                log.get("link").debug("half-open connections are not seen", error=error.strerror)
                return


def _look(inside: Inside, sources: Collection[half_open.Source]) -> None:
    of_each = {source_of_address(host): (host, port) for host, port in sources}
    some = random.sample(list(of_each.values()), min(LOOKED_AT, len(of_each)))
    for host, port in some:
        # One at a time: routes that made way for it may have done so for the others.
        if inside.holds_stream((str(host), port)) and inside.keep_out(host):
            return
