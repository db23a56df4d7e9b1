"""A host as the router of a device: what may pass, and the settings that let it.

    [forward] --> the nft table (forward_table.py) --> settings below /proc/sys/net, in the journal

The table is there first, so that nothing passes that it would refuse. IPv4 is forwarded where the
interface that a packet comes in by says so, and that is turned on for the device and the interfaces
that lead to the networks alone. IPv6 is so since Linux 6.17; before, it is on for the whole host or
not at all, and then an interface no longer listens to router advertisements unless it is set to.

Turning it on would make this host a router between its other networks as well, for whoever sends it
packets there. So between interfaces where it was off, the table drops what is not the tunnel's,
until another program or an administrator turns forwarding on for all interfaces.
"""

from __future__ import annotations

import contextlib
import socket
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

from msgspec import structs

from fastun.host import link_state
from fastun.host.firewall import forward_ways, nft
from fastun.host.firewall.forward_table import Between, between_of, table
from fastun.host.firewall.nft import NftRefused, table_name
from fastun.host.journal import sysctls
from fastun.host.journal.sysctls import (
    ACCEPT_RA,
    FORCE_FORWARDING_IPV6,
    FORWARD_TABLE,
    FORWARDING_IPV4,
    FORWARDING_IPV6,
    ForwardingSetting,
    Ipv6Forwarding,
)
from fastun.host.netlink.kernel import Kernel, name_of
from fastun.host.wanted import Change, Refusal

if TYPE_CHECKING:
    from collections.abc import Iterable

    from fastun.config.forward import Forward
    from fastun.host.firewall.own_tables import Tables
    from fastun.host.journal.changes import AnyChange
    from fastun.host.journal.journal import Journal
    from fastun.peers.peer import Network

# net/ipv6/route.h: a route that a router advertisement has made.
_BY_ADVERTISEMENT: Final = 0x00040000
_ALL_IPV6: Final = FORWARDING_IPV6.format("all")
_IP_FORWARD: Final = "net.ipv4.ip_forward=1"  # of all interfaces, also those that are yet to come
_IPV6_ROUTES: Final = Path("/proc/thread-self/net/ipv6_route")
_FLAGS, _INTERFACE = 8, 9  # columns

_OF_ALL: Final = (FORWARDING_IPV4.format("all"), _ALL_IPV6)

# A router with thousands of interfaces has forwarding on already; each of others is a setting.
_INTERFACES_MAX: Final = 128


