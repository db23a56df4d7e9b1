"""Which Ethernet addresses are this host's own on a TAP device: its own, and that of its bridge."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Final

from fastun import log
from fastun.host.bridge_mtu import Interface, interfaces
from fastun.pace import PACE

LOOK_INTERVAL_S: Final = 2.0


class OwnMacs:
    """Looks for them, since a bridge takes and changes its address as ports come. Event loop."""

    def __init__(self, index: int, tell: Callable[[Sequence[bytes]], None]) -> None:
        """Call ``tell`` with those of the interface with this index, when they change."""
        self._index = index
        self._tell = tell
        self._told: tuple[bytes, ...] = ()
        self._log = log.get("device")

    async def run(self) -> None:
        """Look at intervals, for ever."""
        while True:
            try:
                self.take(own_of(self._index, await asyncio.to_thread(interfaces)))
            except OSError as error:
                self._log.debug("cannot read the interfaces", error=error.strerror)
            await PACE.next_look(LOOK_INTERVAL_S)

    def take(self, found: tuple[bytes, ...]) -> None:
        """Pass on what is found, if it is not what was found last."""
        if found != self._told:
            self._told = found
            self._tell(found)


def own_of(index: int, all_interfaces: list[Interface]) -> tuple[bytes, ...]:
    """Return the addresses of the interface and of the bridge that it is a port of."""
    by_index = {each.index: each for each in all_interfaces}
    ours = by_index.get(index)
    bridge = None if ours is None else by_index.get(ours.master)
    return tuple(each.address for each in (ours, bridge) if each is not None and each.address)
