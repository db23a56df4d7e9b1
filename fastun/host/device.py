"""The device: the TUN or TAP interface, made, addressed and brought up, with its routes and DNS.

The interface lives as long as the descriptor that this class keeps; closing it removes the
interface with its addresses and routes, however the gateway ends. One that another program has made
(``ip tuntap add``, a network service) stays: what we add to it is in the journal, and is removed at
the end. Runs before the event loop does: pyroute2 brings its own.
"""

from __future__ import annotations

import contextlib
import os
import select
import socket
import threading
from collections.abc import Callable, Collection, Iterable
from typing import Self, TypeVar

from msgspec import structs

from fastun import log, native
from fastun.config.settings import Settings
from fastun.errors import RuntimeFailure
from fastun.host import device_counters, link_settings, prepared, tun
from fastun.host.condition import Condition
from fastun.host.configured import check_vital, of_settings
from fastun.host.dns.name_servers import NameServers
from fastun.host.firewall.forwarding import Forwarding
from fastun.host.firewall.packet_filter import PacketFilter
from fastun.host.inner_mtu import InnerMtu
from fastun.host.journal.journal import Journal
from fastun.host.moved import Namespace, settings_there
from fastun.host.netlink.iproute import explained
from fastun.host.reconcile import Reconciler
from fastun.host.refusal_log import RefusalLog
from fastun.host.routing import outer_addresses
from fastun.host.routing.outer_addresses import OuterAddress
from fastun.host.wanted import Applied, Change, Refusal, Wanted
from fastun.native import Mode, Offload
from fastun.peers.peer import Address, Network

Result = TypeVar("Result")


