"""A server that is drained: it begins no session, and asks its clients to go elsewhere.

    begin --> clients that can are asked, some at a time --> each is at another gateway, and says
          |                                                  goodbye here (datagram/goodbye.py)
          `-> the gateway ends: no peer is connected any more, or the time has passed
    cancel --> those that have not gone may stay, and others come again

Peers with a session keep it, with new keys where it is time for that. The others are refused as
strangers are, by silence (Refusal.DRAINING), and are not called either. An older client and plain
WireGuard understand nothing of this: they are left alone until the end.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Final, Protocol

import msgspec

from fastun import log
from fastun.errors import ConfigError
from fastun.lane.messages import SendControl
from fastun.link import drain_messages
from fastun.link.drain_messages import Drain, DrainTaken
from fastun.link.hello import Ability
from fastun.session import clock

if TYPE_CHECKING:
    from collections.abc import Callable

    from fastun.config.settings import Settings
    from fastun.link.link import Link
    from fastun.link.slotted_peer import SlottedPeer
    from fastun.link.table import LinkTable

LOOK_INTERVAL_S: Final = 0.1

# A client that goes costs the gateway that it goes to a handshake: 200 a second are a tenth of one
# of its cores.
ASKED_PER_LOOK: Final = 20

# Repeated so often, the first time after half a second, then after twice as long each time.
TIMES_MAX: Final = 5
FIRST_PAUSE_S: Final = 0.5


# After the last peer has left: what routers still send here is forwarded to where it is now.
LINGER_S: Final = 1.0


class DrainView(msgspec.Struct, frozen=True):
    """How far a drain is: peers that are connected still, by what is known of them.

    ``until`` is Unix time. ``n_before`` were connected when it began. Of those that are still here,
    ``staying`` have said that they have no other endpoint, ``unaware`` cannot be asked.
    """

    until: float
    n_before: int
    n_connected: int
    n_staying: int
    n_unaware: int


class _Asked(msgspec.Struct):
    """A link whose peer was asked. ``has_elsewhere`` is its answer."""

    number: int
    n_times: int = 0
    due_s: float = float("-inf")
    has_elsewhere: bool | None = None


class DrainedOwner(Protocol):
    """The gateway, as far as it is drained."""

    settings: Settings
    links: LinkTable


class Draining:
    """Of one server. Event loop only, but for ``view``."""

    def __init__(self, owner: DrainedOwner) -> None:
        """Begin without; ``on_end`` ends the gateway."""
        self.view: DrainView | None = None
        self.on_end: Callable[[str], None] = lambda _: None
        self._owner = owner
        self._until_s = 0.0
        self._n_before = 0
        self._empty_until_s = float("inf")  # then it has been empty for long enough
        self._asked: dict[int, _Asked] = {}  # by link
        self._n_asked = 0
        self._begun = asyncio.Event()
        self._log = log.get("drain")

    @property
    def is_on(self) -> bool:
        """Whether the gateway is drained at the moment."""
        return self.view is not None

    def admits(self, slotted: SlottedPeer) -> bool:
        """Return whether a peer may begin a session: always, or only another one."""
        return not self.is_on or slotted.slot in self._owner.links.by_slot

    def is_asked(self, _: Link | None = None) -> bool:
        """Return whether a link is to be left by this side: as of Leaving."""
        return False

    # -- orders -------------------------------------------------------------------------------

    def order(self, timeout_s: float | None) -> None:
        """Begin, or cancel it for None. Raises ConfigError where there is nothing to drain."""
        wire = self._owner.settings.wire
        if wire != "wireguard":
            raise ConfigError(f"the {wire} wire has one peer, and no message that asks it to go")
        if timeout_s is not None:
            self.begin(timeout_s)
        elif not self.cancel():
            raise ConfigError("it is not drained; nothing to cancel")

    def begin(self, timeout_s: float) -> None:
        """Have all leave within ``timeout_s``; a drain that is on gets this time instead."""
        self._until_s = clock.boottime_s() + timeout_s
        if not self.is_on:
            self._n_before = len(self._owner.links.by_slot)
            self._asked.clear()
        for asked in self._asked.values():
            asked.n_times, asked.due_s = 0, float("-inf")  # the time is another one
        self._log.info("draining", peers=self._n_before, timeout_s=round(timeout_s))
        self._look(clock.boottime_s())
        self._begun.set()

    def cancel(self) -> bool:
        """Let all stay; return whether a drain was on."""
        if not self.is_on:
            return False
        self.view = None
        self._empty_until_s = float("inf")
        self._begun.clear()
        for link in self._owner.links.by_slot.values():
            if link.id in self._asked:
                self._send(link, 0, self._asked[link.id].number)
        self._asked.clear()
        self._log.info("draining is cancelled", peers=len(self._owner.links.by_slot))
        return True

    # -- while it is on -----------------------------------------------------------------------

    async def run(self) -> None:
        """Ask, and end the gateway when all have left, or the time has passed."""
        while True:
            await self._begun.wait()
            now_s = clock.boottime_s()
            self._look(now_s)
            if now_s >= self._empty_until_s:
                self.on_end("drained")
                return
            if self.is_on and now_s >= self._until_s:
                left = [link.peer_name for link in self._owner.links.by_slot.values()]
                self._log.warning(
                    "the time to drain has passed, and peers are still connected; they are cut off",
                    peers=len(left),
                    first=" ".join(sorted(left)[:8]),
                )
                self.on_end("drained, but for some peers")
                return
            await asyncio.sleep(LOOK_INTERVAL_S)

    def _look(self, now_s: float) -> None:
        links = list(self._owner.links.by_slot.values())
        here = {link.id for link in links}
        self._asked = {number: each for number, each in self._asked.items() if number in here}
        if links:
            self._empty_until_s = float("inf")
        elif self._empty_until_s == float("inf"):
            self._empty_until_s = now_s + (LINGER_S if self._n_before else 0.0)
        n_sent = n_unaware = n_staying = 0
        for link in links:
            if Ability.GOES_ELSEWHERE not in link.abilities:
                n_unaware += 1
                continue
            if n_sent < ASKED_PER_LOOK and self._ask(link, now_s):
                n_sent += 1
            asked = self._asked.get(link.id)
            n_staying += asked is not None and asked.has_elsewhere is False
        self.view = DrainView(
            until=time.time() + self._until_s - now_s,
            n_before=max(self._n_before, len(links)),
            n_connected=len(links),
            n_staying=n_staying,
            n_unaware=n_unaware,
        )

    def _ask(self, link: Link, now_s: float) -> bool:
        """Ask the peer of a link, if it is time for that; return whether it was."""
        asked = self._asked.get(link.id)
        if asked is None:
            self._n_asked += 1
            asked = self._asked[link.id] = _Asked(self._n_asked)
        if asked.has_elsewhere is not None or asked.n_times == TIMES_MAX or now_s < asked.due_s:
            return False
        asked.due_s = now_s + FIRST_PAUSE_S * 2**asked.n_times
        asked.n_times += 1
        self._send(link, max(1, round(self._until_s - now_s)), asked.number)
        return True

    def _send(self, link: Link, seconds: int, number: int) -> None:
        content = drain_messages.encode(Drain(seconds, number))
        link.lane.send("tun-reader", SendControl(link.slot, content))

    def receive(self, slot: int, _index: int, message: bytes) -> bool:
        """Take a peer's control message; return whether it was an answer to this."""
        taken = drain_messages.decode(message, DrainTaken)
        if taken is None:
            return False
        link = self._owner.links.by_slot.get(slot)
        asked = None if link is None else self._asked.get(link.id)
        if asked is not None and asked.number == taken.drain_taken:
            asked.has_elsewhere = taken.elsewhere
        return True