class Forwarding:
    """Of one device. Blocks: not on the event loop's thread; one thread at a time."""

    def __init__(self, interface: str, tables: Tables, journal: Journal) -> None:
        """Prepare; nothing is forwarded before `follow`."""
        self.interface = interface
        self.wanted: Forward | None = None
        self.ways: dict[int, list[str]] = {4: [], 6: []}  # interfaces that lead on, by IP version
        self.networks: frozenset[Network] = frozenset()  # private ones that they lead to
        self._tables = tables
        self._journal = journal
        self._settings: tuple[str, ...] = ()  # that have to be on
        self._elsewhere: frozenset[str] = frozenset()  # those that other gateways turned on
        self._of_all: tuple[str, ...] = ()  # the settings of all interfaces, by IP version

    def follow(self, forward: Forward | None, index: int) -> tuple[list[Refusal], list[Change]]:
        """Have it as wanted; return what is refused, and which settings were made.

        Raises AskedToStop, and OSError where the device is gone.
        """
        self.wanted = forward
        if forward is None:
            return self._end(), []
        name = socket.if_indextoname(index)
        with Kernel(index) as kernel:
            routes = kernel.main_routes()
            ways = forward_ways.interfaces(routes, forward.to, index)
            in_use = {each.place.network.version for each in kernel.own_routes()}
            in_use |= {each.local.version for each in kernel.addresses() if each.index == index}
        found = () if forward.to else forward_ways.private_networks(routes, index)
        self.networks = frozenset(found)
        self.ways = {v: [*map(name_of, ways[v])] if v in in_use else [] for v in ways}
        if not self._of_all:
            self._elsewhere = self._turned_on_elsewhere()
        try:
            self._tables.have(table(forward, self.interface, (name, index), self._between(ways)))
        except NftRefused as error:
            return [Refusal("forwarding", name, str(error))], []
        return self._turn_on({v: [name, *self.ways[v]] if v in in_use else [] for v in ways})

    def is_outdated(self) -> bool:
        """Return whether others have turned forwarding off, or on for all."""
        if not self._settings:
            return False
        is_off = any(sysctls.value_of(each) == "0" for each in self._settings)
        return is_off or self._of_all != _of_all()

    # -- the kernel's settings ------------------------------------------------------------------

    def _turn_on(self, names: dict[int, list[str]]) -> tuple[list[Refusal], list[Change]]:
        made: list[Change] = []
        settings = _needed(names)
        off = [each for each in settings if sysctls.value_of(each) == "0"]
        if len(off) > _INTERFACES_MAX:
            reason = f"{len(off)} interfaces would have to forward (maximum {_INTERFACES_MAX})"
            advice = "list the networks in forward.to, or set net.ipv4.ip_forward to 1"
            return [Refusal("forwarding", self.interface, reason, advice)], []
        for setting in settings:
            try:
                if self._set(setting) and setting in self._settings:
                    made.append(Change("setting", setting.replace("/", ".")))
            except OSError as error:
                place = setting.replace("/", ".")
                reason = f"{place} cannot be set to 1: {error.strerror}"
                of_all = "net.ipv6.conf.all.forwarding=1" if "ipv6" in setting else _IP_FORWARD
                advice = sysctls.where_started(error, of_all) or f"set {of_all}"
                return [Refusal("forwarding", self.interface, reason, advice)], made
        self._settings, self._of_all = tuple(settings), _of_all()
        return [], made

    def _set(self, setting: str) -> bool:
        """Turn a setting on; return whether it was off. Raises OSError."""
        was_off = sysctls.value_of(setting) == "0"
        is_known = setting in self._settings or any(
            each.original(setting) is not None for each in self._journal.made()
        )
        if not was_off and is_known:
            return False
        if setting == _ALL_IPV6 and was_off:
            self._keep_advertised_routes()
        with self._journal.sharing(lambda: self._change(setting)):
            if was_off:
                sysctls.write(setting, "1")
        return was_off

    def _change(self, setting: str) -> ForwardingSetting | Ipv6Forwarding:
        """Return what is to be undone of turning a setting on. Raises OSError."""
        if setting == _ALL_IPV6:
            change = Ipv6Forwarding.now(self.interface)
            return structs.replace(change, before="0") if setting in self._elsewhere else change
        before = "0" if setting in self._elsewhere else sysctls.read(setting)
        family, _, kind = setting.partition("/conf/")
        of_all = f"{family}/conf/all/{kind.rpartition('/')[2]}"
        unless = of_all if sysctls.value_of(of_all) == "0" else ""
        return ForwardingSetting(setting, before, "1", self.interface, unless)

    def _keep_advertised_routes(self) -> None:
        """Have interfaces listen to router advertisements that have a route from one."""
        for name in _advertised():
            setting = ACCEPT_RA.format(name)
            if sysctls.value_of(setting) == "1":
                change = ForwardingSetting(setting, "1", "2", self.interface)
                with contextlib.suppress(OSError), self._journal.sharing(partial(_same, change)):
                    sysctls.write(setting, "2")

    # -- what was off -----------------------------------------------------------------------------

    def _between(self, ways: dict[int, list[int]]) -> tuple[Between, ...]:
        """Return the interfaces between which this host forwards for the tunnel only."""
        made = self._journal.of_all()
        tunnels = link_state.tun_devices()  # some may be other ones of ours
        is_open = dict(zip((4, 6), self._is_open(made), strict=True))
        found = []
        for version, indices in ways.items():
            names = [name for name in map(name_of, indices) if name not in tunnels]
            setting = FORWARDING_IPV4 if version == 4 else FORWARDING_IPV6  # noqa: PLR2004
            were_off = [each for each in names if self._was(setting.format(each), made) == "0"]
            if not is_open[version] and (plain := tuple(filter(nft.is_plain, were_off))):
                found.append(Between(version, plain))
        return tuple(found)

    def _is_open(self, made: Iterable[AnyChange]) -> tuple[bool, bool]:
        """Return whether this host forwards IPv4, and IPv6, whatever we have turned on."""
        ipv4, ipv6 = (self._was(each, made) not in ("", "0") for each in _OF_ALL)
        return ipv4, ipv6

    def _was(self, setting: str, made: Iterable[AnyChange]) -> str:
        """Return what a setting was before gateways of ours changed it, by what they have made."""
        if setting in self._elsewhere:
            return "0"
        before = (each.original(setting) for each in made)
        return next((each for each in before if each is not None), sysctls.value_of(setting))

    def _turned_on_elsewhere(self) -> frozenset[str]:
        """Return the settings that gateways with another state directory have turned on.

        Their tables say so: they keep apart the interfaces where forwarding was off.
        """
        found: list[str] = []
        own = table_name(self.interface, FORWARD_TABLE)
        with contextlib.suppress(NftRefused):
            for name in nft.names():
                if name.endswith(f"_{FORWARD_TABLE}") and name != own:
                    for version, names in between_of(nft.items_of(name)):
                        found += _turned_on(version, names)
        return frozenset(found)

    def _end(self) -> list[Refusal]:
        """Forward no more."""
        if not self._of_all:
            return []
        try:
            self._tables.remove(table_name(self.interface, FORWARD_TABLE))
        except NftRefused as error:
            return [Refusal("forwarding", self.interface, str(error))]
        self._journal.undo_those(_is_forwarding)
        self._settings = self._of_all = ()
        return []