class Device:
    """An interface of ours. Use as a context manager."""

    _moved: Namespace | None = None  # where it is, if not here

    def __init__(self, settings: Settings, journal: Journal) -> None:
        """Make the interface, give it MTU and addresses, bring it up, lead packets and names to it.

        What does not go with the interface is for ``journal`` to undo. Raises RuntimeFailure in one
        line that names the interface, the address or the route, and AskedToStop.
        """
        self.name = settings.interface
        self.mode = Mode[settings.mode.upper()]
        self._outlives_us = prepared.record(journal, self.name, settings)
        self.fds = tun.opened(self.name, self.mode, settings.lanes)
        self.index = socket.if_nametoindex(self.name)  # it keeps it when it is renamed
        self.condition = Condition(self.name)
        self._journal = journal
        self._settings = settings
        self._reconciler = Reconciler(self.index, settings, journal)
        self._refusals = RefusalLog(self.name)
        self.name_servers = NameServers(self.name, journal)
        self._packet_filter = PacketFilter(settings, journal)
        self.inner_mtu = InnerMtu(settings.mtu)
        self._configured_outer = frozenset(outer_addresses.of_settings(settings)[0])
        self._wanted = Wanted(mtu=settings.mtu)
        self._refused: tuple[Refusal, ...] = ()
        self._mutex = threading.Lock()
        self._log = log.get("device")
        try:
            if self._outlives_us:
                prepared.say_addresses(self.name, self.index, settings.addresses)
            self.offload_max = (
                tun.find_offload(self.fds[0]) if settings.data_path.gso else Offload.NONE
            )
            with explained(f"interface {self.name}"):
                link_settings.configure(self.index, settings)
            self._begin(settings)
            if settings.role == "connect":
                self.name_servers.set(settings.dns, settings.dns_search)
        except BaseException:
            self._close()
            raise

    def __enter__(self) -> Self:
        """Return the device."""
        return self

    def __exit__(self, *_: object) -> None:
        """Remove the interface, with its addresses and routes."""
        self._close()

    @property
    def wanted(self) -> Wanted:
        """The state that the device should have at the moment."""
        return self._wanted

    @property
    def is_here(self) -> bool:
        """Whether it is in the network namespace that it was made in. Any thread."""
        return self._moved is None

    @property
    def mtu(self) -> int:
        """The inner MTU, in bytes. Any thread."""
        return self.inner_mtu.bytes

    def apply(
        self,
        addresses: Iterable[Address],
        routes: Iterable[Network],
        mtu: int,
        outer: Iterable[OuterAddress] = (),
        *,
        takes_all: bool = False,
    ) -> Applied:
        """Have what is pushed, in place of the last push; ``mtu`` in bytes, 0 for the configured.

        ``outer`` are the addresses that our own packets go to at the moment, beside the configured
        ones; ``takes_all``: a default route is pushed. What would take packets from another
        interface, or our own from their way, is left out, with a warning.

        Not on the event loop's thread. Raises OSError where the interface is not there any more.
        """
        with self._mutex:
            return self._reconcile(
                structs.replace(
                    self._wanted,
                    pushed_addresses=tuple(addresses),
                    pushed_routes=tuple(routes),
                    pushed_mtu=mtu,
                    outer=self._configured_outer | set(outer),
                    pushed_all=takes_all,
                )
            )

    def outer_changed(self, addresses: Iterable[OuterAddress]) -> None:
        """Keep our own packets, which now go to ``addresses``, out of the tunnel; as `apply`."""
        with self._mutex:
            outer = self._configured_outer | set(addresses)
            wanted = structs.replace(self._wanted, outer=outer)
            if self._reconciler.is_moved_by(outer):
                self._reconcile(wanted)
            self._wanted = wanted

    def repair(self) -> Applied:
        """Make again what others have changed of what is wanted; as `apply`.

        Returns what became of that alone, without what was refused before.
        """
        with self._mutex:
            before = self._refused
            known = {each.key for each in before if each.kind != "link"}
            # A bridge may come at any time, and until then nothing is well.
            unmet = {each for each in known if each[0] != "bridge"}
            tables = self._packet_filter.tables
            changed = tables.changed() if self._moved is None else ()
            tables.forget(changed)
            applied = self._reconcile(self._wanted)
            made = [each for each in applied.made if each.key not in known]
            # What is made now because nothing is in its way any more is there from now on.
            has_come = {each.key for each in applied.made} & known
            self._refused = tuple(each for each in before if each.key not in has_come)
            if ("bridge", self._wanted.bridge) in has_come:
                self._log.info("the bridge is there now: joined", bridge=self._wanted.bridge)
            made += [Change("nft table", each) for each in tables.names if each in changed]
            refused = tuple(each for each in applied.refused if each.key not in unmet)
            return Applied(applied.mtu, refused, tuple(made))

    @property
    def nft_tables(self) -> tuple[str, ...]:
        """The names of our tables in nftables. Any thread."""
        return self._packet_filter.tables.names

    def nft_tables_are_changed(self) -> bool:
        """Return whether one is not as we made it. Not on the event loop's thread."""
        with self._mutex:
            return self._moved is None and bool(self._packet_filter.tables.changed())

    @property
    def forwarding(self) -> Forwarding:
        """The host as the device's router."""
        return self._packet_filter.forwarding

    def settings_are_changed(self) -> bool:
        """Return whether others have changed what we set below /proc/sys, or do its work."""
        return bool(self._journal.lost()) or self.forwarding.is_outdated()

    def inside(self, function: Callable[[], Result]) -> Result:
        """Call a function in the device's network namespace. Not on the event loop's thread."""
        return function() if self._moved is None else self._moved.run(function)

    def is_gone(self) -> bool:
        """Return whether the interface is not any more where it was. As `inside`."""
        try:
            self.inside(lambda: socket.if_indextoname(self.index))
        except OSError:
            return True
        return False

    def follow_move(self) -> None:
        """Manage the device in the namespace that it was moved to.

        Raises RuntimeFailure where it was deleted, or is out of reach. As `inside`.
        """
        with self._mutex:
            if tun.is_deleted(self.fds[0]):
                raise RuntimeFailure(tun.deleted(self.name))
            try:
                there = Namespace(self.fds[0])
            except OSError as error:
                raise RuntimeFailure(
                    f"interface {self.name} was moved to another network namespace, which cannot "
                    f"be entered ({error.strerror}); run fastun in that one"
                ) from None
            self._moved = None if there.is_here() else there
            self.index = there.index
            self._packet_filter.moved(self.index)
            settings = self._settings
            if self._moved is not None:
                settings = settings_there(settings)
                self.name_servers.unset()
            self._reconciler = Reconciler(self.index, settings, self._journal)
            with explained(f"interface {self.name}"):
                self.inside(lambda: link_settings.configure(self.index, settings))
            self._reconcile(self._wanted)

    def _reconcile(self, wanted: Wanted, vital: Settings | None = None) -> Applied:
        """Have the host as ``wanted``: the one way to change addresses, routes, MTU and rules.

        Raises RuntimeFailure, which says it, where what is ``vital`` to these settings was refused.
        """
        self._wanted = wanted
        try:
            applied = self.inside(lambda: self._reconciler.apply(wanted))
            if self._moved is None:
                applied = self._packet_filter.forward(wanted, applied, self.index)
            self._refused = applied.refused
            if vital is not None:
                check_vital(applied, vital)
            self._refusals.say(applied.refused)
        finally:
            if self._moved is None:
                self._packet_filter.follow()
        return applied

    def _begin(self, settings: Settings) -> None:
        """Apply what is configured. Raises RuntimeFailure where nothing could work without it."""
        self._reconcile(of_settings(settings), settings)

    def change(self, settings: Settings, outer: Iterable[OuterAddress]) -> Applied:
        """Have what these settings say, in place of the last; as `apply`.

        Raises RuntimeFailure where nothing could work without what is refused; call it again with
        the settings of before then.
        """
        with self._mutex:
            was = self._wanted
            self._settings = settings
            here = settings if self._moved is None else settings_there(settings)
            self._reconciler.follow(here)
            self._configured_outer = frozenset(outer_addresses.of_settings(settings)[0])
            wanted = structs.replace(
                of_settings(settings),
                behind=was.behind,
                pushed_addresses=was.pushed_addresses,
                pushed_routes=was.pushed_routes,
                pushed_mtu=was.pushed_mtu,
                pushed_all=was.pushed_all,
                outer=self._configured_outer | set(outer),
            )
            foreseen = self.inside(lambda: self._reconciler.foresee(wanted))
            check_vital(Applied(wanted.mtu, foreseen), settings)  # before an address is removed
            return self._reconcile(wanted, settings)

    def route_also(self, networks: Collection[Network]) -> None:
        """Have routes to these networks beside those of the settings; as `apply`."""
        with self._mutex:
            self._reconcile(structs.replace(self._wanted, behind=tuple(networks)))

    def apply_dns(self, servers: tuple[str, ...], domains: tuple[str, ...]) -> None:
        """Look up names through the device until it goes, or none are pushed. Blocks for seconds.

        Raises RuntimeFailure for what no resolver should be given.
        """
        if servers and self._moved is None:
            self.name_servers.set(servers, domains)
        else:
            self.name_servers.unset()

    def statistics(self) -> dict[str, int]:
        """Return the kernel's own counters of the interface; empty when it is gone. Any thread.

        The kernel's directions: what it received is what the tun-writer wrote.
        """
        try:
            name = socket.if_indextoname(self.index) if self._moved is None else ""
        except OSError:
            return {}
        return device_counters.read(name)

    def has_frames(self) -> bool:
        """Return whether frames wait in the queue to us; the kernel gives no number. Any thread."""
        poll = select.poll()
        poll.register(self.fds[0], select.POLLIN)
        return any(events & select.POLLIN for _, events in poll.poll(0))

    def _close(self) -> None:
        if self._outlives_us:
            # The journal restores the rest, and would this, too, but where the kernel does not
            # give the maker of an address, or a push has set the MTU.
            with contextlib.suppress(OSError, RuntimeFailure), self._mutex:
                nothing = Wanted(mtu=self._wanted.mtu)
                self.inside(lambda: self._reconciler.apply(nothing))
            with contextlib.suppress(OSError):
                native.device_set_offload(self.fds[0], Offload.NONE)
        for fd in self.fds:
            os.close(fd)
