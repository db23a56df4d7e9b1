"""The kill switch: nothing leaves this host beside the tunnel, whatever becomes of the tunnel.

    start --the table, with what is known by then--> device, names, links, ...
                 ^     |
                 |     +-- names resolve, peers move, networks come: another table in its place
                 '-----+-- another program removes or changes it: put back at once
    end, crash, upgrade: it stays. 'fastun disconnect' removes it, or a start or a reload
                               without the option.

It is the one change of a host that the journal does not undo: its purpose is to outlive us. The
kernel forgets it at a reboot. kill_switch_rules.py says what is allowed.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from typing import TYPE_CHECKING, Final, Self

import msgspec

from fastun import ending, log
from fastun.ending import AskedToStop
from fastun.errors import RuntimeFailure
from fastun.host.firewall import kill_switch_found, kill_switch_rules, local_networks, nft
from fastun.host.firewall.kill_switch_rules import Allowed, LocalNetwork
from fastun.host.firewall.nft import NftRefused
from fastun.host.firewall.own_tables import Tables
from fastun.host.netlink.notices import Concern, Filter, Notices
from fastun.host.routing import full_tunnel, outer_addresses
from fastun.host.routing.outer_addresses import OuterEndpoint
from fastun.host.wanted import Wanted

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from fastun.config.settings import Settings
    from fastun.endpoint import Endpoint
    from fastun.host.journal.journal import Journal
    from fastun.peers.peer import Network

# One that keeps removing it costs the host a process a second, and no more.
PAUSE_S: Final = 1.0
# Addresses may come by the dozen, where containers start.
GATHER_S: Final = 0.1
# Where reports were lost.
LOOK_S: Final = 30.0
WARNING_INTERVAL_S: Final = 60.0


class KillSwitch:
    """That of one tunnel, or none. Use as a context manager, before anything is sent.

    Blocks: but for `run`, not on the event loop's thread.
    """

    def __init__(self, settings: Settings, journal: Journal) -> None:
        """Prepare; ``settings`` have the mark of our own packets."""
        self._is_on, has_lan = _asked_for(settings)
        self._turned_on = asyncio.Event()  # or off
        self._loop: asyncio.AbstractEventLoop | None = None
        self._allowed = Allowed(
            interface=settings.interface,
            mark=settings.fwmark,
            endpoints=_known(settings.endpoints) if settings.role == "connect" else frozenset(),
            has_lan=has_lan,
        )
        self._wanted = Wanted(mtu=settings.mtu, addresses=settings.addresses)
        self._tables = Tables(journal)
        self._name = nft.table_name(settings.interface, kill_switch_rules.PURPOSE)
        self._mutex = threading.Lock()
        self._table = kill_switch_rules.table(self._allowed)  # the last that was to be there
        self._left_out = ""
        self._fault = ""
        self._n_restored = 0
        self._warned_s: dict[str, float] = {}  # by kind of warning
        self._log = log.get("kill switch")

    @property
    def is_on(self) -> bool:
        """Whether there is one. Any thread."""
        return self._is_on

    @property
    def has_lan(self) -> bool:
        """Whether the networks that this host is in are reachable beside the tunnel. Any thread."""
        return self._allowed.has_lan

    @property
    def fault(self) -> str:
        """Why it is not as it should be; empty where it is. Any thread."""
        return self._fault

    @property
    def n_restored(self) -> int:
        """How often it was put back. Any thread."""
        return self._n_restored

    def __enter__(self) -> Self:
        """Set it. Raises RuntimeFailure, AskedToStop."""
        if self.is_on:
            self._begin()
        return self

    def _begin(self) -> None:
        interface = self._allowed.interface
        others = [each for each in kill_switch_found.present() if each != interface]
        if others:
            removal = kill_switch_found.by_hand(others[0])
            raise RuntimeFailure(
                f"kill_switch: that of {others[0]} is set on this host, and drops what other "
                f"tunnels send; run '{removal}', or set only one of them"
            )
        try:
            self._have()
        except NftRefused as error:
            raise RuntimeFailure(f"kill_switch: {error}") from None
        self._log.info(
            f"kill switch set: this host sends nothing beside the tunnel; it stays until "
            f"'{kill_switch_found.by_hand(interface)}'",
            interface=interface,
            lan="allowed" if self._allowed.has_lan else "dropped",
        )

    def __exit__(self, *_: object) -> None:
        """Leave it there, and say so."""
        if self.is_on:
            kill_switch_found.say_that_it_remains(self._allowed.interface)

    def remove_left(self) -> None:
        """Remove what an earlier start has left, if there is to be none now. Raises NftRefused.

        Once the device is ours: until then it may be that of a client that is running.
        """
        interface = self._allowed.interface
        if not self.is_on and interface in kill_switch_found.present():
            kill_switch_found.remove(interface)
            self._log.warning(
                "the kill switch of an earlier start is removed: kill_switch is not set now",
                interface=interface,
            )

    # -- other settings -------------------------------------------------------------------------

    def turn(self, settings: Settings, endpoints: frozenset[OuterEndpoint], wanted: Wanted) -> None:
        """Have it as these settings say; the rest as of `follow`.

        Raises RuntimeFailure, and then it is as it was.
        """
        with self._mutex:
            is_on, has_lan = _asked_for(settings)
            was, self._wanted = self._allowed, wanted
            self._allowed = msgspec.structs.replace(was, has_lan=has_lan, endpoints=endpoints)
            try:
                if not self._is_on and is_on:
                    self._begin()
                elif is_on:
                    self._have()
                elif self._is_on:
                    self._end()
            except (RuntimeFailure, OSError):
                self._allowed = was
                raise
            self._is_on = is_on
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self._turned_on.set)

    def _end(self) -> None:
        self._tables.remove(self._name)
        self._fault = ""
        self._log.warning(
            "the kill switch is removed: kill_switch is not set any more",
            interface=self._allowed.interface,
        )

    # -- what is allowed ------------------------------------------------------------------------

    def allow_lookups(self, servers: Iterable[str]) -> None:
        """Let our own lookups of names reach these DNS servers, and no others. Raises OSError."""
        self._change(dns_servers=frozenset(map(outer_addresses.parsed, servers)))

    def follows(self, endpoints: frozenset[OuterEndpoint], wanted: Wanted) -> bool:
        """Return whether `follow` would change nothing. Any thread."""
        is_same = self._allowed.endpoints == endpoints and self._wanted is wanted
        return is_same or not self.is_on

    def follow(self, endpoints: frozenset[OuterEndpoint], wanted: Wanted) -> None:
        """Let our own packets go to ``endpoints``; the device is to have what is ``wanted``."""
        self._wanted = wanted
        self._change(endpoints=endpoints)

    def _change(self, **changes: object) -> None:
        """Replace the table; a failure is a warning: it goes on dropping what it did before."""
        with self._mutex:
            if not self._is_on:
                return
            is_back = self._put_back()  # or the new one would hide that the last was removed
            self._allowed = msgspec.structs.replace(self._allowed, **changes)
            self._try()
            if is_back:
                self._say_restored()

    def _try(self) -> None:
        try:
            self._have()
            self._fault = ""
        except AskedToStop:
            return
        except (NftRefused, OSError) as error:
            self._fault = f"the kill switch cannot be changed: {error}"
            self._warn(self._fault)

    def _have(self) -> None:
        """Put the table as it should be now. Raises NftRefused, OSError and AskedToStop."""
        allowed = self._allowed
        outer = {each.host for each in allowed.endpoints}
        networks = local_networks.read(allowed.interface, allowed.mark, outer)
        apart, _ = full_tunnel.apart({each.network for each in networks}, _inside(self._wanted))
        kept = tuple(each for each in networks if each.network in apart)
        self._say_left_out({*networks} - {*kept})
        self._table = kill_switch_rules.table(msgspec.structs.replace(allowed, networks=kept))
        self._tables.have(self._table)

    def _say_left_out(self, networks: set[LocalNetwork]) -> None:
        """Say, once for each change, which networks of this host are out of reach."""
        wanted = {each.network for each in networks if each.is_within or self._allowed.has_lan}
        said = " ".join(sorted(map(str, wanted)))
        if said and said != self._left_out and not self._wanted.takes_all:  # reconcile.py says it
            self._log.warning(
                "networks of this host are out of reach: the tunnel leads to addresses in them",
                networks=said,
            )
        self._left_out = said

    # -- what others do -------------------------------------------------------------------------

    async def run(self, on_step: Callable[[], None] = lambda: None) -> None:
        """Put it back whenever another program has removed or changed it. Event loop only.

        ``on_step`` is called after each look.
        """
        self._loop, can_watch = asyncio.get_running_loop(), True
        while can_watch:
            if self._is_on:
                can_watch = await self._watch(on_step)
            else:
                await self._turned_on.wait()
                self._turned_on.clear()

    async def _watch(self, on_step: Callable[[], None]) -> bool:
        """Watch while it is on; return whether that is possible."""
        try:
            notices = Notices()
        except OSError as error:
            self._fault = f"cannot watch the kill switch: {error.strerror}"
            self._warn(self._fault)
            return False
        filter_ = Filter(0, lambda: (self._name,), lambda: ())
        due_s, left_s = float("-inf"), LOOK_S
        with notices:
            while self._is_on:
                await notices.wait(left_s)
                concern = notices.read(filter_.concern)
                is_restored = False
                if Concern.TABLE in concern or time.monotonic() >= due_s:
                    due_s = time.monotonic() + LOOK_S
                    is_restored = await asyncio.to_thread(self._look)
                elif concern:
                    await asyncio.to_thread(self._change)
                on_step()
                await asyncio.sleep(PAUSE_S if is_restored else GATHER_S)
                left_s = max(0.0, due_s - time.monotonic())
        return True

    def _look(self) -> bool:
        """Compare, and put it right; return whether another program had changed it."""
        with self._mutex:
            if not self._is_on:
                return False
            is_back = self._put_back()
            changed = self._tables.changed()
            self._tables.forget(changed)
            self._try()
            if not (changed or is_back) or self._fault:
                return False
            self._say_restored()
        return True

    def _put_back(self) -> bool:
        """Put the table back if there is none, at once: to compare comes later. Whether it was."""
        if self._allowed.interface in kill_switch_found.present() or ending.is_asked():
            return False
        with contextlib.suppress(NftRefused, AskedToStop):
            nft.put(self._table)
            return True
        return False

    def _say_restored(self) -> None:
        self._n_restored += 1
        if self._is_due("restored"):
            self._log.warning(
                "the kill switch was removed or changed by another program (a firewall's restart, "
                "'nft flush ruleset'); put back",
                interface=self._allowed.interface,
            )

    def _warn(self, fault: str) -> None:
        if self._is_due("fault"):
            self._log.warning(fault, interface=self._allowed.interface)

    def _is_due(self, what: str) -> bool:
        """Return whether a warning is due; one of another kind does not hold it back."""
        now_s = time.monotonic()
        if now_s - self._warned_s.get(what, float("-inf")) < WARNING_INTERVAL_S:
            return False
        self._warned_s[what] = now_s
        return True


def _asked_for(settings: Settings) -> tuple[bool, bool]:
    """Return whether there is to be one, and whether it lets the LAN pass."""
    if settings.role != "connect":
        return False, False
    return settings.kill_switch, settings.allow_lan


def _known(endpoints: Iterable[Endpoint]) -> frozenset[OuterEndpoint]:
    """Return those whose host is an address."""
    found = set()
    for endpoint in endpoints:
        with contextlib.suppress(ValueError):
            host = outer_addresses.parsed(endpoint.host)
            found.add(OuterEndpoint(endpoint.scheme, host, endpoint.port))
    return frozenset(found)


def _inside(wanted: Wanted) -> list[Network]:
    """Return the networks that the tunnel leads to."""
    own = (each.network for each in (*wanted.addresses, *wanted.pushed_addresses))
    return [*own, *wanted.routes, *wanted.pushed_routes]
