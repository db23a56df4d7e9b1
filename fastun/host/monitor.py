"""Notices what others change of the host's state that a tunnel needs, and makes it again.

    a report of the kernel (notices.py) --0.2 s--> Device.repair --> one warning: what was missing
    a setting below /proc/sys, resolv.conf: looked at every 4 s, since nothing reports them

``ip link set down; up``, a flush, a restart of the network service: all is there again within a
second. A device that stays down was set down by a person: it is left so, said, and not ready.
Whatever removes things as often as they are made wins after three times a minute, until it has
been quiet for one: two programs that fight cost the host more than the tunnel is worth.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from typing import TYPE_CHECKING, Final

from fastun import log
from fastun.ending import AskedToStop
from fastun.host.dns.watch import DnsWatch
from fastun.host.firewall.forward_watch import ForwardWatch
from fastun.host.netlink.notices import Concern, Filter, Notices
from fastun.pace import PACE, EachTick

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from fastun.host.device import Device
    from fastun.host.wanted import Applied, Change
    from fastun.peers.peer import Network

# What one command does comes as many reports; and a restart of the network service takes a moment.
GATHER_S: Final = 0.2
LOOK_S: Final = 4.0
# While something waits for its time.
_SOON_S: Final = 1.0
# Addresses of other interfaces come and go all the time where there are containers; to compare
# 50,000 routes takes a second.
_OTHERS_INTERVAL_S: Final = 4.0
_SHARE_MAX: Final = 0.05  # of the time

# Without these a tunnel does not carry what it is to carry.
_NEEDED: Final = ("address", "route", "routing rules", "bridge")

REPAIRS_MAX: Final = 3
WINDOW_S: Final = 60.0


class RepairLimit:
    """Says when to repair: at most three times a minute, and then after a quiet minute."""

    def __init__(self) -> None:
        """Begin with no repair."""
        self._made: deque[float] = deque(maxlen=REPAIRS_MAX)
        self._disturbed: float | None = None  # since it was too much

    @property
    def is_exceeded(self) -> bool:
        """Whether nothing is repaired at the moment."""
        return self._disturbed is not None

    def allows(self, now: float, *, is_disturbed: bool) -> bool:
        """Return whether to repair; ``is_disturbed``: something of ours was touched."""
        if self._disturbed is None:
            is_full = len(self._made) == REPAIRS_MAX and now - self._made[0] < WINDOW_S
            if not (is_disturbed and is_full):
                return True
            self._disturbed = now
        elif is_disturbed:
            self._disturbed = now
        if now - self._disturbed < WINDOW_S:
            return False
        self._disturbed = None
        self._made.clear()
        return True

    def note(self, now: float) -> None:
        """Count one that made something."""
        self._made.append(now)


class HostMonitor:
    """Of one device. Event loop only; `run` in the namespace that the device was made in."""

    def __init__(self, device: Device, on_step: Callable[[], None] = lambda: None) -> None:
        """Prepare; ``on_step`` is called after each look."""
        self._device = device
        self._on_step = on_step
        self._condition = device.condition
        self._limit = RepairLimit()
        self._dns = DnsWatch(device.name)
        self._forward = ForwardWatch(device.forwarding, device.condition)
        self._refused_forwarding: tuple[str, ...] = ()
        self._have_rules_changed = True
        self._has_moved = False
        self._pending = Concern.OTHERS  # since the device was made
        self._looks, self._others = EachTick(LOOK_S), EachTick(_OTHERS_INTERVAL_S)
        self._others_from_s = float("-inf")
        self._routes: tuple[object, frozenset[Network]] = (None, frozenset())
        self._log = log.get("device")

    async def run(self) -> None:
        """Watch, for ever. Raises RuntimeFailure when the device is gone."""
        while True:
            try:
                notices = await asyncio.to_thread(self._device.inside, Notices)
            except OSError as error:
                self._log.warning(
                    "cannot watch this host: what others change is not noticed",
                    error=error.strerror,
                )
                return
            try:
                with notices:
                    await self._watch(notices)
            except OSError as error:  # the kernel has no memory, or no room, to wait with
                self._log.warning(
                    "cannot watch this host for a moment; trying again", error=error.strerror
                )
                await asyncio.sleep(LOOK_S)

    async def _watch(self, notices: Notices) -> None:
        """Watch until the device is in another namespace."""
        filter_ = Filter(self._device.index, lambda: self._device.nft_tables, self._routes_wanted)
        self._has_moved = False
        while not self._has_moved:
            is_waiting = bool(self._pending) or self._limit.is_exceeded
            if await notices.wait(PACE.left_s(_SOON_S if is_waiting else LOOK_S)):
                await asyncio.sleep(GATHER_S)
            self._pending |= notices.read(filter_.concern)
            await self._step(time.monotonic())
            self._on_step()

    async def _step(self, now: float) -> None:
        if self._looks.is_due():
            self._pending |= await asyncio.to_thread(self._look)
        if Concern.TABLE in self._pending:  # or it was our own change of it
            self._pending &= ~Concern.TABLE
            if await asyncio.to_thread(self._device.nft_tables_are_changed):
                self._pending |= Concern.OURS
        if Concern.RULES in self._pending:  # with the next look
            self._pending &= ~Concern.RULES
            self._have_rules_changed = True
        is_ours = Concern.OURS in self._pending
        if not self._may_repair(now, is_disturbed=is_ours):
            self._pending = Concern.NONE  # the quiet minute ends with a repair
        elif is_ours or (self._pending and self._may_see_to_others(now)):
            self._pending = Concern.NONE
            await self._repair(now)
            self._others_from_s = now + (time.monotonic() - now) / _SHARE_MAX

    def _may_see_to_others(self, now: float) -> bool:
        return now >= self._others_from_s and self._others.is_due()

    def _may_repair(self, now: float, *, is_disturbed: bool) -> bool:
        was_exceeded = self._limit.is_exceeded
        allows = self._limit.allows(now, is_disturbed=is_disturbed)
        if not allows and not was_exceeded:
            self._log.warning(
                f"{self._device.name}: another program keeps removing what the tunnel needs of "
                f"this host; made again {REPAIRS_MAX} times in a minute, not any more until a "
                "minute has been quiet"
            )
        if allows and was_exceeded:
            self._pending |= Concern.OURS
        self._condition.is_contested = not allows
        return allows

    def _look(self) -> Concern:
        """Look at what nothing reports. Not on the event loop's thread."""
        names = self._device.name_servers
        names.look()
        self._dns.look(names.state.servers if names.state.manager == "resolvconf" else ())
        self._have_rules_changed = self._forward.look(
            have_rules_changed=self._have_rules_changed, refused=self._refused_forwarding
        )
        if self._device.settings_are_changed():
            return Concern.OURS
        is_missing = self._condition.missing or self._refused_forwarding
        return Concern.OTHERS if is_missing else Concern.NONE

    def _routes_wanted(self) -> frozenset[Network]:
        wanted = self._device.wanted
        if self._routes[0] is not wanted:
            self._routes = wanted, frozenset((*wanted.routes, *wanted.pushed_routes))
        return self._routes[1]

    # -- repairing ------------------------------------------------------------------------------

    async def _repair(self, now: float) -> None:
        try:
            applied = await asyncio.to_thread(self._device.repair)
        except AskedToStop:
            return
        except OSError as error:
            if not await asyncio.to_thread(self._device.is_gone):
                self._log.warning("cannot look at this host's routes", error=str(error))
                return
            await asyncio.to_thread(self._device.follow_move)
            self._has_moved = True
            self._pending = Concern.OTHERS
            self._log.warning(
                f"{self._device.name} was moved to another network namespace; its addresses and "
                "routes are made there"
            )
            return
        self._account(applied, now)

    def _account(self, applied: Applied, now: float) -> None:
        if self._device.inner_mtu.change(applied.mtu):
            self._log.info("MTU changed by another program", mtu=applied.mtu)
        was_down = self._condition.is_down
        self._condition.is_down = any(each.kind == "link" for each in applied.refused)
        self._refused_forwarding = tuple(
            f"{each.item}: {each.reason}" for each in applied.refused if each.kind == "forwarding"
        )
        self._condition.missing = tuple(
            " ".join(each.key) for each in applied.refused if each.kind in _NEEDED
        )
        if self._condition.is_down or not applied.made:
            return  # it is made again when it is up
        self._limit.note(now)
        self._condition.count(applied.made)
        words = summary(applied.made)
        if was_down:
            self._log.info(f"{self._device.name} is up again; {words} made again")
        else:
            verb = "was" if len(applied.made) == 1 else "were"
            self._log.warning(
                f"{self._device.name}: {words} {verb} removed by another program; made again"
            )


def summary(made: Iterable[Change]) -> str:
    """Return what was made, in words: names where there is one of a kind, else numbers."""
    by_kind: dict[str, list[str]] = {}
    for change in made:
        by_kind.setdefault(change.kind, []).append(change.item)
    words = []
    for kind, items in by_kind.items():
        if kind == "routing rules":
            words.append("the routing rules")
        elif kind == "bridge":
            words.append(f"its place in bridge {items[0]}")
        elif len(items) == 1:
            words.append(f"{kind} {items[0]}")
        else:
            plural = f"{kind}es" if kind.endswith("s") else f"{kind}s"
            words.append(f"{len(items)} {plural}")
    return " and ".join(filter(None, (", ".join(words[:-1]), words[-1])))