def _needed(names: dict[int, list[str]]) -> list[str]:
    """Return the settings that have to be on, by the interfaces of each IP version."""
    needed = [FORWARDING_IPV4.format(each) for each in names[4]]
    if names[6] and sysctls.exists(_ALL_IPV6):
        if not sysctls.exists(FORCE_FORWARDING_IPV6.format("all")):
            needed.append(_ALL_IPV6)
        elif sysctls.value_of(_ALL_IPV6) == "0":
            needed += [FORCE_FORWARDING_IPV6.format(each) for each in names[6]]
    return needed


def _turned_on(version: int, names: Iterable[str]) -> list[str]:
    """Return what a gateway has turned on of these interfaces, and so of all."""
    if version == 4:  # noqa: PLR2004
        return [FORWARDING_IPV4.format(each) for each in names]
    if sysctls.exists(FORCE_FORWARDING_IPV6.format("all")):
        return [FORCE_FORWARDING_IPV6.format(each) for each in names]
    return [_ALL_IPV6, *(FORWARDING_IPV6.format(each) for each in names)]


def _of_all() -> tuple[str, ...]:
    return tuple(map(sysctls.value_of, _OF_ALL))


def _same(change: ForwardingSetting) -> ForwardingSetting:
    return change


def _is_forwarding(change: AnyChange) -> bool:
    return isinstance(change, (ForwardingSetting, Ipv6Forwarding))


def _advertised() -> set[str]:
    """Return the interfaces that have a route from a router advertisement."""
    with contextlib.suppress(OSError, ValueError, IndexError):
        lines = _IPV6_ROUTES.read_text(encoding="ascii").splitlines()
        columns = [line.split() for line in lines]
        return {each[_INTERFACE] for each in columns if int(each[_FLAGS], 16) & _BY_ADVERTISEMENT}
    return set()
